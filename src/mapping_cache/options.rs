//! Options of a cache and of its files. They are checked before anything is built from them.

use std::time::Duration;

use super::error::MappingError;
use crate::sys::rlimits;

/// The access mode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Access {
    /// Reading only. Files are opened and mapped read-only.
    #[default]
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// The method of copies out of and into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CopyMethod {
    /// Reads from a window if it is mapped, and by positioned I/O otherwise. Maps a window for a
    /// copy if that avoids opening its file repeatedly. Writes by positioned I/O.
    #[default]
    Auto,
    /// Copies through mappings and maps each window. Uses positioned I/O only for files that cannot
    /// be mapped.
    Mapped,
    /// Copies by positioned I/O only.
    Positioned,
}

/// The action if a window is needed and all of the budget is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BudgetPolicy {
    /// Exceeds the budget, and counts the mapping in [`CacheStats`](super::CacheStats).
    #[default]
    AllowExceeding,
    /// Fails with [`MappingError::BudgetExhausted`].
    Fail,
}

/// The storage that is preallocated before a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Preallocation {
    /// The whole declared length, at the first write.
    Full,
    /// Each window, before it is mapped for writing.
    #[default]
    Window,
    /// None. A write to a full disk fails at that time.
    Sparse,
}

/// The action on a filesystem that cannot preallocate storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PreallocationFallback {
    /// Continues as with [`Preallocation::Sparse`].
    /// [`CachedFile::preallocation_status`](super::CachedFile::preallocation_status) reports it.
    #[default]
    Sparse,
    /// Fails with [`MappingError::Unsupported`].
    Fail,
}

/// The result of the preallocation of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PreallocationStatus {
    /// No preallocation was requested yet, or its storage was discarded or shared with another file
    /// since.
    NotRequested,
    /// The requested storage is preallocated for all later writes.
    Reserved,
    /// Storage is preallocated for the first write of each block only. The filesystem copies on
    /// write (btrfs), or is not known to keep storage for later writes: only ext4, tmpfs and xfs
    /// are.
    FirstWriteOnly,
    /// The filesystem cannot preallocate.
    Unsupported,
}

/// The mode of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushMode {
    /// Returns after the data is durable.
    Sync,
    /// Starts writeback and returns. The data may not be durable yet.
    Async,
}

/// Options of a file in the cache.
///
/// # Examples
///
/// ```
/// use flatspan::mapping_cache::{Access, FileOptions, Preallocation};
///
/// let options = FileOptions::default()
///     .access(Access::ReadWrite)
///     .create(true)
///     .preallocation(Preallocation::Full);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct FileOptions {
    pub(crate) access: Access,
    pub(crate) create: bool,
    pub(crate) preallocation: Preallocation,
    pub(crate) preallocation_fallback: PreallocationFallback,
    /// Whether only this process truncates the file, as the caller guarantees.
    pub(crate) is_exclusive: bool,
}

impl FileOptions {
    /// Sets the access mode. Defaults to [`Access::ReadOnly`].
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Sets whether the first write creates a missing file and the missing directories of its path.
    /// Defaults to `false`.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets the storage that is preallocated. Defaults to [`Preallocation::Window`].
    #[must_use]
    pub fn preallocation(mut self, preallocation: Preallocation) -> Self {
        self.preallocation = preallocation;
        self
    }

    /// Sets the action on a filesystem that cannot preallocate storage. Defaults to
    /// [`PreallocationFallback::Sparse`](super::PreallocationFallback::Sparse).
    #[must_use]
    pub fn preallocation_fallback(mut self, fallback: PreallocationFallback) -> Self {
        self.preallocation_fallback = fallback;
        self
    }
}

/// Options of a [`MappingCache`](super::MappingCache).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use flatspan::mapping_cache::{CacheOptions, MappingCache};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = CacheOptions::default()
///     .window_bytes(1 << 20)
///     .budget_bytes(64 << 20);
/// let cache = MappingCache::new(options)?;
/// assert_eq!(cache.evict_idle(Duration::from_secs(60)), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CacheOptions {
    pub(super) window_bytes: usize,
    pub(super) budget_bytes: u64,
    pub(super) mappings_max: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) descriptors_max: usize,
    pub(super) map_threshold_bytes: u64,
    pub(super) budget_policy: BudgetPolicy,
    pub(super) copy_method: CopyMethod,
}

const DESCRIPTORS_MIN: usize = 4;

impl Default for CacheOptions {
    /// Returns the default options. On 32-bit platforms, windows and budget are smaller.
    fn default() -> Self {
        let small = cfg!(target_pointer_width = "32");
        let (window_bytes, budget_bytes) = if small {
            (1 << 20, 64 << 20)
        } else {
            (4 << 20, 256 << 20)
        };
        Self {
            window_bytes,
            budget_bytes,
            mappings_max: rlimits::max_map_count() / 2,
            idle_timeout: None,
            descriptors_max: (rlimits::descriptors_max() / 4).clamp(DESCRIPTORS_MIN, 256),
            map_threshold_bytes: 0,
            budget_policy: BudgetPolicy::default(),
            copy_method: CopyMethod::default(),
        }
    }
}

