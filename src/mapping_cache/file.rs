//! A file in the cache: a path, a declared length, and how it is opened, checked, synced and let go.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustix::fs::FileType;

use super::cache::Core;
use super::directories::UnsyncedDirectories;
use super::entry::FileEntry;
use super::error::{MappingError, is_storage_full};
use super::location::Location;
use super::options::{Access, FileOptions, FlushMode, Reservation};
use super::shared::SharedFile;
use super::slot_table::SlotTable;
use crate::sys::{self, rlimits, statvfs, statx};

/// A file whose bytes are reached through a [`MappingCache`](super::MappingCache).
///
/// It holds a path, not a descriptor. The file is opened when it is needed, and each time it is
/// checked that the path still leads to the file it led to first. The declared length is what the
/// owner expects: it bounds what is reserved and pinned. A shorter file can be read as far as it goes,
/// and writing makes it longer.
///
/// Dropping a file does not sync it.
#[derive(Debug)]
pub struct CachedFile {
    pub(super) core: Arc<Core>,
    pub(super) location: Location,
    pub(super) declared_bytes: u64,
    pub(super) options: FileOptions,
    pub(super) directories: UnsyncedDirectories,
    opened: OnceLock<Opened>,
}

/// What a file is known by once it was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) entry: Arc<FileEntry>,
    /// This and the next are those of the entry, one step nearer to a pin.
    pub(super) slots: Arc<SlotTable>,
    pub(super) shared: Arc<SharedFile>,
}

/// A write that is going on: from before it begins the file holds the descriptor that will report
/// what goes wrong with it.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    pub(super) entry: &'a Arc<FileEntry>,
    pub(super) file: Arc<File>,
}

impl<'a> Writing<'a> {
    /// The write goes on until the caller ends it by `entry.unsynced.end()`. Until then the file keeps
    /// the descriptor by itself.
    pub(super) fn keep_on(self) -> &'a FileEntry {
        let entry = self.entry;
        entry.unsynced.join();
        entry
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.entry.unsynced.end();
    }
}

impl CachedFile {
    pub(super) fn new(
        core: Arc<Core>,
        location: Location,
        declared_bytes: u64,
        options: FileOptions,
        directories: UnsyncedDirectories,
    ) -> Self {
        let opened = OnceLock::new();
        Self {
            core,
            location,
            declared_bytes,
            options,
            directories,
            opened,
        }
    }

    /// Length the file is declared to have.
    #[must_use]
    pub fn declared_bytes(&self) -> u64 {
        self.declared_bytes
    }

    /// Declares another length, not shorter than before. The file itself grows when it is written.
    ///
    /// # Panics
    ///
    /// When `bytes` is less than what was declared.
    pub fn declare(&mut self, bytes: u64) {
        assert!(bytes >= self.declared_bytes, "a declared length only grows");
        self.declared_bytes = bytes;
    }

    /// Where the file lies.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// What was really reserved for it so far.
    #[must_use]
    pub fn reservation(&self) -> Reservation {
        let entry = self.opened_entry();
        entry.map_or(Reservation::None, |entry| entry.reservation())
    }

    /// Length the file has now.
    ///
    /// # Errors
    ///
    /// Those of opening it, [`MappingError::Missing`] among them.
    pub fn present_bytes(&self) -> Result<u64, MappingError> {
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        statx::len(&file).map_err(|source| self.io("ask its length", source))
    }

    /// Bytes of storage the file takes: less than its length where it has holes, more where storage is
    /// reserved behind its end. What a reservation really did can be seen here.
    ///
    /// # Errors
    ///
    /// Those of opening it.
    pub fn allocated_bytes(&self) -> Result<u64, MappingError> {
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        let allocated = fs2::FileExt::allocated_size(&*file);
        allocated.map_err(|source| self.io("ask how much storage it takes", source))
    }

