//! Options of a store.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::error::StoreError;
use super::format::{PAGE_BYTES, PAGES_MAX, is_part_length};
use super::memory::Quiesce;
use super::modes::{CaptureMode, Durability, OnClose, Restore, WriteMode};
use super::tracker::{TrackerChoice, WriterScope};

/// Source of the memory of a store.
///
/// Other processes can map a memfd, too ([`Store::memfd`](super::Store::memfd)). They do
/// not use the access lock of the store. A checkpoint then has each page as it was at some time
/// during the checkpoint, or after the previous one. It is one point in time only if these
/// processes pause or use a protocol of their own.
///
/// Changes by other processes are found by comparing pages, unless the caller guarantees that no
/// other process writes the memory ([`StoreOptions::writer_scope`]). No references to such memory
/// exist, so it needs [`WriteMode::Tracked`], and it is restored by copying.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum MemorySource {
    /// Private memory of this process.
    #[default]
    Private,
    /// A new memfd with a shrink seal.
    NewMemfd,
    /// An existing memfd without a shrink seal.
    ///
    /// Its content is discarded, the state of the store is restored into it, and the shrink seal is
    /// added. If opening fails, it gets no seal and can be used again.
    RestoreInto(Arc<OwnedFd>),
    /// An existing memfd with a shrink seal.
    ///
    /// Its content is kept and is the new state. The first checkpoint writes every page. The stored
    /// state is verified, but not restored.
    Attach(Arc<OwnedFd>),
}

impl MemorySource {
    /// Returns the variant [`RestoreInto`](Self::RestoreInto). Opening restores the state into
    /// `memfd`.
    #[must_use]
    pub fn restore_into(memfd: impl Into<OwnedFd>) -> Self {
        Self::RestoreInto(Arc::new(memfd.into()))
    }

    /// Returns the variant [`Attach`](Self::Attach), which keeps the content of `memfd`.
    #[must_use]
    pub fn attach(memfd: impl Into<OwnedFd>) -> Self {
        Self::Attach(Arc::new(memfd.into()))
    }
}

/// Callback for errors of the background thread.
#[derive(Clone)]
pub(crate) struct ErrorCallback(pub(crate) Arc<dyn Fn(&StoreError) + Send + Sync>);

impl fmt::Debug for ErrorCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErrorCallback")
    }
}

/// Options of a [`Store`](super::Store).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use flatspan::snapshot::{StoreOptions, WriteMode};
///
/// let options = StoreOptions::default()
///     .write_mode(WriteMode::Tracked)
///     .initial_bytes(1 << 20)
///     .checkpoint_interval(Duration::from_secs(10));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct StoreOptions {
    pub(crate) write_mode: WriteMode,
    pub(crate) memory_source: MemorySource,
    pub(crate) writer_scope: WriterScope,
    pub(crate) durability: Durability,
    pub(crate) restore: Restore,
    pub(crate) capture_mode: CaptureMode,
    pub(crate) tracker: TrackerChoice,
    pub(crate) on_close: OnClose,
    pub(crate) create_second_heap: Option<bool>,
    pub(crate) create: bool,
    pub(crate) initial_bytes: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) part_bytes: Option<u64>,
    pub(crate) convert_part_bytes: bool,
    pub(crate) fixed_address: Option<usize>,
    pub(crate) huge_pages: bool,
    pub(crate) journal_bytes_max: Option<u64>,
    pub(crate) checkpoint_interval: Option<Duration>,
    pub(crate) lock_timeout: Option<Duration>,
    pub(crate) reader_timeout: Duration,
    pub(crate) quiesce_with: Option<Arc<dyn Quiesce>>,
    pub(crate) grow_with_memfd: bool,
    pub(crate) on_background_error: Option<ErrorCallback>,
}

impl Default for StoreOptions {
    /// Returns options for a store with transactions that survive power failures.
    ///
    /// The store is restored by copying and created if it does not exist. It reserves 64 GiB of
    /// addresses (1 GiB on 32-bit systems) and has parts of 256 MiB.
    fn default() -> Self {
        Self {
            write_mode: WriteMode::default(),
            memory_source: MemorySource::default(),
            writer_scope: WriterScope::default(),
            durability: Durability::default(),
            restore: Restore::default(),
            capture_mode: CaptureMode::default(),
            tracker: TrackerChoice::default(),
            on_close: OnClose::default(),
            create_second_heap: None,
            create: true,
            initial_bytes: 0,
            reserve_bytes: if cfg!(target_pointer_width = "32") {
                1 << 30
            } else {
                64 << 30
            },
            part_bytes: None,
            convert_part_bytes: false,
            fixed_address: None,
            huge_pages: false,
            journal_bytes_max: None,
            checkpoint_interval: None,
            lock_timeout: None,
            reader_timeout: Duration::from_secs(1),
            quiesce_with: None,
            grow_with_memfd: false,
            on_background_error: None,
        }
    }
}

