//! The cache itself: a handle to the books, the descriptors and the table of files.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::descriptors::Descriptors;
use super::directories::UnsyncedDirectories;
use super::entry::FileEntry;
use super::error::MappingError;
use super::file::CachedFile;
use super::ledger::Ledger;
use super::location::Location;
use super::options::{CacheOptions, CopyPath, FileOptions};
use super::parking::Parking;
use super::stats::{CacheStats, Counters};
use super::window::Windows;
use crate::sys::sigbus;
use crate::sys::statx::{FileIdentity, Status};

/// Windows of files, mapped on demand and kept by recency within a budget.
///
/// A handle: clones share the same cache, and so may any number of groups. It goes when the last
/// handle and the last file are dropped.
#[derive(Clone, Debug)]
pub struct MappingCache {
    core: Arc<Core>,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) windows: Windows,
    pub(super) copy_path: CopyPath,
    pub(super) map_cutoff_bytes: u64,
    pub(super) ledger: Ledger,
    pub(super) parking: Parking,
    pub(super) descriptors: Descriptors,
    pub(super) counters: Counters,
    files: Mutex<HashMap<FileIdentity, Weak<FileEntry>>>,
    next_id: AtomicU64,
    /// Hits of files that are gone.
    past_hits: AtomicU64,
}

impl MappingCache {
    /// A cache with these options.
    ///
    /// # Errors
    ///
    /// [`MappingError::Option`] names the option that cannot work.
    pub fn new(options: CacheOptions) -> Result<Self, MappingError> {
        options.check()?;
        let core = Core {
            windows: Windows::new(options.window_bytes),
            copy_path: options.copy_path,
            map_cutoff_bytes: options.map_cutoff_bytes,
            ledger: Ledger::new(&options),
            parking: Parking::new(),
            descriptors: Descriptors::new(options.descriptors_max),
            counters: Counters::default(),
            files: Mutex::new(HashMap::new()),
            next_id: AtomicU64::new(0),
            past_hits: AtomicU64::new(0),
        };
        let core = Arc::new(core);
        Ok(Self { core })
    }

    /// A file of `declared_bytes` bytes at `location`. Nothing is opened before it is needed: the file
    /// may be missing, and may be shorter or longer than declared.
    #[must_use]
    pub fn file(
        &self,
        location: Location,
        declared_bytes: u64,
        options: FileOptions,
        directories: UnsyncedDirectories,
    ) -> CachedFile {
        CachedFile::new(
            self.core.clone(),
            location,
            declared_bytes,
            options,
            directories,
        )
    }

    /// Length of a window in bytes.
    #[must_use]
    pub fn window_bytes(&self) -> usize {
        self.core.windows.bytes()
    }

    /// Unmaps the windows that nobody used for `age` (as far as was seen: use is noticed when windows
    /// are looked for, not timed); returns how many bytes were unmapped.
    pub fn evict_idle(&self, age: Duration) -> u64 {
        self.core.ledger.evict_idle(age, &self.core.parking)
    }

    /// What the cache did and holds.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let (descriptors, unsynced_files) = self.core.descriptors.counts();
        let counters = &self.core.counters;
        let mut stats = CacheStats {
            hits: self.core.hits(),
            misses: counters.misses.sum(),
            stalls: counters.stalls.sum(),
            positioned_copies: counters.positioned_copies.sum(),
            descriptors,
            unsynced_files,
            ..CacheStats::default()
        };
        self.core.ledger.fill(&mut stats);
        stats
    }
}

/// Installs a handler of `SIGBUS` for the whole process, once: where a page of a mapping of any cache is
/// bad (the file was cut, the disk is full or failed), it is replaced by zeros and the mapping is poisoned,
/// instead of the process being killed. Only plain loads and stores need it, so slices of spans: the
/// copying doors never raise the signal.
///
/// Faults elsewhere go to the handler that was there before. A mapping that is poisoned stays so:
/// everything done with it ends in [`MappingError::Poisoned`], and a file whose stores may be lost fails its
/// next sync. The window is mapped anew once nobody pins it.
///
/// # Errors
///
/// The system's error when the handler cannot be installed.
pub fn install_sigbus_dispatcher() -> io::Result<()> {
    sigbus::install()
}

impl Core {
    /// The entry of the file with this identity, shared by all who reach it.
    pub(super) fn entry(self: &Arc<Self>, status: &Status) -> Arc<FileEntry> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = files.get(&status.identity).and_then(Weak::upgrade) {
            return entry;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(FileEntry::new(self.clone(), id, status));
        files.insert(status.identity, Arc::downgrade(&entry));
        entry
    }

    /// Hits are counted where windows are pinned, and summed when asked for.
    fn hits(&self) -> u64 {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let entries: Vec<_> = files.values().filter_map(Weak::upgrade).collect();
        drop(files);
        let present: u64 = entries.iter().map(|entry| entry.slots.hits()).sum();
        present + self.past_hits.load(Ordering::Relaxed)
    }

    /// The last handle of the file is going.
    pub(super) fn forget(&self, entry: &FileEntry) {
        self.past_hits
            .fetch_add(entry.slots.hits(), Ordering::Relaxed);
        self.descriptors.close(entry.id);
        self.descriptors.forget(entry.id);
        self.unlist(entry);
    }

    /// Takes the entry out of the table, unless a younger one has its place.
    pub(super) fn unlist(&self, entry: &FileEntry) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = files.get(&entry.identity).map(Weak::as_ptr);
        if listed.is_some_and(|listed| std::ptr::eq(listed, entry)) {
            files.remove(&entry.identity);
        }
    }
}
