//! Public handle of an open store.
//!
//! # Safety
//!
//! A view holds shared access, which excludes transactions, so nothing changes the memory while its
//! slice exists. Captures only copy. A tracked store has no slices except through `unsafe`
//! (docs/unsafe.md).
#![expect(unsafe_code, reason = "a slice of the region for views")]

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use super::open;
use super::report::OpenReport;
use super::transaction::Transaction;
use super::write_guard::WriteGuard;
use crate::numbers::{Generation, Sequence};
use crate::snapshot::backend::StorageBackend;
use crate::snapshot::checkpoint::{
    BackgroundCheckpoints, CheckpointKind, CheckpointReport, CopyProgress, StoreInner,
};
use crate::snapshot::error::StoreError;
use crate::snapshot::format::StoreId;
use crate::snapshot::memory::StoreMemory;
use crate::snapshot::modes::{Restore, WriteMode};
use crate::snapshot::options::{MemorySource, StoreOptions};
use crate::snapshot::store_files::StoreFiles;

/// Directory that persists one region of memory: two NVHeaps with checksum trees, and a journal.
///
/// One process writes a store at a time. Dropping a store leaves it as a crash would, and loses
/// nothing that was acknowledged. [`close`](Self::close) makes the next opening faster.
///
/// # Examples
///
/// ```no_run
/// use flatspan::snapshot::{Store, StoreOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::open("/var/lib/counter", StoreOptions::default().initial_bytes(4096))?;
/// let count = store.transaction(|tx| {
///     let count = tx.bytes()[0].wrapping_add(1);
///     tx.write_at(0, &[count])?;
///     Ok(count)
/// })?;
/// assert_eq!(store.view(|bytes| bytes[0])?, count);
/// store.close()?;
/// # Ok(())
/// # }
/// ```
pub struct Store {
    inner: Arc<StoreInner>,
    background: Option<BackgroundCheckpoints>,
    report: OpenReport,
}

impl StoreOptions {
    /// Maps the files of the heap privately instead of reading them.
    ///
    /// The time to open the store is then independent of its size, and only used pages occupy
    /// memory. After an unclean shutdown all pages are still read once to verify them. After a
    /// clean shutdown they are verified before the first base checkpoint.
    ///
    /// # Safety
    ///
    /// While the store is open, no other program changes or truncates the files of its heaps:
    /// slices of the memory show these files. An unreadable page raises SIGBUS, unless the
    /// [handler](crate::mapping_cache::install_sigbus_handler) is installed. The handler poisons
    /// the store.
    pub unsafe fn restore_by_map(mut self) -> Self {
        self.restore = Restore::Map;
        self
    }
}

impl Store {
    /// Opens the store in a directory, or creates it with the missing directories of its path.
    ///
    /// Opening replays the journal, so its time grows with the commits since the last base
    /// checkpoint. [`StoreOptions::journal_bytes_max`] and [`StoreOptions::checkpoint_interval`]
    /// bound it. After [`close`](Self::close) the journal is empty.
    ///
    /// # Errors
    ///
    /// The store is not modified on these errors.
    ///
    /// - [`StoreError::InUse`] if another process, or another `Store` of this process, has the
    ///   store open.
    /// - [`StoreError::InvalidOption`] if an option is unusable.
    /// - [`StoreError::NotAStore`] if the directory has other files.
    /// - [`StoreError::HeapSelection`] if the headers lead to no heap.
    /// - [`StoreError::Corrupt`] if the journal is corrupt.
    /// - [`StoreError::NoUsableHeap`] if neither heap can be restored.
    /// - [`StoreError::Directory`] if there is no store and [`StoreOptions::create`] is `false`.
    /// - [`StoreError::Directory`] and [`StoreError::Backend`] if an operation of the system
    ///   fails.
    pub fn open(directory: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        Self::start(open::in_directory(directory.as_ref(), options)?)
    }