impl StoreOptions {
    /// Sets how the memory is written. Defaults to [`WriteMode::Transactions`]. The store does not
    /// record the mode: set it each time the store is opened.
    pub fn write_mode(mut self, write_mode: WriteMode) -> Self {
        self.write_mode = write_mode;
        self
    }

    /// Sets the source of the memory. Defaults to [`MemorySource::Private`].
    pub fn memory_source(mut self, memory_source: MemorySource) -> Self {
        self.memory_source = memory_source;
        self
    }

    /// Sets the scope of writers of the memory. With [`WriterScope::ThisMapping`] the caller
    /// guarantees that a memfd is written through this store only. Trackers that see no other
    /// writes can then be used. Defaults to [`WriterScope::AnyMapping`].
    pub fn writer_scope(mut self, writer_scope: WriterScope) -> Self {
        self.writer_scope = writer_scope;
        self
    }

    /// Sets which failures a commit survives. Defaults to [`Durability::Power`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets how a checkpoint captures the memory. Defaults to [`CaptureMode::PreCopy`].
    pub fn capture_mode(mut self, capture_mode: CaptureMode) -> Self {
        self.capture_mode = capture_mode;
        self
    }

    /// Sets how changed pages are found with [`WriteMode::Tracked`]. Defaults to
    /// [`TrackerChoice::Auto`].
    pub fn tracker(mut self, tracker: TrackerChoice) -> Self {
        self.tracker = tracker;
        self
    }

    /// Sets what happens to the fallback heap when the store is closed. Defaults to
    /// [`OnClose::KeepBoth`].
    pub fn on_close(mut self, on_close: OnClose) -> Self {
        self.on_close = on_close;
        self
    }

    /// Sets whether the background thread creates a missing second heap, as after
    /// [`OnClose::RemoveOlder`]; see
    /// [`Store::create_second_heap`](super::Store::create_second_heap).
    ///
    /// Defaults to true for a store with background checkpoints. An error is
    /// [reported](Self::on_background_error). The next base checkpoint then creates the heap and
    /// writes every page.
    pub fn create_second_heap(mut self, second_heap: bool) -> Self {
        self.create_second_heap = Some(second_heap);
        self
    }

    /// Sets whether a missing store is created, with the missing directories of its path. Otherwise
    /// a missing store is an error. Defaults to true.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets the length of the region of a new store, rounded up to pages of 4096 bytes. A shorter
    /// existing region is extended. Defaults to 0.
    ///
    /// A new store with the default has a region of 0 bytes, so that every access is out of bounds.
    /// Set this option, or call [`Transaction::resize`](super::Transaction::resize) or
    /// [`Store::resize`](super::Store::resize). The region starts at a multiple of 4096 in memory.
    pub fn initial_bytes(mut self, bytes: u64) -> Self {
        self.initial_bytes = bytes;
        self
    }

