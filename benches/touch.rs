//! Random 16 KiB ranges in mapped memory: one byte of each page, and the sum of all.
//!
//! Beside them the least a program can do: whole files mapped one by one, found by binary search.

#![expect(unsafe_code, reason = "reads of mapped memory by raw address")]

mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use flatspan::mapping_cache::{
    Access, CacheOptions, CachedFile, FileOptions, Location, MappingCache,
};
use flatspan::span::Layout;
use memmap2::{MmapOptions, MmapRaw};
use support::{Files, compare, name, random};

const REQUEST_BYTES: u64 = 16 << 10;
const WINDOW_BYTES: u64 = 4 << 20;
const REQUESTS: usize = 200_000;

/// What is done with the bytes of a request.
#[derive(Clone, Copy)]
enum Look {
    OneBytePerPage,
    Sum,
}

/// Looks at mapped bytes.
///
/// # Safety
///
/// The range is mapped, and backed by a file that nobody cuts.
unsafe fn look(start: *const u8, len: usize, how: Look) -> u64 {
    // SAFETY: the caller vouches for the range; `step_by` stays inside, words are read unaligned.
    unsafe {
        match how {
            Look::OneBytePerPage => (0..len)
                .step_by(4096)
                .map(|at| u64::from(start.add(at).read_volatile()))
                .sum(),
            Look::Sum => (0..len / 8)
                .map(|word| start.add(word * 8).cast::<u64>().read_unaligned())
                .fold(0, u64::wrapping_add),
        }
    }
}

fn through_the_cache(layout: &Layout, files: &[CachedFile], state: &mut u64, how: Look) -> u64 {
    let offset = random(state) % (layout.len() - REQUEST_BYTES);
    let mut sum = 0u64;
    let extents = layout.extents(offset..offset + REQUEST_BYTES);
    for extent in extents.expect("inside the group") {
        let (mut at, end) = (extent.offset, extent.offset + extent.len);
        while at < end {
            let (window, within) = (at / WINDOW_BYTES, at % WINDOW_BYTES);
            let len = (end - at).min(WINDOW_BYTES - within);
            let pin = files[extent.entry]
                .pin(window, Access::ReadOnly)
                .expect("it is mapped");
            // SAFETY: inside the pinned window; the files are in a directory of this process.
            sum = sum.wrapping_add(unsafe {
                look(pin.as_ptr().add(within as usize), len as usize, how)
            });
            at += len;
        }
    }
    sum
}

fn through_whole_mappings(ends: &[u64], maps: &[MmapRaw], state: &mut u64, how: Look) -> u64 {
    let len = ends.last().expect("there are files");
    let mut offset = random(state) % (len - REQUEST_BYTES);
    let end = offset + REQUEST_BYTES;
    let mut sum = 0u64;
    while offset < end {
        let file = ends.partition_point(|end| *end <= offset);
        let start = file.checked_sub(1).map_or(0, |before| ends[before]);
        let part = end.min(ends[file]) - offset;
        // SAFETY: inside the mapping of the file; the files are in a directory of this process.
        sum = sum.wrapping_add(unsafe {
            look(
                maps[file].as_ptr().add((offset - start) as usize),
                part as usize,
                how,
            )
        });
        offset += part;
    }
    sum
}

fn touch(criterion: &mut Criterion) {
    let files = Files::new((16 << 20) + 4321);
    let cache = MappingCache::new(
        CacheOptions::default()
            .window_bytes(WINDOW_BYTES as usize)
            .budget_bytes(4 * files.len()),
    )
    .expect("these options work");
    let layout = Layout::new((0..files.count).map(|_| files.file_bytes)).expect("a short sum");
    let cached: Vec<CachedFile> = (0..files.count)
        .map(|index| {
            let location = Location::beneath(files.path().into(), name(index).into());
            cache.file(
                location.expect("a plain name"),
                files.file_bytes,
                FileOptions::default(),
            )
        })
        .collect();
    let ends: Vec<u64> = (1..=files.count as u64)
        .map(|count| count * files.file_bytes)
        .collect();
    let maps: Vec<MmapRaw> = files
        .open_all()
        .iter()
        .map(|file| {
            let map = MmapOptions::new().map_raw_read_only(file);
            map.expect("it can be mapped")
        })
        .collect();

    for (what, how) in [
        ("one byte a page", Look::OneBytePerPage),
        ("summing", Look::Sum),
    ] {
        let mut bench = criterion.benchmark_group(format!("random 16 KiB, all mapped, {what}"));
        let (mut here, mut there) = (9, 9);
        // Mapped and populated on both sides.
        for _ in 0..REQUESTS {
            black_box(through_the_cache(
                &layout,
                &cached,
                &mut here,
                Look::OneBytePerPage,
            ));
            black_box(through_whole_mappings(
                &ends,
                &maps,
                &mut there,
                Look::OneBytePerPage,
            ));
        }
        bench.bench_function("pinned windows", |bencher| {
            bencher.iter(|| through_the_cache(&layout, &cached, &mut here, how));
        });
        bench.bench_function("whole files mapped, binary search", |bencher| {
            bencher.iter(|| through_whole_mappings(&ends, &maps, &mut there, how));
        });
        bench.finish();
        let requests = if matches!(how, Look::Sum) {
            REQUESTS / 10
        } else {
            REQUESTS
        };
        compare(
            &format!(
                "random 16 KiB, all mapped, {what}, {requests} requests, against whole-file mappings"
            ),
            9,
            || {
                for _ in 0..requests {
                    black_box(through_the_cache(&layout, &cached, &mut here, how));
                }
            },
            || {
                for _ in 0..requests {
                    black_box(through_whole_mappings(&ends, &maps, &mut there, how));
                }
            },
        );
    }
}

criterion_group!(benches, touch);
criterion_main!(benches);