    /// Opens a store with a storage backend, without locks: for tests, and for storage without a
    /// directory.
    ///
    /// # Errors
    ///
    /// - The errors of [`open`](Self::open).
    pub fn open_with_backend(
        backend: Arc<dyn StorageBackend>,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        Self::start(open::with_backend(backend, options)?)
    }

    fn start((inner, report): (StoreInner, OpenReport)) -> Result<Self, StoreError> {
        let memory = &inner.parts.memory;
        let options = &inner.parts.options;
        if memory.len() < options.initial_bytes {
            // The new pages are in neither heap, and are durable with the next checkpoint or
            // transaction.
            memory.resize_tracked(memory.whole_pages(options.initial_bytes)?)?;
        }
        if let MemorySource::RestoreInto(_) = options.memory_source {
            // The shrink seal marks the memfd as restored, so it comes last [I25].
            memory.region.seal_shrink()?;
        }
        let inner = Arc::new(inner);
        let background = BackgroundCheckpoints::start(&inner);
        Ok(Self {
            inner,
            background,
            report,
        })
    }

    /// Returns the report of opening the store.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.report
    }

    /// Returns the id of the store.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.files().id
    }

    /// Returns the length of the region in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.memory().len()
    }

    /// Returns whether the region has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the durable generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.files().generation()
    }

    /// Returns the sequence number of the last durable transaction.
    #[must_use]
    pub fn durable_sequence(&self) -> Sequence {
        Sequence::new(self.files().journal.durable())
    }

    /// Returns the address of the region: a multiple of the page length, 4096. It is constant while
    /// the store exists. Using it is `unsafe`: the caller needs a guard of
    /// [`write_guard`](Self::write_guard), and the other writers must permit the access.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.memory().region.as_ptr()
    }

    /// Returns the memfd of the memory for other processes, or `None` for
    /// [`MemorySource::Private`]. It may be longer than the region. A checkpoint covers the first
    /// [`len`](Self::len) bytes.
    #[must_use]
    pub fn memfd(&self) -> Option<BorrowedFd<'_>> {
        self.memory().region.as_fd()
    }

    /// Calls `look` with a shared view of the memory.
    ///
    /// Views run concurrently, and a transaction waits for them. The data may not be durable: call
    /// [`wait_durable`](Self::wait_durable) before acting on it outside of the process.
    ///
    /// # Errors
    ///
    /// - [`StoreError::WrongMode`] if the store was not opened with [`WriteMode::Transactions`].
    /// - [`StoreError::WouldDeadlock`] inside of a transaction.
    /// - [`StoreError::LockTimeout`] if a transaction holds the access lock for too long.
    /// - [`StoreError::MemoryLost`] if a page of the memory could not be read.
    pub fn view<R>(&self, look: impl FnOnce(&[u8]) -> R) -> Result<R, StoreError> {
        self.require(WriteMode::Transactions, "view", "Transactions")?;
        let memory = self.memory();
        let _access = memory.lock_shared("view")?;
        let region = &memory.region;
        // SAFETY: the region has this many bytes. Its bytes and its length change under exclusive
        // access only, which the shared access of this thread excludes.
        let bytes = unsafe { std::slice::from_raw_parts(region.as_ptr().as_ptr(), region.len()) };
        let result = look(bytes);
        memory.check_intact()?;
        Ok(result)
    }

    /// Begins a transaction. Dropping it undoes its changes.
    ///
    /// [`Transaction::commit`] makes the changes durable. This form works with any error type of
    /// the caller; see [`transaction`](Self::transaction) for a closure.
    ///
    /// # Errors
    ///
    /// - [`StoreError::WrongMode`] if the store was not opened with [`WriteMode::Transactions`].
    /// - [`StoreError::WouldDeadlock`] inside of a transaction or view of the same thread.
    /// - [`StoreError::LockTimeout`] if another thread holds the access lock for too long.
    /// - [`StoreError::Poisoned`] if an earlier error poisoned the store.
    /// - [`StoreError::Backend`] if a journal file cannot be created.
    pub fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        self.begin_for("begin")
    }

    /// Calls `change` with a transaction and commits it. On `Ok`, all changes are durable. If the
    /// closure returns an error or panics, all changes are undone.
    ///
    /// # Errors
    ///
    /// - The error that the closure returns.
    /// - The errors of [`begin`](Self::begin) and [`Transaction::commit`].
    pub fn transaction<R>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let mut transaction = self.begin_for("transaction")?;
        let result = change(&mut transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    fn begin_for(&self, method: &'static str) -> Result<Transaction<'_>, StoreError> {
        self.require(WriteMode::Transactions, method, "Transactions")?;
        self.files().check()?;
        self.memory().refuse_nested(method)?;
        self.files().journal.make_ready()?;
        let access = self.memory().lock_exclusive(method)?;
        let parts = &self.inner.parts;
        Ok(Transaction::new(parts, self.background.as_ref(), access))
    }

    /// Waits until a transaction is durable.
    ///
    /// # Errors
    ///
    /// - [`StoreError::WouldDeadlock`] inside of a transaction, view or write guard.
    /// - [`StoreError::Backend`] or [`StoreError::Poisoned`] if the journal failed. The
    ///   transaction may be durable or not.
    pub fn wait_durable(&self, sequence: Sequence) -> Result<(), StoreError> {
        self.memory().refuse_nested("wait_durable")?;
        self.files().commit(sequence.get())
    }

    /// Returns a guard for writing the memory, next to other writers. A checkpoint waits for all
    /// guards, so it has all changes under one guard or none.
    ///
    /// # Errors
    ///
    /// - [`StoreError::WrongMode`] if the store was not opened with [`WriteMode::Tracked`].
    /// - [`StoreError::LockTimeout`] if a checkpoint holds the access lock for too long.
    pub fn write_guard(&self) -> Result<WriteGuard<'_>, StoreError> {
        self.require(WriteMode::Tracked, "write_guard", "Tracked")?;
        let memory = self.memory();
        Ok(WriteGuard {
            memory,
            _access: memory.lock_shared("write_guard")?,
        })
    }

    /// Sets the length of the region, rounded up to pages of 4096 bytes. See
    /// [`Transaction::resize`] for a store with transactions.
    ///
    /// # Errors
    ///
    /// - [`StoreError::WrongMode`] if the store was not opened with [`WriteMode::Tracked`].
    /// - [`StoreError::InvalidOption`] if the length exceeds the reserved addresses.
    /// - [`StoreError::WouldDeadlock`] under a write guard of the same thread.
    /// - [`StoreError::LockTimeout`] if writers hold the access lock for too long.
    /// - [`StoreError::Region`] if the region cannot be resized.
    pub fn resize(&self, len: u64) -> Result<(), StoreError> {
        self.require(WriteMode::Tracked, "resize", "Tracked")?;
        let memory = self.memory();
        let len = memory.whole_pages(len)?;
        let _access = memory.lock_exclusive("resize")?;
        memory.resize_tracked(len)
    }

    /// Extends the region to the length of its memfd, which another process may have extended, and
    /// returns the length.
    ///
    /// The new bytes keep their content and are in the next checkpoint. If the memfd ends within a
    /// page, the whole page belongs to the region. Does nothing for [`MemorySource::Private`], or
    /// if the region is as long already.
    ///
    /// # Errors
    ///
    /// - [`StoreError::WrongMode`] if the store was not opened with [`WriteMode::Tracked`].
    /// - [`StoreError::Region`] if the memfd is longer than the reserved addresses.
    /// - [`StoreError::WouldDeadlock`] under a write guard of the same thread.
    /// - [`StoreError::LockTimeout`] if writers hold the access lock for too long.
    pub fn grow_to_memfd(&self) -> Result<u64, StoreError> {
        self.require(WriteMode::Tracked, "grow_to_memfd", "Tracked")?;
        let memory = self.memory();
        let _access = memory.lock_exclusive("grow_to_memfd")?;
        memory.grow_to_memfd()?;
        Ok(memory.len())
    }

    /// Makes the present memory durable as a new generation, by the cheaper kind of checkpoint, and
    /// shortens the journal.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Backend`] if the storage fails. The earlier generation stays durable. A
    ///   failed sync poisons the store.
    /// - [`StoreError::WouldDeadlock`] inside of a transaction, view or write guard.
    /// - [`StoreError::LockTimeout`] if writers hold the access lock for too long.
    /// - [`StoreError::Poisoned`] if an earlier error poisoned the store.
    pub fn checkpoint(&self) -> Result<CheckpointReport, StoreError> {
        self.inner.checkpoint(None)
    }

    /// Makes a base checkpoint: into the heap that is not committed.
    ///
    /// # Errors
    ///
    /// - The errors of [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_base(&self) -> Result<CheckpointReport, StoreError> {
        self.inner.checkpoint(Some(CheckpointKind::Base))
    }

    /// Makes a delta checkpoint: into the journal.
    ///
    /// # Errors
    ///
    /// - [`StoreError::WrongMode`] if the store was not opened with [`WriteMode::Tracked`]. The
    ///   journal of other stores has every transaction already.
    /// - The errors of [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_delta(&self) -> Result<CheckpointReport, StoreError> {
        self.require(WriteMode::Tracked, "checkpoint_delta", "Tracked")?;
        self.inner.checkpoint(Some(CheckpointKind::Delta))
    }

    /// Creates the second heap if none exists, as after
    /// [`OnClose::RemoveOlder`](crate::snapshot::OnClose::RemoveOlder), and returns whether it did.
    ///
    /// The heap is a copy of the committed one and shares its storage where the filesystem supports
    /// reflinks. The next base checkpoint then writes the changed pages only. Writers and
    /// checkpoints run meanwhile. A checkpoint waits for one step at most. A base checkpoint
    /// creates the second heap itself and ends the copy. [`StoreOptions::create_second_heap`]
    /// creates the heap in the background.
    ///
    /// # Errors
    ///
    /// - The errors of [`checkpoint`](Self::checkpoint). The second heap then does not exist.
    pub fn create_second_heap(&self) -> Result<bool, StoreError> {
        let timeout = self.inner.parts.options.reader_timeout;
        loop {
            match self.inner.step_of_second_heap(timeout)? {
                CopyProgress::More => {}
                CopyProgress::Made => return Ok(true),
                CopyProgress::NotNeeded => return Ok(false),
            }
        }
    }

    /// Returns the error of the last background checkpoint or of the creation of the second heap.
    /// Returns `None` after a successful checkpoint.
    ///
    /// Acknowledged transactions are durable regardless, but the journal grows. After an error the
    /// background thread waits one second before the next checkpoint. It leaves the second heap to
    /// the next base checkpoint, also if readers hold its lock for a minute. It does no more work
    /// after an error that poisons the store. [`StoreOptions::on_background_error`] reports errors
    /// at once.
    #[must_use]
    pub fn background_error(&self) -> Option<Arc<StoreError>> {
        self.inner.background_error().clone()
    }

    /// Makes everything durable in a base checkpoint, and records a clean shutdown.
    ///
    /// # Errors
    ///
    /// - The errors of [`checkpoint`](Self::checkpoint). The store is then as after a crash.
    pub fn close(mut self) -> Result<(), StoreError> {
        drop(self.background.take());
        self.inner.checkpoint(Some(CheckpointKind::Base))?;
        self.inner.close()
    }

    fn memory(&self) -> &StoreMemory {
        &self.inner.parts.memory
    }

    fn files(&self) -> &StoreFiles {
        &self.inner.parts.files
    }

    /// Fails if the store was opened with another write mode.
    fn require(
        &self,
        changes: WriteMode,
        method: &'static str,
        mode: &'static str,
    ) -> Result<(), StoreError> {
        if self.inner.parts.options.write_mode == changes {
            return Ok(());
        }
        Err(StoreError::WrongMode {
            method,
            required: mode,
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("id", &self.id())
            .field("len", &self.len())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
