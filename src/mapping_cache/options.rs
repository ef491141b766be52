//! Options of the cache and of a file in it, checked before anything is built from them.

use std::time::Duration;

use super::error::MappingError;
use crate::sys::rlimits;

/// May the file be changed?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Access {
    /// Reading only; files are opened and mapped read-only.
    #[default]
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// How copies reach the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CopyPath {
    /// Through the mapping where the window is mapped, by positioned I/O elsewhere; a window is mapped
    /// for a copy when that spares opening its file again and again. Writes are positioned.
    #[default]
    Auto,
    /// Through mappings, which are made for each copy. Positioned I/O only where a file cannot be
    /// mapped.
    Mapped,
    /// Positioned I/O always.
    Positioned,
}

/// What to do when a window is needed and all others are pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenPinned {
    /// Exceed the budget by the windows that are pinned, and say so in the statistics.
    #[default]
    Exceed,
    /// Fail with [`MappingError::BudgetPinned`].
    Fail,
}

/// How much storage is reserved before a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Preallocation {
    /// The whole declared length at the first write.
    Full,
    /// Each window before it is mapped for writing.
    #[default]
    Window,
    /// Nothing: a write that finds the disk full fails then.
    Sparse,
}

/// What to do on a filesystem that cannot reserve storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unreservable {
    /// Go on as with [`Preallocation::Sparse`]; [`CachedFile::reservation`](super::CachedFile::reservation)
    /// tells.
    #[default]
    GoOn,
    /// Fail with [`MappingError::Unsupported`].
    Fail,
}

/// What was really reserved for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Nothing was asked for yet.
    None,
    /// What was asked for is reserved, for every later write.
    Reserved,
    /// Reserved for the first write of each block only: the filesystem copies on write (btrfs).
    FirstWriteOnly,
    /// The filesystem cannot reserve.
    Unsupported,
}

/// Does a flush wait?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// Returns when the data is durable.
    Sync,
    /// Starts writing and returns; nothing is known to be durable.
    Async,
}

/// Options of a file in the cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileOptions {
    /// May it be changed?
    pub access: Access,
    /// Create it, and the folders on its path, at the first write if it is missing.
    pub create: bool,
    /// How much is reserved, and when.
    pub preallocation: Preallocation,
    /// What to do where nothing can be reserved.
    pub unreservable: Unreservable,
}

/// Options of a [`MappingCache`](super::MappingCache).
#[derive(Clone, Debug)]
pub struct CacheOptions {
    pub(super) window_bytes: usize,
    pub(super) budget_bytes: u64,
    pub(super) mappings_max: usize,
    pub(super) idle_age: Option<Duration>,
    pub(super) descriptors_max: usize,
    pub(super) map_cutoff_bytes: u64,
    pub(super) when_pinned: WhenPinned,
    pub(super) copy_path: CopyPath,
}

const DESCRIPTORS_MIN: usize = 4;

impl Default for CacheOptions {
    /// Windows of 4 MiB (1 MiB on 32 bit), a budget of 256 MiB (64 MiB), half of the mappings that
    /// `vm.max_map_count` grants, a quarter of the descriptors of `RLIMIT_NOFILE`, 256 at the most.
    fn default() -> Self {
        let small = cfg!(target_pointer_width = "32");
        Self {
            window_bytes: if small { 1 << 20 } else { 4 << 20 },
            budget_bytes: if small { 64 << 20 } else { 256 << 20 },
            mappings_max: rlimits::max_map_count() / 2,
            idle_age: None,
            descriptors_max: (rlimits::descriptors_max() / 4).clamp(DESCRIPTORS_MIN, 256),
            map_cutoff_bytes: 0,
            when_pinned: WhenPinned::default(),
            copy_path: CopyPath::default(),
        }
    }
}

impl CacheOptions {
    /// Length of a window in bytes: a power of two, a page or more.
    #[must_use]
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// How many bytes may be mapped, one window or more. Pinned windows may exceed it, see
    /// [`WhenPinned`].
    #[must_use]
    pub fn budget_bytes(mut self, bytes: u64) -> Self {
        self.budget_bytes = bytes;
        self
    }

    /// How many mappings there may be, one or more; keep it well under `vm.max_map_count`.
    #[must_use]
    pub fn mappings_max(mut self, mappings: usize) -> Self {
        self.mappings_max = mappings;
        self
    }

    /// Unmap windows that nobody used for so long. They are looked for when another window is mapped
    /// and by [`MappingCache::evict_idle`](super::MappingCache::evict_idle); there is no thread that
    /// waits for them.
    #[must_use]
    pub fn idle_age(mut self, age: Option<Duration>) -> Self {
        self.idle_age = age;
        self
    }

    /// How many descriptors the cache keeps, four or more; half of them may be files with unsynced
    /// writes, which are synced before the limit is passed. Threads that are opening a file hold one
    /// more each.
    #[must_use]
    pub fn descriptors_max(mut self, descriptors: usize) -> Self {
        self.descriptors_max = descriptors;
        self
    }

    /// Copies from and to files shorter than this never map them.
    #[must_use]
    pub fn map_cutoff_bytes(mut self, bytes: u64) -> Self {
        self.map_cutoff_bytes = bytes;
        self
    }

    /// What to do when a window is needed and all others are pinned.
    #[must_use]
    pub fn when_pinned(mut self, choice: WhenPinned) -> Self {
        self.when_pinned = choice;
        self
    }

    /// How copies reach the files.
    #[must_use]
    pub fn copy_path(mut self, path: CopyPath) -> Self {
        self.copy_path = path;
        self
    }

    pub(super) fn check(&self) -> Result<(), MappingError> {
        let refuse = |field, reason: String| Err(MappingError::Option { field, reason });
        let page = rlimits::page_bytes();
        if !self.window_bytes.is_power_of_two() || self.window_bytes < page {
            let given = self.window_bytes;
            return refuse(
                "window_bytes",
                format!("{given} is not a power of two of {page} or more"),
            );
        }
        if self.window_bytes > isize::MAX as usize / 4 {
            return refuse("window_bytes", "larger than the address space".to_owned());
        }
        if self.budget_bytes < self.window_bytes as u64 {
            let (given, window) = (self.budget_bytes, self.window_bytes);
            return refuse(
                "budget_bytes",
                format!("{given} is less than one window of {window}"),
            );
        }
        if self.mappings_max == 0 {
            return refuse("mappings_max", "at least one is needed".to_owned());
        }
        if self.descriptors_max < DESCRIPTORS_MIN {
            let given = self.descriptors_max;
            return refuse(
                "descriptors_max",
                format!("{given} is less than {DESCRIPTORS_MIN}"),
            );
        }
        Ok(())
    }
}