    /// Sets how many bytes of addresses are reserved. The region grows up to this length without
    /// moving. Defaults to 64 GiB, or 1 GiB on 32-bit systems.
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// Sets the part length of a new store: a multiple of 64 KiB. Defaults to 256 MiB. Another part
    /// length of an existing store is an error, unless it is [converted](Self::convert_part_bytes).
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = Some(bytes);
        self
    }

    /// Sets whether an existing store with another part length is converted to that of
    /// [`part_bytes`](Self::part_bytes). Defaults to false: then another part length is an error.
    ///
    /// Opening writes nothing. The next base checkpoint writes one heap with the new part length,
    /// and the base checkpoint after it the other heap. Each writes every page. A crash in between
    /// leaves heaps with different part lengths, which is a valid store. Opened without this
    /// option, it continues with the part length of the newer heap. A heap that is
    /// [mapped](Self::restore_by_map) keeps its part length while it is mapped.
    pub fn convert_part_bytes(mut self, convert: bool) -> Self {
        self.convert_part_bytes = convert;
        self
    }

    /// Sets the address of the region. Defaults to any address.
    pub fn fixed_address(mut self, address: usize) -> Self {
        self.fixed_address = Some(address);
        self
    }

    /// Sets whether the region uses transparent huge pages. Defaults to false.
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// Sets the journal length that triggers a base checkpoint in the background. Defaults to a
    /// quarter of the region, and at least 64 MiB.
    ///
    /// Opening the store replays the journal. A smaller value makes opening after a crash faster,
    /// and causes more base checkpoints.
    pub fn journal_bytes_max(mut self, bytes: u64) -> Self {
        self.journal_bytes_max = Some(bytes);
        self
    }

    /// Sets the interval of background checkpoints. Defaults to none: then only the
    /// [journal length](Self::journal_bytes_max) triggers them.
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.checkpoint_interval = Some(interval);
        self
    }

    /// Sets a callback for errors of background checkpoints and of the creation of the second heap.
    ///
    /// The background thread calls it. Closing and dropping the store wait for the call to return.
    /// [`Store::background_error`](super::Store::background_error) returns the last error.
    pub fn on_background_error(
        mut self,
        callback: impl Fn(&StoreError) + Send + Sync + 'static,
    ) -> Self {
        self.on_background_error = Some(ErrorCallback(Arc::new(callback)));
        self
    }

    /// Sets how long callers and checkpoints wait for the access lock. Defaults to no limit.
    /// [`StoreError::LockTimeout`] names the holder.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = Some(timeout);
        self
    }

    /// Sets how long a base checkpoint waits for readers of its target heap. Afterwards it fails or
    /// becomes a delta checkpoint. Defaults to 1 s.
    pub fn reader_timeout(mut self, timeout: Duration) -> Self {
        self.reader_timeout = timeout;
        self
    }

    /// Sets how external writers are stopped at the point in time of a checkpoint. They run
    /// during the earlier scans of the checkpoint, and while it waits for the disk.
    pub fn quiesce_with(mut self, quiesce: Arc<dyn Quiesce>) -> Self {
        self.quiesce_with = Some(quiesce);
        self
    }

    /// Sets whether each checkpoint extends the region to the length of its memfd. Defaults to
    /// false.
    ///
    /// The checkpoint does so while writers are paused and external writers are
    /// [stopped](Self::quiesce_with). An image is then as long as the memory was at its point in
    /// time. Otherwise the region keeps its length until [`resize`](super::Store::resize) or
    /// [`Store::grow_to_memfd`](super::Store::grow_to_memfd), and no checkpoint has the bytes after
    /// its end.
    ///
    /// This is for memory that programs without this store extend ([`MemorySource::NewMemfd`],
    /// [`MemorySource::RestoreInto`], [`MemorySource::Attach`]), which needs
    /// [`WriteMode::Tracked`]. It has no effect on [`MemorySource::Private`].
    ///
    /// - The region never shrinks.
    /// - If the memfd ends within a page, the whole page belongs to the region. Its rest is zeros.
    /// - If the memfd is longer than [`reserve_bytes`](Self::reserve_bytes), the checkpoint fails
    ///   with [`StoreError::Region`] and stores nothing. Reserve enough, since addresses cost
    ///   nothing.
    /// - New pages are copied while writers are paused. If many are expected, call
    ///   `Store::grow_to_memfd` before each checkpoint: most pages are then copied before the
    ///   pause.
    pub fn grow_with_memfd(mut self, grow: bool) -> Self {
        self.grow_with_memfd = grow;
        self
    }

    /// Returns the part length to convert to.
    pub(crate) fn changed_part_bytes(&self) -> Option<u64> {
        self.part_bytes.filter(|_| self.convert_part_bytes)
    }

    /// Checks the options that need no stored state.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let page = PAGE_BYTES as u64;
        let refused = |option, reason: String| Err(StoreError::InvalidOption { option, reason });
        if let Some(bytes) = self.part_bytes
            && !is_part_length(bytes)
        {
            return refused("part_bytes", format!("{bytes} is not a multiple of 64 KiB"));
        }
        if self.reserve_bytes < page
            || self.reserve_bytes / page > PAGES_MAX
            || usize::try_from(self.reserve_bytes).is_err()
        {
            let reason = format!("cannot reserve {} bytes of addresses", self.reserve_bytes);
            return refused("reserve_bytes", reason);
        }
        if !matches!(self.memory_source, MemorySource::Private) {
            if self.write_mode == WriteMode::Transactions {
                let reason = "transactions and views use references to the memory, and other processes may \
                              write a memfd: set WriteMode::Tracked";
                return refused("memory_source", reason.to_owned());
            }
            if self.restore == Restore::Map {
                let reason = "a memfd is restored by copying, and `restore_by_map` maps files as private memory";
                return refused("memory_source", reason.to_owned());
            }
        }
        if self.initial_bytes > self.reserve_bytes {
            let reason = format!(
                "{} is more than the {} reserved",
                self.initial_bytes, self.reserve_bytes
            );
            return refused("initial_bytes", reason);
        }
        Ok(())
    }
}