    /// Creates the file if it is missing and may be created.
    ///
    /// # Errors
    ///
    /// Those of opening and creating it.
    pub fn ensure_exists(&self) -> Result<(), MappingError> {
        drop(self.begin_write()?);
        Ok(())
    }

    /// Returns when everything written before is durable: data and length. New entries of folders are
    /// synced by [`UnsyncedDirectories::sync`], after this.
    ///
    /// # Errors
    ///
    /// [`MappingError::SyncFailed`]. It is final: later calls return it again until the file is
    /// [released](Self::release).
    pub fn sync(&self) -> Result<(), MappingError> {
        match self.opened_entry() {
            Some(entry) => entry.sync(&self.path()),
            None => Ok(()),
        }
    }

    /// Writes the range to disk, waiting or not. A waiting flush covers the whole file.
    ///
    /// # Errors
    ///
    /// Those of [`sync`](Self::sync); [`MappingError::Io`] when writeback cannot be started.
    pub fn flush(&self, range: Range<u64>, mode: FlushMode) -> Result<(), MappingError> {
        match (mode, self.opened_entry()) {
            (_, None) => Ok(()),
            // To the kernel no length is all that follows.
            (FlushMode::Async, _) if range.is_empty() => Ok(()),
            (FlushMode::Sync, Some(_)) => self.sync(),
            (FlushMode::Async, Some(entry)) => {
                let len = range.end.saturating_sub(range.start);
                let started = entry.unsynced.start(range.start, len);
                started.map_err(|source| self.io("start writing it to disk", source))
            }
        }
    }

    /// Syncs the file, unmaps all of it and closes it, so that it can be renamed, replaced or deleted.
    /// The next use opens whatever is at the path then.
    ///
    /// # Errors
    ///
    /// [`MappingError::WindowPinned`] while a window is pinned, and what [`sync`](Self::sync) returns:
    /// then the file is not released.
    pub fn release(&mut self) -> Result<(), MappingError> {
        let Some(entry) = self.opened_entry() else {
            return Ok(());
        };
        entry.sync(&self.path())?;
        self.let_go()?;
        self.opened.take();
        Ok(())
    }

    /// As [`release`](Self::release), without syncing first: for a file that is given up, such as one
    /// whose sync has failed, or that somebody has cut. Other handles of the file in this cache have to
    /// be abandoned too: until then they go by what was before.
    ///
    /// # Errors
    ///
    /// [`MappingError::WindowPinned`] while a window is pinned.
    pub fn abandon(&mut self) -> Result<(), MappingError> {
        self.let_go()?;
        if let Some(Opened { entry, .. }) = self.opened.take() {
            // Whoever opens the file next begins anew, also while other handles still hold the entry.
            self.core.unlist(&entry);
        }
        Ok(())
    }

    /// Unmaps and closes the file.
    pub(super) fn let_go(&self) -> Result<(), MappingError> {
        let Some(entry) = self.opened_entry() else {
            return Ok(());
        };
        if Arc::strong_count(entry) == 1 {
            entry.unpin_all_locked();
        }
        let (_, all) = entry.evict_all();
        if !all {
            let (path, offset) = (self.path(), 0);
            return Err(MappingError::WindowPinned { path, offset });
        }
        self.core.descriptors.close(entry.id);
        Ok(())
    }

    /// Does the file lie on a disk with a moving head?
    ///
    /// # Errors
    ///
    /// Those of opening the file.
    pub fn is_rotational(&self) -> Result<bool, MappingError> {
        Ok(self.entry()?.is_rotational())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.location.full_path()
    }

    pub(super) fn io(&self, operation: &'static str, source: io::Error) -> MappingError {
        let path = self.path();
        if is_storage_full(&source) {
            return self.storage_full(0, source);
        }
        MappingError::Io {
            path,
            operation,
            source,
        }
    }

    pub(super) fn storage_full(&self, needed_bytes: u64, source: io::Error) -> MappingError {
        let path = self.path();
        // For the message only; a filesystem that cannot say has none.
        let available_bytes = statvfs::available_bytes(&path).unwrap_or(0);
        MappingError::StorageFull {
            path,
            needed_bytes,
            available_bytes,
            source,
        }
    }

