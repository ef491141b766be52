//! Copies of 16 KiB from random offsets of a group.

mod support;

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use flatspan::mapping_cache::{CacheOptions, CopyMethod, MappingCache};
use flatspan::span::{Group, GroupBuilder};
use support::{Files, compare, name, random};

const REQUEST_BYTES: usize = 16 << 10;
const REQUESTS: usize = 20_000;

fn builder(files: &Files, options: CacheOptions) -> GroupBuilder {
    let cache = MappingCache::new(options).expect("options are valid");
    let builder = Group::builder(files.path()).cache(&cache);
    let names = (0..files.count).map(name);
    names.fold(builder, |builder, name| {
        builder.file(name, files.file_bytes)
    })
}

fn group(files: &Files, options: CacheOptions) -> Group {
    builder(files, options).open().expect("group opens")
}

#[expect(unsafe_code, reason = "the files are in a directory of this process")]
fn exclusive_group(files: &Files, options: CacheOptions) -> Group {
    // SAFETY: no other process knows the directory, and this process only reads.
    let builder = unsafe { builder(files, options).assume_exclusive() };
    builder.open().expect("group opens")
}

fn read_group(group: &Group, state: &mut u64, buf: &mut [u8]) {
    let offset = random(state) % (group.len() - buf.len() as u64);
    group
        .read_exact_at(offset, buf)
        .expect("range is inside the group");
    black_box(&buf);
}

/// Reads as a client without a library does: open descriptors and a division.
fn read_plain(open: &[File], file_bytes: u64, state: &mut u64, buf: &mut [u8]) {
    let len = file_bytes * open.len() as u64;
    let mut offset = random(state) % (len - buf.len() as u64);
    let mut done = 0;
    while done < buf.len() {
        let (index, within) = (offset / file_bytes, offset % file_bytes);
        let left = usize::try_from(file_bytes - within).unwrap_or(usize::MAX);
        let part = left.min(buf.len() - done);
        let file = &open[usize::try_from(index).expect("an index")];
        file.read_exact_at(&mut buf[done..done + part], within)
            .expect("range is inside the group");
        done += part;
        offset += part as u64;
    }
    black_box(&buf);
}

fn copy(criterion: &mut Criterion) {
    let files = Files::new((16 << 20) + 4321);
    let open = files.open_all();
    let small = files.len() / 64;
    let budget = |bytes: u64| {
        CacheOptions::default()
            .window_bytes(1 << 20)
            .budget_bytes(bytes.max(1 << 20))
    };
    let groups = [
        ("budget of 1/64", group(&files, budget(small))),
        ("budget of 1/64, files of this process only", {
            exclusive_group(&files, budget(small))
        }),
        ("budget of 1/64, mapping for each copy", {
            group(&files, budget(small).copy_method(CopyMethod::Mapped))
        }),
        ("all mapped, through the mappings", {
            let all = budget(2 * files.len()).copy_method(CopyMethod::Mapped);
            group(&files, all)
        }),
    ];
    let mut buf = vec![0; REQUEST_BYTES];
    // Everything is in the page cache, and mapped where the case requires it.
    for (_, group) in &groups {
        let mut state = 11;
        for _ in 0..REQUESTS {
            read_group(group, &mut state, &mut buf);
        }
    }

    let mut bench = criterion.benchmark_group("copy 16 KiB at random");
    let mut state = 3;
    bench.bench_function("pread on open descriptors", |bencher| {
        bencher.iter_batched_ref(
            || (),
            |()| read_plain(&open, files.file_bytes, &mut state, &mut buf),
            BatchSize::SmallInput,
        );
    });
    for (what, group) in &groups {
        bench.bench_function(*what, |bencher| {
            bencher.iter(|| read_group(group, &mut state, &mut buf));
        });
    }
    bench.finish();

    for ((what, group), request) in groups
        .iter()
        .flat_map(|group| [(group, REQUEST_BYTES), (group, 64)])
    {
        let (mut here, mut there) = (5, 5);
        let mut buf = vec![0; request];
        let mut other = vec![0; request];
        compare(
            &format!("copy {request} bytes at random, {what}, against pread on open descriptors"),
            9,
            || (0..REQUESTS).for_each(|_| read_group(group, &mut here, &mut buf)),
            || {
                for _ in 0..REQUESTS {
                    read_plain(&open, files.file_bytes, &mut there, &mut other);
                }
            },
        );
    }
}

criterion_group!(benches, copy);
criterion_main!(benches);
