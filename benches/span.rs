//! Spans: creating and dropping on one thread and on two, random accesses, sending.

mod support;

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use flatspan::mapping_cache::{Access, CacheOptions, MappingCache, Preallocation};
use flatspan::span::Group;
use memmap2::Mmap;
use support::{Files, compare, median, name, random};

const REQUEST_BYTES: u64 = 16 << 10;
const REQUESTS: u64 = 200_000;

#[expect(unsafe_code, reason = "the files are in a directory of this process")]
fn group(files: &Files) -> Group {
    let cache = MappingCache::new(CacheOptions::default().budget_bytes(4 * files.len()));
    let cache = cache.expect("options are valid");
    let mut builder = Group::builder(files.path()).cache(&cache);
    for index in 0..files.count {
        builder = builder.file(name(index), files.file_bytes);
    }
    // SAFETY: no other process knows the directory, and this process only reads.
    let builder = unsafe { builder.assume_exclusive() };
    builder.open().expect("a group")
}

fn offset(group: &Group, state: &mut u64) -> u64 {
    random(state) % (group.len() - REQUEST_BYTES)
}

fn touch(slice: &[u8]) -> u64 {
    slice
        .iter()
        .step_by(4096)
        .map(|byte| u64::from(*byte))
        .sum()
}

fn borrow_many(group: &Group, seed: u64, times: u64) {
    let mut state = seed;
    for _ in 0..times {
        let at = offset(group, &mut state);
        black_box(
            group
                .span(at..at + REQUEST_BYTES)
                .expect("range is inside the group")
                .len(),
        );
    }
}

fn on_two_threads(group: &Group, times: u64) -> Duration {
    let start = Barrier::new(3);
    std::thread::scope(|scope| {
        let threads = [3, 5].map(|seed| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                borrow_many(group, seed, times);
            })
        });
        start.wait();
        let begun = Instant::now();
        for thread in threads {
            thread.join().expect("borrowing does not panic");
        }
        begun.elapsed()
    })
}

fn spans(criterion: &mut Criterion) {
    let files = Files::new((16 << 20) + 4321);
    let group = group(&files);
    let mut state = 1;
    for at in (0..group.len() - REQUEST_BYTES).step_by(4096) {
        black_box(
            group
                .span(at..at + 1)
                .expect("range is inside the group")
                .as_slice(),
        );
    }
    let mut bench = criterion.benchmark_group("span");
    bench.bench_function("borrow and give back, random 16 KiB", |bencher| {
        bencher.iter(|| {
            let at = offset(&group, &mut state);
            black_box(
                group
                    .span(at..at + REQUEST_BYTES)
                    .expect("range is inside the group")
                    .len(),
            )
        });
    });
    bench.finish();

    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..21 {
        let begun = Instant::now();
        borrow_many(&group, 7, REQUESTS);
        times[0].push(begun.elapsed());
        times[1].push(on_two_threads(&group, REQUESTS));
    }
    let [one, two] = times.map(median);
    println!(
        "RATIO span and drop, two threads against one: {:.2} times the throughput ({:.1} ns a span, then {:.1})",
        2.0 * one.as_secs_f64() / two.as_secs_f64(),
        one.as_nanos() as f64 / REQUESTS as f64,
        two.as_nanos() as f64 / REQUESTS as f64,
    );

    let maps: Vec<Mmap> = files.open_all().iter().map(map).collect();
    let ends: Vec<u64> = (1..=files.count as u64)
        .map(|count| count * files.file_bytes)
        .collect();
    let (mut here, mut there) = (9, 9);
    compare(
        &format!(
            "span, one byte a page, {REQUESTS} random 16 KiB requests, against whole-file mappings"
        ),
        9,
        || {
            for _ in 0..REQUESTS {
                let at = offset(&group, &mut here);
                let span = group
                    .span(at..at + REQUEST_BYTES)
                    .expect("range is inside the group");
                black_box(match span.as_slice() {
                    Some(slice) => touch(slice),
                    None => span.slices().map(touch).sum(),
                });
            }
        },
        || {
            for _ in 0..REQUESTS {
                let mut at = offset(&group, &mut there);
                let end = at + REQUEST_BYTES;
                let mut sum = 0;
                while at < end {
                    let file = ends.partition_point(|end| *end <= at);
                    let start = file.checked_sub(1).map_or(0, |before| ends[before]);
                    let part = end.min(ends[file]) - at;
                    let from = (at - start) as usize;
                    sum += touch(&maps[file][from..from + part as usize]);
                    at += part;
                }
                black_box(sum);
            }
        },
    );
}

#[expect(unsafe_code, reason = "the files are in a directory of this process")]
fn map(file: &std::fs::File) -> Mmap {
    // SAFETY: nothing changes or truncates the files during the benchmark.
    unsafe { Mmap::map(file).expect("file can be mapped") }
}

/// Returns a socket whose peer reads and discards.
fn sink() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a peer");
        let mut buf = vec![0; 1 << 20];
        while socket.read(&mut buf).is_ok_and(|read| read > 0) {}
    });
    TcpStream::connect(address).expect("peer listens")
}

/// Returns a socket whose peer sends endlessly.
fn source() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a peer");
        let buf = vec![7; 256 << 10];
        while socket.write_all(&buf).is_ok() {}
    });
    TcpStream::connect(address).expect("peer listens")
}

fn transfers(_: &mut Criterion) {
    let files = Files::new(1 << 30);
    let group = group(&files);
    let map = map(&files.open_all()[0]);
    let (ours, mut theirs) = (sink(), sink());
    let steps = || (0..files.file_bytes / REQUEST_BYTES).map(|step| step * REQUEST_BYTES);
    compare(
        "send in 16 KiB spans, against write(2) from one plain mapping",
        7,
        || {
            for at in steps() {
                let span = group
                    .span(at..at + REQUEST_BYTES)
                    .expect("range is inside the group");
                span.write_all_to(&ours).expect("the peer reads");
            }
        },
        || {
            for at in steps() {
                let from = at as usize;
                theirs
                    .write_all(&map[from..from + REQUEST_BYTES as usize])
                    .expect("the peer reads");
            }
        },
    );
    drop(group);

    let writable = Group::builder(files.path())
        .access(Access::ReadWrite)
        .create(true)
        .preallocation(Preallocation::Full)
        .file("received", files.file_bytes)
        .open()
        .expect("a group");
    let (ours, mut theirs) = (source(), source());
    let mut buf = vec![0; REQUEST_BYTES as usize];
    // Storage is allocated, and the pages are cached on both sides.
    writable
        .write_all_at(0, &vec![1; files.file_bytes as usize])
        .expect("write succeeds");
    let plain = std::fs::OpenOptions::new()
        .write(true)
        .open(files.path().join("received"))
        .expect("file was created");
    compare(
        "receive 16 KiB into spans, against read(2) and pwrite(2)",
        5,
        || {
            for at in steps() {
                let mut span = writable
                    .span_mut(at..at + REQUEST_BYTES)
                    .expect("range is free");
                span.read_exact_from(&ours).expect("the peer sends");
            }
        },
        || {
            use std::os::unix::fs::FileExt as _;
            for at in steps() {
                theirs.read_exact(&mut buf).expect("the peer sends");
                plain.write_all_at(&buf, at).expect("write succeeds");
            }
        },
    );
}

criterion_group!(benches, spans, transfers);
criterion_main!(benches);
