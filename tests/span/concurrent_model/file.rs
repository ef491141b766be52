//! A file of the model: its stripes, and what is certain about its length.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::activity::Activity;

#[derive(Debug)]
pub(crate) struct File {
    /// Path relative to the root.
    pub(crate) path: String,
    /// The longest length that a group declares.
    pub(crate) len: u64,
    /// The file is never truncated below this length.
    pub(crate) fixed: u64,
    /// The only thread that truncates the file. It owns all stripes after `fixed`.
    pub(crate) home: usize,
    /// Stripes in order.
    pub(crate) stripes: Vec<usize>,
    /// Whether the second group has the file, by a hard link.
    pub(crate) is_shared: bool,
    pub(crate) activity: Activity,
    /// The file certainly has this length, unless a truncation has begun since.
    floor: AtomicU64,
    truncations: AtomicU64,
    exists: AtomicBool,
}

/// Length of a file at the start of an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LengthMark {
    floor: u64,
    truncations: u64,
    pub(crate) existed: bool,
}

impl File {
    pub(crate) fn new(path: String, home: usize, is_shared: bool) -> Self {
        Self {
            path,
            len: 0,
            fixed: 0,
            home,
            stripes: Vec::new(),
            is_shared,
            activity: Activity::default(),
            floor: AtomicU64::new(0),
            truncations: AtomicU64::new(0),
            exists: AtomicBool::new(false),
        }
    }

    pub(crate) fn mark(&self) -> LengthMark {
        let truncations = self.truncations.load(Ordering::SeqCst);
        LengthMark {
            existed: self.exists(),
            floor: self.floor(),
            truncations,
        }
    }

    /// The length that the file certainly had all the time since the mark.
    pub(crate) fn certain_since(&self, mark: LengthMark) -> u64 {
        if self.truncations.load(Ordering::SeqCst) == mark.truncations {
            mark.floor
        } else {
            mark.floor.min(self.fixed)
        }
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor.load(Ordering::SeqCst)
    }

    pub(crate) fn exists(&self) -> bool {
        self.exists.load(Ordering::SeqCst)
    }

    pub(crate) fn note_exists(&self) {
        self.exists.store(true, Ordering::SeqCst);
    }

    /// Records that the file reaches `end`. Only its home may do so for an end after `fixed`.
    pub(crate) fn note_reaches(&self, end: u64) {
        self.note_exists();
        self.floor.fetch_max(end, Ordering::SeqCst);
    }

    /// Records that a truncation begins. Returns the floor before it.
    pub(crate) fn begin_truncation(&self, bytes: u64) -> u64 {
        let before = self.floor.fetch_min(bytes, Ordering::SeqCst);
        self.truncations.fetch_add(1, Ordering::SeqCst);
        before
    }
}
