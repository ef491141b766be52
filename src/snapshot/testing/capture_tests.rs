//! Tests of captures while another thread or process writes.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::snapshot::checkpoint::{CheckpointKind, StoreInner};
use crate::snapshot::modes::WriteMode;
use crate::snapshot::options::StoreOptions;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;
use crate::snapshot::store::open_in_directory;
use crate::snapshot::tracker::{
    DirtyMarks, DirtyTracker, HashCompareTracker, RegionTracker, TrackerError, TrackerKind,
};

/// More pages than are copied without a scan before.
const PAGES: usize = 3000;
/// Length of a region in which short gaps are written, too.
const FEW: usize = 200;

/// Tracker that writes to a page before and after each scan.
#[derive(Debug)]
struct WritingTracker {
    tracker: HashCompareTracker,
    page: usize,
    /// Bytes for each scan.
    bytes: Queue,
}

type Queue = Arc<Mutex<VecDeque<[u8; 2]>>>;

fn put(region: &Region, page: usize, byte: u8) {
    region
        .write_at(page * 4096, &[byte; 4096])
        .expect("the page is in the region");
}

impl DirtyTracker for WritingTracker {
    fn kind(&self) -> TrackerKind {
        TrackerKind::HashCompare
    }
    fn arm(&mut self, region: &Region) -> Result<(), TrackerError> {
        self.tracker.arm(region)
    }
    fn scan(&mut self, region: &Region, into: &mut PageSet) -> Result<(), TrackerError> {
        let bytes = self
            .bytes
            .lock()
            .expect("no test panics under the lock")
            .pop_front();
        let Some([before, after]) = bytes else {
            return self.tracker.scan(region, into);
        };
        put(region, self.page, before);
        self.tracker.scan(region, into)?;
        put(region, self.page, after);
        Ok(())
    }
    fn note_copied(&mut self, first_page: u64, bytes: &[u8], into: &mut PageSet) {
        self.tracker.note_copied(first_page, bytes, into);
    }
    fn dirty_marks(&self) -> &DirtyMarks {
        self.tracker.dirty_marks()
    }
}

fn opened(path: &Path, pages: usize) -> StoreInner {
    let options = StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .reserve_bytes(64 << 20)
        .initial_bytes(pages as u64 * 4096);
    open_in_directory(path, options).expect("the store opens").0
}

fn byte_of(inner: &StoreInner, page: usize) -> u8 {
    let mut byte = [0];
    let at = page * 4096;
    inner
        .parts
        .memory
        .region
        .read_at(at, &mut byte)
        .expect("the page is in the region");
    byte[0]
}

/// Installs a tracker that writes bytes of the returned queue to a page at the next scans.
fn write_during_scans(inner: &StoreInner, page: usize) -> Queue {
    let bytes = Queue::default();
    let mut tracker = WritingTracker {
        tracker: HashCompareTracker::new(),
        page,
        bytes: Arc::clone(&bytes),
    };
    tracker
        .arm(&inner.parts.memory.region)
        .expect("the tracker is available");
    *inner.parts.memory.tracker() = RegionTracker::new(Some(Box::new(tracker)));
    bytes
}

#[test]
fn a_page_that_changes_during_its_copy_is_restored_as_of_the_point_in_time() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    for kind in [CheckpointKind::Delta, CheckpointKind::Base] {
        let inner = opened(&path, PAGES);
        let bytes = write_during_scans(&inner, 5);
        (0..PAGES).for_each(|page| put(&inner.parts.memory.region, page, 1 + (page % 200) as u8));
        inner
            .checkpoint(Some(kind))
            .expect("the checkpoint succeeds");
        (0..2000).for_each(|page| put(&inner.parts.memory.region, page, 50 + (page % 200) as u8));
        // The first scan chooses the kind, the second one follows the copy.
        let scans = [[77, 88], [77, 77]];
        bytes
            .lock()
            .expect("no test panics under the lock")
            .extend(scans);
        inner
            .checkpoint(Some(kind))
            .expect("the checkpoint succeeds");
        assert!(
            bytes
                .lock()
                .expect("no test panics under the lock")
                .is_empty()
        );
        assert_eq!(byte_of(&inner, 5), 77);
        drop(inner);
        assert_eq!(byte_of(&opened(&path, PAGES), 5), 77, "{kind:?}");
    }
}

#[test]
fn a_page_of_a_gap_written_meanwhile_is_in_this_or_the_next_checkpoint() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let inner = opened(&path, FEW);
    let bytes = write_during_scans(&inner, 5);
    (0..FEW).for_each(|page| put(&inner.parts.memory.region, page, 1 + (page % 200) as u8));
    for page in [3, 7] {
        inner
            .checkpoint(Some(CheckpointKind::Base))
            .expect("the checkpoint succeeds");
        put(&inner.parts.memory.region, page, 99);
    }
    inner
        .checkpoint(Some(CheckpointKind::Base))
        .expect("the checkpoint succeeds");
    // Page 5 is in a gap between changed pages. They are few, so they are copied after the last
    // scan.
    (0..40)
        .step_by(2)
        .for_each(|page| put(&inner.parts.memory.region, page, 33));
    bytes
        .lock()
        .expect("no test panics under the lock")
        .extend([[6, 6], [6, 66]]);
    for _ in 0..2 {
        let made = inner.checkpoint(Some(CheckpointKind::Base));
        made.expect("no page is reported as changed without a report");
    }
    drop(inner);
    assert_eq!(byte_of(&opened(&path, FEW), 5), 66);
}
