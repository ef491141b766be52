//! The cache: a handle to its files and to what they share.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::error::MappingError;
use super::file::{CachedFile, FileTable, Resources};
use super::location::Location;
use super::options::{CacheOptions, FileOptions};
use super::stats::CacheStats;
use crate::sys::sigbus;

/// A cache of file mappings with a hard budget and least-recently-used eviction.
///
/// It is a handle: clones share the same cache, and any number of groups may use it. The cache is
/// dropped with its last handle and its last file.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use flatspan::mapping_cache::{CacheOptions, FileOptions, Location, MappingCache};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let directory = std::env::temp_dir();
/// let name = format!("flatspan-cache-{}", std::process::id());
/// std::fs::write(directory.join(&name), b"hello")?;
///
/// let cache = MappingCache::new(CacheOptions::default().budget_bytes(64 << 20))?;
/// let location = Location::beneath(Arc::from(directory.as_path()), name.clone().into())?;
/// let file = cache.file(location, 5, FileOptions::default());
/// let mut buf = [0; 5];
/// assert_eq!(file.read_at(0, &mut buf)?, 5);
/// assert_eq!(&buf, b"hello");
/// # std::fs::remove_file(directory.join(&name))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MappingCache {
    files: Arc<FileTable>,
}

impl MappingCache {
    /// Creates a cache with these options.
    ///
    /// # Errors
    ///
    /// - [`MappingError::InvalidOption`] if an option has an invalid value.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "options are built for one cache"
    )]
    pub fn new(options: CacheOptions) -> Result<Self, MappingError> {
        options.check()?;
        let resources = Arc::new(Resources::new(&options));
        let files = Arc::new(FileTable::new(resources));
        Ok(Self { files })
    }

    /// Returns a file of `declared_bytes` bytes at `location`. The file is opened on first use. It
    /// may be missing, shorter or longer than declared.
    #[must_use]
    pub fn file(
        &self,
        location: Location,
        declared_bytes: u64,
        options: FileOptions,
    ) -> CachedFile {
        CachedFile::new(Arc::clone(&self.files), location, declared_bytes, options)
    }

    /// Syncs the directories that received or lost entries of files of this cache.
    ///
    /// # Errors
    ///
    /// - [`MappingError::SyncFailed`] with the first directory whose sync failed.
    pub(crate) fn sync_directories(&self) -> Result<(), MappingError> {
        self.files.resources.directories.sync()
    }

    /// Records that a directory was renamed together with its content.
    pub(crate) fn directory_renamed(&self, from: &Path, to: &Path) {
        self.files.resources.directories.renamed(from, to);
    }

    /// Returns the length of a window in bytes.
    #[must_use]
    pub fn window_bytes(&self) -> usize {
        self.files.resources.windows.bytes()
    }

    /// Unmaps the windows that were idle for `age` and returns how many bytes were unmapped.
    ///
    /// Use of a window is not timed. It is noticed when the cache searches for idle windows.
    #[expect(clippy::must_use_candidate, reason = "called for its effect")]
    pub fn evict_idle(&self, age: Duration) -> u64 {
        let resources = &*self.files.resources;
        resources.budget.evict_idle(age, &resources.wait_table)
    }

    /// Returns statistics of the cache.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let resources = &*self.files.resources;
        let (descriptors, unsynced_files) = resources.fd_pool.counts();
        let counters = &resources.counters;
        let mut stats = CacheStats {
            misses: counters.misses.sum(),
            waits: counters.waits.sum(),
            positioned_copies: counters.positioned_copies.sum(),
            open_files: descriptors,
            dirty_files: unsynced_files,
            ..CacheStats::default()
        };
        resources.budget.fill(&mut stats);
        stats
    }
}

/// Installs a process-wide SIGBUS handler (see `sigaction(2)`). Further calls have no effect.
///
/// A page of a mapping is bad if the file was truncated, the disk is full, or the disk failed. The
/// handler replaces a bad page by zeros and marks the mapping as poisoned. Without the handler, the
/// signal kills the process. Only slices of spans and raw pointers need it: copying methods never
/// raise the signal.
///
/// Signals at other addresses are passed to the handler that was installed before. A poisoned
/// mapping stays poisoned: using it returns [`MappingError::Poisoned`]. If stores may be lost, the
/// next sync of the file fails. The next pin of the window maps it again.
///
/// # Errors
///
/// Returns the system's error if the handler cannot be installed.
pub fn install_sigbus_handler() -> io::Result<()> {
    sigbus::install()
}
