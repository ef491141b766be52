//! Sequential writes of 16 KiB blocks, followed by a sync. Writes beside kept spans.

mod support;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flatspan::mapping_cache::{Access, CacheOptions, CopyMethod, MappingCache, Preallocation};
use flatspan::span::Group;
use support::{compare, name};

const BLOCK_BYTES: usize = 16 << 10;
/// A multiple of the block, so that both sides write the same pieces.
const FILE_BYTES: u64 = 16 << 20;
const FILES: usize = 16;

#[expect(unsafe_code, reason = "the files are in a directory of this process")]
fn group(root: &Path, copy_path: CopyMethod) -> Group {
    let options = CacheOptions::default()
        .budget_bytes(1 << 30)
        .copy_method(copy_path);
    let cache = MappingCache::new(options).expect("options are valid");
    let builder = Group::builder(root)
        .cache(&cache)
        .access(Access::ReadWrite)
        .create(true)
        .preallocation(Preallocation::Full);
    let builder = (0..FILES).fold(builder, |builder, index| {
        builder.file(name(index), FILE_BYTES)
    });
    // SAFETY: no other process knows the directory.
    let builder = unsafe { builder.assume_exclusive() };
    builder.open().expect("group opens")
}

fn write_group(group: &Group) {
    let block = vec![0x5A; BLOCK_BYTES];
    let mut offset = 0;
    while offset < group.len() {
        offset += group.write_at(offset, &block).expect("disk has space") as u64;
    }
    group.sync_all().expect("the disk works");
}

/// Writes the same blocks into mapped memory.
fn write_spans(group: &Group) {
    let block = vec![0x5A; BLOCK_BYTES];
    let mut offset = 0;
    while offset < group.len() {
        let end = offset + BLOCK_BYTES as u64;
        let mut span = group.span_mut(offset..end).expect("range is free");
        span.as_mut_slice()
            .expect("block is within one window")
            .copy_from_slice(&block);
        offset = end;
    }
    group.sync_all().expect("the disk works");
}

fn write_plain(files: &[File]) {
    let block = vec![0x5A; BLOCK_BYTES];
    for file in files {
        let mut offset = 0;
        while offset < FILE_BYTES {
            let left = usize::try_from(FILE_BYTES - offset).expect("a small file");
            let part = left.min(BLOCK_BYTES);
            file.write_all_at(&block[..part], offset)
                .expect("disk has space");
            offset += part as u64;
        }
    }
    for file in files {
        file.sync_data().expect("the disk works");
    }
}

fn plain(root: &Path) -> Vec<File> {
    let files = (0..FILES).map(|index| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = options.open(root.join(name(index))).expect("a file");
        file.set_len(FILE_BYTES).expect("a sparse file");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES)
            .expect("disk has space");
        file
    });
    files.collect()
}

fn write(criterion: &mut Criterion) {
    let dirs = [(); 3].map(|()| tempfile::TempDir::with_prefix("flatspan-bench-").expect("a dir"));
    let positioned = group(dirs[0].path(), CopyMethod::Auto);
    let mapped = group(dirs[1].path(), CopyMethod::Mapped);
    let plain = plain(dirs[2].path());

    let mut bench = criterion.benchmark_group("write blocks of 16 KiB, then sync");
    bench.sample_size(10);
    bench.throughput(Throughput::Bytes(positioned.len()));
    bench.bench_function("the group", |bencher| {
        bencher.iter(|| write_group(&positioned));
    });
    bench.bench_function("the group, through mappings", |bencher| {
        bencher.iter(|| write_group(&mapped));
    });
    bench.bench_function("pwrite, then fdatasync", |bencher| {
        bencher.iter(|| write_plain(&plain));
    });
    bench.finish();

    compare(
        "write blocks of 16 KiB into spans, then sync, against pwrite and fdatasync",
        9,
        || write_spans(&mapped),
        || write_plain(&plain),
    );
    for (what, group) in [("", &positioned), (" through mappings", &mapped)] {
        compare(
            &format!("write blocks of 16 KiB{what}, then sync, against pwrite and fdatasync"),
            9,
            || write_group(group),
            || write_plain(&plain),
        );
    }
}

/// A write costs the same beside any number of spans, apart from a logarithm.
fn beside_spans(criterion: &mut Criterion) {
    const SPAN_BYTES: u64 = 4096;
    const MOST: u64 = 100_000;
    let dir = tempfile::TempDir::with_prefix("flatspan-bench-").expect("a dir");
    let len = MOST * SPAN_BYTES + BLOCK_BYTES as u64;
    let file = File::create(dir.path().join(name(0))).expect("a file");
    file.set_len(len).expect("a sparse file");
    let options = CacheOptions::default().budget_bytes(1 << 30);
    let cache = MappingCache::new(options).expect("options are valid");
    let builder = Group::builder(dir.path()).cache(&cache);
    let builder = builder.access(Access::ReadWrite).file(name(0), len);
    let group = builder.open().expect("group opens");
    let block = vec![0x5A; BLOCK_BYTES];
    let end = len - BLOCK_BYTES as u64;

    let mut bench = criterion.benchmark_group("write 16 KiB beside kept spans");
    let mut kept = Vec::new();
    for count in [0, 1000, MOST] {
        for index in kept.len() as u64..count {
            // Neighbours overlap.
            let range = index * SPAN_BYTES..(index + 2) * SPAN_BYTES;
            kept.push(group.span(range.start..range.end.min(end)).expect("a span"));
        }
        bench.bench_function(format!("{count} spans"), |bencher| {
            bencher.iter(|| group.write_all_at(end, &block).expect("disk has space"));
        });
    }
    bench.finish();
}

criterion_group!(benches, write, beside_spans);
criterion_main!(benches);
