//! Readers, writers, flushers and evictors on overlapping ranges, from several threads, compared
//! with a model.
//!
//! The model is one number for each record of the group. A thread with a writing span sets the
//! numbers and the bytes. A thread with a reading span checks that they agree. A range lock that is
//! granted twice causes a difference.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use flatspan::{
    mapping_cache::{Access, CacheOptions, FlushMode, MappingCache, MappingError},
    span::{Group, GroupError},
};

use crate::{content::Rng, support};

const RECORD_BYTES: usize = 512;
const FILES: u64 = 5;
/// Not a multiple of a window.
const FILE_BYTES: u64 = 23 * RECORD_BYTES as u64;
const RECORDS: u64 = FILES * FILE_BYTES / RECORD_BYTES as u64;

/// The total number of operations; `FLATSPAN_STRESS_OPS` overrides it.
fn operations() -> u64 {
    support::campaign::count("FLATSPAN_STRESS_OPS", 1_000_000)
}

#[derive(Debug, Default)]
struct Counts {
    reads: AtomicU64,
    writes: AtomicU64,
    busy: AtomicU64,
    mixed: AtomicU64,
}

struct World {
    group: Arc<Group>,
    model: Vec<AtomicU64>,
    counts: Counts,
}

impl World {
    fn new(root: &std::path::Path) -> Self {
        // At most two windows for each thread.
        let options = CacheOptions::default()
            .window_bytes(4096)
            .budget_bytes(16 * 4096);
        let cache = MappingCache::new(options).expect("a cache");
        let mut builder = Group::builder(root)
            .cache(&cache)
            .access(Access::ReadWrite)
            .create(true);
        for file in 0..FILES {
            builder = builder.file(format!("{file}"), FILE_BYTES);
        }
        #[expect(unsafe_code, reason = "the directory is this test's own")]
        // SAFETY: no other code knows the directory.
        let builder = unsafe { builder.assume_exclusive() };
        let group = builder.open().expect("a group");
        let zeros = vec![0; group.len() as usize];
        group.write_all_at(0, &zeros).expect("the buffer has room");
        Self {
            group: Arc::new(group),
            model: (0..RECORDS).map(|_| AtomicU64::new(0)).collect(),
            counts: Counts::default(),
        }
    }

    fn one(&self, rng: &mut Rng, number: u64) {
        let first = rng.below(RECORDS);
        let count = 1 + rng.below(12.min(RECORDS - first));
        let record_bytes = RECORD_BYTES as u64;
        let range = first * record_bytes..(first + count) * record_bytes;
        let records = first as usize..(first + count) as usize;
        match rng.below(100) {
            0..40 => self.read_slices(range, records),
            40..55 => self.read_copy(range, records),
            55..80 => self.write_slices(range, records, number),
            80..95 => self.write_copy(range, records, number),
            95..99 => {
                let _ = self.group.evict(range).expect("a range");
            }
            _ => self.group.flush(range, FlushMode::Async).expect("a flush"),
        }
    }

    fn agrees(&self, records: std::ops::Range<usize>, bytes: &[u8]) {
        for (record, bytes) in records.zip(bytes.chunks(RECORD_BYTES)) {
            let expected = self.model[record].load(Ordering::Relaxed).to_le_bytes();
            if bytes.chunks(8).any(|word| word != expected) {
                self.counts.mixed.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
    }

    fn read_slices(&self, range: std::ops::Range<u64>, records: std::ops::Range<usize>) {
        let span = match self.group.owned_span(range) {
            Err(error) => return self.busy(error),
            Ok(span) => span,
        };
        let mut bytes = Vec::with_capacity(span.len());
        for slice in span.slices() {
            bytes.extend_from_slice(slice);
        }
        self.agrees(records, &bytes);
        span.check_intact().expect("no file is truncated");
    }

    /// Copies under a range lock of this test, because the model is not protected by the copy's own
    /// lock.
    fn read_copy(&self, range: std::ops::Range<u64>, records: std::ops::Range<usize>) {
        let span = match self.group.span(range) {
            Err(error) => return self.busy(error),
            Ok(span) => span,
        };
        let mut bytes = vec![0; span.len()];
        self.group
            .read_exact_at(span.range().start, &mut bytes)
            .expect("shared with ourselves");
        self.agrees(records, &bytes);
    }

    fn write_slices(
        &self,
        range: std::ops::Range<u64>,
        records: std::ops::Range<usize>,
        number: u64,
    ) {
        let mut span = match self.group.owned_span_mut(range) {
            Err(error) => return self.busy(error),
            Ok(span) => span,
        };
        for slice in span.slices_mut() {
            for word in slice.chunks_mut(8) {
                word.copy_from_slice(&number.to_le_bytes());
            }
        }
        self.wrote(records, number);
    }

    fn write_copy(
        &self,
        range: std::ops::Range<u64>,
        records: std::ops::Range<usize>,
        number: u64,
    ) {
        let mut span = match self.group.span_mut(range) {
            Err(error) => return self.busy(error),
            Ok(span) => span,
        };
        let bytes = number.to_le_bytes().repeat(span.len() / 8);
        span.write_at(0, &bytes).expect("the buffer has room");
        self.wrote(records, number);
    }

    fn wrote(&self, records: std::ops::Range<usize>, number: u64) {
        for record in records {
            self.model[record].store(number, Ordering::Relaxed);
        }
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "callers pass temporaries")]
    fn busy(&self, error: GroupError) {
        let is_busy = matches!(error, GroupError::File(MappingError::RangeLocked { .. }));
        assert!(is_busy, "{error}");
        self.counts.busy.fetch_add(1, Ordering::Relaxed);
    }
}

fn run(threads: u64, operations: u64) -> Counts {
    let directory = support::temp_dir();
    let world = World::new(directory.path());
    thread::scope(|scope| {
        for thread in 0..threads {
            let world = &world;
            scope.spawn(move || {
                let mut rng = Rng::new(thread + 100 * threads);
                for step in 0..operations / threads {
                    world.one(&mut rng, step * threads + thread + 1);
                }
            });
        }
    });
    world.group.sync_all().expect("a sync");
    let stats = world.group.stats();
    assert_eq!(stats.pinned_mappings, 0, "{stats:?}");
    // No range lock is left.
    drop(world.group.span_mut(..).expect("no range is locked"));
    world.counts
}

#[test]
fn reads_are_never_torn_under_stress() {
    let operations = operations();
    for threads in [2, 4, 8] {
        let counts = run(threads, operations / 3);
        println!("{threads} threads: {counts:?}");
        assert_eq!(counts.mixed.into_inner(), 0);
        assert!(counts.reads.into_inner() > operations / 30);
        assert!(counts.writes.into_inner() > operations / 60);
        assert!(counts.busy.into_inner() > 0, "no range was ever locked");
    }
}

/// Copies of the group against each other: they wait, and none sees a half-done other one.
#[test]
fn copies_across_files_are_atomic_to_each_other() {
    let directory = support::temp_dir();
    let world = World::new(directory.path());
    let len = world.group.len();
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let group = &world.group;
            scope.spawn(move || {
                let mut buf = vec![0; len as usize];
                for step in 0..300u64 {
                    if (step + thread) % 2 == 0 {
                        let byte = (step * 4 + thread) as u8;
                        group
                            .write_all_at(0, &vec![byte; len as usize])
                            .expect("the buffer has room");
                    } else {
                        group.read_exact_at(0, &mut buf).expect("all bytes exist");
                        assert!(buf.iter().all(|byte| *byte == buf[0]), "a torn read");
                    }
                }
            });
        }
    });
}
