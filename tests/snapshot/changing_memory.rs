//! Memory that changes during a checkpoint: everything that is stored has a matching checksum [I6].
#![expect(unsafe_code, reason = "stores through the pointer of a store")]

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};

use flatspan::mapping_cache::Access;
use flatspan::snapshot::{
    CaptureMode, CheckpointKind, DirectoryBackend, Store, StoreOptions, StoreReader, TrackerChoice,
    WriteMode,
};

use crate::support;
use crate::watched_backend::{Call, Watch, WatchedBackend};

const PAGE: usize = 4096;
const PAGES: usize = 90;
/// Changed pages, in ranges too far apart to be written together.
const PLACES: [Range<usize>; 3] = [0..20, 40..60, 80..90];
const CHANGED: u64 = 50;
const PART_BYTES: u64 = 64 << 10;

fn pages() -> impl Iterator<Item = usize> {
    PLACES.into_iter().flatten()
}

/// Memory that is changed outside of the store's control: by a device or another process.
#[derive(Debug, Default)]
struct Moving {
    memory: AtomicPtr<AtomicU8>,
    moves: AtomicU64,
}

impl Moving {
    fn set(&self, store: &Store) {
        assert!(store.len() as usize >= PAGES * PAGE);
        self.memory
            .store(store.as_ptr().as_ptr().cast(), Ordering::Release);
    }

    /// Changes every second page.
    fn step(&self) {
        let memory = self.memory.load(Ordering::Acquire);
        if memory.is_null() {
            return;
        }
        let value = self.moves.fetch_add(1, Ordering::Relaxed) as u8 | 1;
        for at in pages().filter(|page| page % 2 == 0).map(|page| page * PAGE) {
            // SAFETY: the word is within the region (`set`).
            let address = unsafe { memory.add(at + 77) };
            // SAFETY: the region is mapped until the store is dropped; afterwards nothing calls
            // this function. All accesses to its bytes are atomic or made by the kernel.
            let word = unsafe { &*address };
            word.store(value, Ordering::Relaxed);
        }
    }
}

/// Changes memory before and after every call.
impl Watch for Arc<Moving> {
    fn before(&self, _: Call) -> io::Result<()> {
        self.step();
        Ok(())
    }

    fn after(&self) {
        self.step();
    }
}

fn options(strategy: CaptureMode) -> StoreOptions {
    StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .tracker(TrackerChoice::HashCompare)
        .capture_mode(strategy)
        .reserve_bytes(16 << 20)
        .part_bytes(PART_BYTES)
        .initial_bytes((PAGES * PAGE) as u64)
}

/// Marks the pages as dirty, so that both heaps need them.
fn change_all(store: &Store, byte: u8) {
    let inside = store.write_guard().expect("access lock is free");
    for page in pages().map(|page| (page * PAGE) as u64) {
        inside.write_at(page, &[byte; PAGE]).expect("written");
        inside
            .mark_dirty(page..page + PAGE as u64)
            .expect("declared");
    }
}

/// Checks that every stored page has its checksum, and that restored pages existed before.
fn look(path: &Path) {
    let reader = StoreReader::open(path).expect("a store");
    let found = reader.verify(|_| ControlFlow::Continue(()));
    let found = found.expect("verified");
    assert!(found.is_ok(), "{found:?}");
}

fn checkpoint(store: &Store, kind: CheckpointKind) {
    let made = match kind {
        CheckpointKind::Base => store.checkpoint_base(),
        _ => store.checkpoint_delta(),
    };
    let made = made.expect("a checkpoint");
    assert_eq!(made.kind, kind);
    assert!(made.written_pages >= CHANGED, "{made:?}");
}

#[test]
fn i06_memory_changed_between_hashing_and_writing_has_matching_checksums() {
    for strategy in [CaptureMode::PreCopy, CaptureMode::StopAndCopy] {
        let dir = support::temp_dir();
        let path = dir.path().join("store");
        drop(Store::open(&path, options(strategy)).expect("a store"));
        let disk = DirectoryBackend::open(&path, PART_BYTES, Access::ReadWrite).expect("its disk");
        let moving = Arc::new(Moving::default());
        let disk = WatchedBackend::over(disk, Arc::clone(&moving));
        let store = Store::open_with_backend(Arc::new(disk), options(strategy)).expect("a store");
        moving.set(&store);
        for round in 0..6 {
            change_all(&store, 100 + round);
            let kind = match round % 2 {
                0 => CheckpointKind::Base,
                _ => CheckpointKind::Delta,
            };
            let before = moving.moves.load(Ordering::Relaxed);
            checkpoint(&store, kind);
            assert!(moving.moves.load(Ordering::Relaxed) > before + 2);
            look(&path);
        }
        drop(store);
        let store = Store::open(&path, options(strategy)).expect("a store");
        let report = store.open_report();
        assert!(
            report.fallback_reason.is_none() && report.fully_verified,
            "{report:?}"
        );
        let mut memory = vec![0; PAGES * PAGE];
        let inside = store.write_guard().expect("access lock is free");
        inside.read_at(0, &mut memory).expect("read");
        for (page, bytes) in memory.chunks(PAGE).enumerate() {
            let moved = [77].into_iter().filter(|_| page % 2 == 0);
            let others = (0..PAGE).filter(|at| !moved.clone().any(|moved| moved == *at));
            let byte = if pages().any(|changed| changed == page) {
                105
            } else {
                0
            };
            assert!(others.into_iter().all(|at| bytes[at] == byte), "{page}");
        }
    }
}

#[test]
fn i06_continuously_changing_memory_has_matching_checksums() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let store = Store::open(&path, options(CaptureMode::PreCopy)).expect("a store");
    let moving = Moving::default();
    moving.set(&store);
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                moving.step();
            }
        });
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..30 {
                change_all(&store, round);
                let kind = match round % 3 {
                    0 => CheckpointKind::Delta,
                    _ => CheckpointKind::Base,
                };
                checkpoint(&store, kind);
                look(&path);
            }
        }));
        end.store(true, Ordering::Relaxed);
        work.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
