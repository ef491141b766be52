//! Random ranges of 16 KiB in mapped memory: one byte of each page, and the sum of all bytes.
//!
//! The baseline is the minimum that a program can do: whole files mapped individually, found by
//! binary search.

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

/// Access to the bytes of a request.
#[derive(Clone, Copy)]
enum Look {
    OneBytePerPage,
    Sum,
}

/// Reads mapped bytes.
///
/// # Safety
///
/// The range must be mapped and backed by a file that nothing truncates.
unsafe fn look(start: *const u8, len: usize, how: Look) -> u64 {
    // SAFETY: the caller guarantees that the range is valid, and `at` is inside.
    let pointer = |at: usize| unsafe { start.add(at) };
    match how {
        Look::OneBytePerPage => (0..len)
            .step_by(4096)
            // SAFETY: the byte is inside the valid range.
            .map(|at| u64::from(unsafe { pointer(at).read_volatile() }))
            .sum(),
        Look::Sum => (0..len / 8)
            // SAFETY: the word is inside the valid range, and read unaligned.
            .map(|word| unsafe { pointer(word * 8).cast::<u64>().read_unaligned() })
            .fold(0, u64::wrapping_add),
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
                .expect("window is pinned");
            // SAFETY: the offset is inside the pinned window.
            let start = unsafe { pin.as_ptr().add(within as usize) };
            // SAFETY: the range is inside the pinned window; the files are in a directory of this
            // process.
            sum = sum.wrapping_add(unsafe { look(start, len as usize, how) });
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
        // SAFETY: the offset is inside the mapping of the file.
        let address = unsafe { maps[file].as_ptr().add((offset - start) as usize) };
        // SAFETY: the range is inside the mapping of the file; the files are in a directory of this
        // process.
        sum = sum.wrapping_add(unsafe { look(address, part as usize, how) });
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
    .expect("options are valid");
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
            map.expect("file can be mapped")
        })
        .collect();

    for (what, how) in [
        ("one byte a page", Look::OneBytePerPage),
        ("summing", Look::Sum),
    ] {
        let mut bench = criterion.benchmark_group(format!("random 16 KiB, all mapped, {what}"));
        let (mut here, mut there) = (9, 9);
        // Maps and populates both sides.
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
