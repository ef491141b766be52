//! Hashing of all pieces of a group, from the page cache and from the disk.

#![expect(
    unsafe_code,
    reason = "hashing in place requires that no other process writes the files"
)]

mod support;

use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flatspan::mapping_cache::{CacheOptions, MappingCache};
use flatspan::span::{Group, HashOptions, PieceHash, Pieces};
use rayon::prelude::*;
use sha1::{Digest as _, Sha1};
use support::{Files, compare, name};

const PIECE_BYTES: u64 = 256 << 10;

fn group(files: &Files) -> Group {
    let options = CacheOptions::default().budget_bytes(64 << 20);
    let cache = MappingCache::new(options).expect("options are valid");
    let builder = Group::builder(files.path()).cache(&cache);
    let names = (0..files.count).map(name);
    let builder = names.fold(builder, |builder, name| {
        builder.file(name, files.file_bytes)
    });
    builder.open().expect("group opens")
}

fn hash_group(group: &Group, in_place: bool) {
    let mut pieces = Pieces::new(group, PIECE_BYTES).expect("pieces of some length");
    if in_place {
        // SAFETY: the files are in a directory of this process, and nothing writes them during the
        // benchmark.
        pieces = unsafe { pieces.hash_in_place() };
    }
    let outcomes = pieces.hash_all(&HashOptions::new()).expect("enough memory");
    let hashed = |outcome: &PieceHash| matches!(outcome, PieceHash::Hashed(_));
    assert!(outcomes.iter().all(hashed), "all pieces are hashed");
}

/// Hashes the same bytes from memory on the same threads: the limit of the `sha1` crate.
fn hash_memory(memory: &[u8]) {
    memory.par_chunks(PIECE_BYTES as usize).for_each(|piece| {
        black_box(Sha1::digest(piece));
    });
}

/// Reads the files sequentially on one thread, as `cat` does.
fn read_all(files: &[File]) {
    let mut buf = vec![0; 1 << 20];
    for file in files {
        let mut file = file;
        std::io::Seek::rewind(&mut file).expect("files can seek");
        while file.read(&mut buf).expect("range is inside the group") > 0 {}
    }
}

fn drop_cached(files: &[File]) {
    for file in files {
        file.sync_all().expect("sync succeeds");
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
    }
}

fn hash(criterion: &mut Criterion) {
    let files = Files::new((5 << 20) + 4321);
    let group = group(&files);
    let open = files.open_all();
    read_all(&open);
    let mut memory = vec![0; usize::try_from(files.len()).expect("length fits in usize")];
    group
        .read_exact_at(0, &mut memory)
        .expect("range is inside the group");

    let mut bench = criterion.benchmark_group("hash pieces of 256 KiB, page cache");
    bench.sample_size(10);
    bench.throughput(Throughput::Bytes(files.len()));
    bench.bench_function("the group, by kernel copies", |bencher| {
        bencher.iter(|| hash_group(&group, false));
    });
    bench.bench_function("the group, in place", |bencher| {
        bencher.iter(|| hash_group(&group, true));
    });
    bench.bench_function("in-memory SHA-1 of the sha1 crate", |bencher| {
        bencher.iter(|| hash_memory(&memory));
    });
    bench.finish();

    for (what, in_place) in [("through the safe API", false), ("in place", true)] {
        compare(
            &format!("hash pieces {what}, page cache, against in-memory SHA-1 of the sha1 crate"),
            9,
            || hash_group(&group, in_place),
            || hash_memory(&memory),
        );
    }
    drop(memory);

    // Both sides include dropping the pages, which is the same work.
    let cold = |work: &dyn Fn()| {
        drop_cached(&open);
        let begun = std::time::Instant::now();
        work();
        begun.elapsed()
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        times[0].push(cold(&|| hash_group(&group, false)));
        times[1].push(cold(&|| read_all(&open)));
    }
    let [ours, theirs] = times.map(support::median);
    println!(
        "RATIO hash pieces, cold, against reading the same files in order: {:.2} (ours {ours:.1?}, theirs {theirs:.1?}, 5 rounds)",
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

criterion_group!(benches, hash);
criterion_main!(benches);