    pub(super) fn short(&self, needed_bytes: u64, present_bytes: u64) -> MappingError {
        let path = self.path();
        MappingError::ShortFile {
            path,
            needed_bytes,
            present_bytes,
        }
    }

    #[inline(always)]
    pub(super) fn opened_entry(&self) -> Option<&Arc<FileEntry>> {
        Some(&self.opened()?.entry)
    }

    #[inline(always)]
    pub(super) fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }

    /// What the cache knows of the file; opens it if that was never done.
    pub(super) fn entry(&self) -> Result<&Arc<FileEntry>, MappingError> {
        match self.opened_entry() {
            Some(entry) => Ok(entry),
            None => Ok(self.descriptor(Access::ReadOnly)?.1),
        }
    }

    /// A descriptor that is open already.
    pub(super) fn descriptor_at_hand(&self, access: Access) -> Option<Arc<File>> {
        let entry = self.opened_entry()?;
        let idle = self.core.descriptors.get(entry.id, access);
        idle.or_else(|| entry.unsynced.file())
    }

    /// A descriptor for copies and questions: one that is there, or a new one.
    pub(super) fn descriptor(
        &self,
        access: Access,
    ) -> Result<(Arc<File>, &Arc<FileEntry>), MappingError> {
        if let Some(file) = self.descriptor_at_hand(access)
            && let Some(entry) = self.opened_entry()
        {
            return Ok((file, entry));
        }
        let (file, access, entry) = self.open_for_copies(access)?;
        let file = Arc::new(file);
        entry.keep(access, file.clone());
        Ok((file, entry))
    }

    /// The first descriptor of a file that may be written allows writing, if it can: an overlay makes
    /// another file of it when it is first opened so, and what was read before would be the old one.
    fn open_for_copies(
        &self,
        access: Access,
    ) -> Result<(File, Access, &Arc<FileEntry>), MappingError> {
        if self.opened_entry().is_none() && self.options.access == Access::ReadWrite {
            match self.open_as(Access::ReadWrite, false) {
                Ok((file, entry)) => return Ok((file, Access::ReadWrite, entry)),
                // Not to be written, or no room to make the overlay's copy.
                Err(MappingError::Io { .. } | MappingError::StorageFull { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let (file, entry) = self.open(access)?;
        Ok((file, access, entry))
    }

    /// Opens the file at its path and checks that it is the one it was before (hazard 39).
    pub(super) fn open(&self, access: Access) -> Result<(File, &Arc<FileEntry>), MappingError> {
        // A file that was there and is gone was deleted by somebody: not to be made anew.
        let create = self.options.create && self.opened_entry().is_none();
        self.open_as(access, create)
    }

    fn open_as(
        &self,
        access: Access,
        create: bool,
    ) -> Result<(File, &Arc<FileEntry>), MappingError> {
        let file = self.open_or_create(access, create)?;
        let status = statx::status(&file).map_err(|source| self.io("ask its status", source))?;
        if status.kind != FileType::RegularFile {
            let (path, found) = (self.path(), name_of(status.kind));
            return Err(MappingError::NotAFile { path, found });
        }
        let entry = match self.opened_entry() {
            Some(entry) => entry,
            None => {
                let entry = self.core.entry(&status);
                // Under the length lock: no length counts that a failed write is about to take back.
                {
                    let _length = entry.lock_length();
                    let present = statx::len(&file);
                    entry.saw_len(present.map_err(|error| self.io("ask its length", error))?);
                }
                let (slots, shared) = (entry.slots.clone(), entry.shared.clone());
                let opened = Opened {
                    entry,
                    slots,
                    shared,
                };
                &self.opened.get_or_init(|| opened).entry
            }
        };
        if entry.identity != status.identity {
            let path = self.path();
            return Err(MappingError::Replaced { path });
        }
        Ok((file, entry))
    }

    /// Begins a write: the file has its descriptor before anything changes.
    pub(super) fn begin_write(&self) -> Result<Writing<'_>, MappingError> {
        if self.options.access == Access::ReadOnly {
            let path = self.path();
            return Err(MappingError::ReadOnly { path });
        }
        if let Some(entry) = self.opened_entry()
            && let Some(file) = entry.unsynced.join()
        {
            return Ok(Writing { entry, file });
        }
        self.core.descriptors.make_room_for_unsynced();
        let idle = self.opened_entry().and_then(|entry| {
            let file = self.core.descriptors.take_writable(entry.id)?;
            Some((file, entry))
        });
        let (file, entry) = match idle {
            Some(idle) => idle,
            None => {
                let (file, entry) = self.open(Access::ReadWrite)?;
                (Arc::new(file), entry)
            }
        };
        let (file, taken) = entry.unsynced.begin(file);
        if taken {
            let weak = Arc::downgrade(entry);
            self.core.descriptors.note_unsynced(entry.id, weak);
        }
        Ok(Writing { entry, file })
    }

    fn open_or_create(&self, access: Access, create: bool) -> Result<File, MappingError> {
        let writable = access == Access::ReadWrite;
        let mut retried = false;
        loop {
            let mut opened = self.location.open(writable);
            if writable
                && create
                && opened
                    .as_ref()
                    .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            {
                opened = self.location.create(&self.directories);
                // Somebody else created it at the same moment.
                if opened
                    .as_ref()
                    .is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
                {
                    if let Some(folder) = self.path().parent() {
                        self.directories.note(folder.to_path_buf());
                    }
                    opened = self.location.open(writable);
                }
            }
            match opened {
                Ok(file) => return Ok(file),
                Err(error) if is_out_of_descriptors(&error) && !retried => {
                    retried = true;
                    self.core.descriptors.close_all();
                }
                Err(error) => return Err(self.open_error(error)),
            }
        }
    }

    fn open_error(&self, source: io::Error) -> MappingError {
        let path = self.path();
        if is_out_of_descriptors(&source) {
            let descriptors_max = rlimits::descriptors_max();
            return MappingError::TooManyDescriptors {
                path,
                descriptors_max,
            };
        }
        match source.raw_os_error() {
            Some(libc::ENOENT) => MappingError::Missing { path },
            Some(libc::EXDEV) => MappingError::OutsideRoot { path },
            Some(libc::ELOOP) => MappingError::NotAFile {
                path,
                found: "a symlink",
            },
            Some(libc::EISDIR) => MappingError::NotAFile {
                path,
                found: "a directory",
            },
            Some(libc::ENXIO | libc::ENODEV) => MappingError::NotAFile {
                path,
                found: "a socket, FIFO or device",
            },
            _ => self.io("open it", source),
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::Symlink => "a symlink",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    }
}

impl CachedFile {
    /// The first run of data at or after `offset`, holes skipped, up to `end`; `None` where only holes
    /// follow. A filesystem that cannot tell has no holes.
    ///
    /// # Errors
    ///
    /// Those of opening the file.
    pub fn next_data(&self, offset: u64, end: u64) -> Result<Option<Range<u64>>, MappingError> {
        if !self.entry()?.may_have_holes() {
            return Ok(Some(offset..end));
        }
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        // The end of the file is a hole to the kernel; to us it is missing.
        let present = statx::len(&file).map_err(|source| self.io("ask its length", source))?;
        if offset >= present {
            return Ok(Some(offset..end));
        }
        Ok(match sys::seek_data::next_data(&file, offset) {
            Ok(Some(run)) if run.start >= end => None,
            Ok(Some(run)) => Some(run.start..run.end.min(end)),
            Ok(None) if present < end => Some(present..end),
            Ok(None) => None,
            Err(_) => Some(offset..end),
        })
    }
}