impl CacheOptions {
    /// Sets the length of a window in bytes: a power of two of at least one page. Defaults to 4 MiB
    /// (1 MiB on 32-bit platforms).
    #[must_use]
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Sets how many bytes may be mapped, at least one window. Pinned windows may exceed it, as the
    /// [budget policy](Self::budget_policy) says. Defaults to 256 MiB (64 MiB on 32-bit platforms).
    ///
    /// A window is charged for its mapped bytes. A window that reaches past the end of its file is
    /// mapped up to that end only, so the window of a short file costs less than a whole window.
    #[must_use]
    pub fn budget_bytes(mut self, bytes: u64) -> Self {
        self.budget_bytes = bytes;
        self
    }

    /// Sets the maximum number of mappings, at least one. Defaults to half of the sysctl
    /// `vm.max_map_count`, which it should stay well below.
    #[must_use]
    pub fn mappings_max(mut self, mappings: usize) -> Self {
        self.mappings_max = mappings;
        self
    }

    /// Sets the time after which an idle window is unmapped. Defaults to no limit.
    ///
    /// The cache has no thread for it. Idle windows are unmapped when another window is mapped, and
    /// by [`MappingCache::evict_idle`](super::MappingCache::evict_idle).
    #[must_use]
    pub fn idle_timeout(mut self, age: Option<Duration>) -> Self {
        self.idle_timeout = age;
        self
    }

    /// Sets how many descriptors the cache keeps open, at least four. Defaults to a quarter of
    /// `RLIMIT_NOFILE`, at most 256.
    ///
    /// Half of them may belong to dirty files. Before that limit is exceeded, mappings replace the
    /// descriptors of the oldest dirty files; files that cannot be mapped are synced. A thread that
    /// opens a file holds one more descriptor.
    #[must_use]
    pub fn descriptors_max(mut self, descriptors: usize) -> Self {
        self.descriptors_max = descriptors;
        self
    }

    /// Sets the declared length from which copies may map a file. Shorter files are copied by
    /// positioned I/O. Defaults to 0.
    ///
    /// It permits mapping, and does not cause it: by default copies use positioned I/O. See
    /// [`copy_method`](Self::copy_method).
    #[must_use]
    pub fn map_threshold_bytes(mut self, bytes: u64) -> Self {
        self.map_threshold_bytes = bytes;
        self
    }

    /// Sets the action if a window is needed and all of the budget is pinned. Defaults to
    /// [`BudgetPolicy::AllowExceeding`](super::BudgetPolicy::AllowExceeding).
    #[must_use]
    pub fn budget_policy(mut self, budget_policy: BudgetPolicy) -> Self {
        self.budget_policy = budget_policy;
        self
    }

    /// Sets the method of copies. Defaults to [`CopyMethod::Auto`](super::CopyMethod::Auto), which
    /// copies by positioned I/O while descriptors suffice.
    ///
    /// Windows are mapped for spans and pins, for hashing in place, and by
    /// [`CopyMethod::Mapped`](super::CopyMethod::Mapped). With plain reads and writes,
    /// [`CacheStats::mapped_bytes`](super::CacheStats::mapped_bytes) therefore usually stays 0.
    #[must_use]
    pub fn copy_method(mut self, copy_method: CopyMethod) -> Self {
        self.copy_method = copy_method;
        self
    }

    pub(super) fn check(&self) -> Result<(), MappingError> {
        let refuse = |field, reason: String| Err(MappingError::InvalidOption { field, reason });
        let page = rlimits::page_bytes();
        if !self.window_bytes.is_power_of_two() || self.window_bytes < page {
            let given = self.window_bytes;
            let reason = format!("{given} is not a power of two of at least {page}");
            return refuse("window_bytes", reason);
        }
        if self.window_bytes > isize::MAX as usize / 4 {
            let given = self.window_bytes;
            return refuse("window_bytes", format!("{given} exceeds the address space"));
        }
        if self.budget_bytes < self.window_bytes as u64 {
            let (given, window) = (self.budget_bytes, self.window_bytes);
            let reason = format!("{given} is less than one window of {window}");
            return refuse("budget_bytes", reason);
        }
        if self.mappings_max == 0 {
            return refuse("mappings_max", "0 is less than 1".to_owned());
        }
        if self.descriptors_max < DESCRIPTORS_MIN {
            let given = self.descriptors_max;
            let reason = format!("{given} is less than {DESCRIPTORS_MIN}");
            return refuse("descriptors_max", reason);
        }
        Ok(())
    }
}
