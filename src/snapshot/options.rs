//! Options of a store.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::error::SnapshotError;
use super::format::{PAGE_BYTES, PAGES_MAX, is_part_length};
use super::memory::Standstill;
use super::modes::{Changes, Durability, OnClose, Restore, Strategy};
use super::tracker::{TrackerChoice, Writers};

/// Source of the memory of a store.
///
/// Other processes can map a memfd, too ([`Store::memory_fd`](super::Store::memory_fd)). They do
/// not use the access lock of the store. A checkpoint then has each page as it was at some time
/// during the checkpoint, or since the checkpoint before. It is one point in time only if these
/// processes pause or use a protocol of their own.
///
/// Their changes are found by comparing pages, unless the caller guarantees that no other process
/// writes the memory ([`StoreOptions::memory_writers`]). No references to such memory exist, so it
/// needs [`Changes::Writers`], and it is restored by copying.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Memory {
    /// Private memory of this process.
    #[default]
    Private,
    /// A new memfd with a shrink seal.
    Shared,
    /// An existing memfd without a shrink seal.
    ///
    /// Its content is discarded, the state of the store is restored into it, and the shrink seal is
    /// added. If opening fails, it gets no seal and can be used again.
    Adopted(Arc<OwnedFd>),
    /// An existing memfd with a shrink seal.
    ///
    /// Its content is kept and is the new state. The first checkpoint writes every page. The stored
    /// state is verified, but not restored.
    Live(Arc<OwnedFd>),
}

impl Memory {
    /// Returns [`Adopted`](Self::Adopted) with a memfd.
    #[must_use]
    pub fn adopted(memfd: impl Into<OwnedFd>) -> Self {
        Self::Adopted(Arc::new(memfd.into()))
    }

    /// Returns [`Live`](Self::Live) with a memfd.
    #[must_use]
    pub fn live(memfd: impl Into<OwnedFd>) -> Self {
        Self::Live(Arc::new(memfd.into()))
    }
}

/// Callback for errors of the background thread.
#[derive(Clone)]
pub(crate) struct ErrorCallback(pub(crate) Arc<dyn Fn(&SnapshotError) + Send + Sync>);

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
/// use flatspan::snapshot::{Changes, StoreOptions};
///
/// let options = StoreOptions::default()
///     .changes(Changes::Writers)
///     .initial_bytes(1 << 20)
///     .checkpoint_every(Duration::from_secs(10));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct StoreOptions {
    pub(crate) changes: Changes,
    pub(crate) memory: Memory,
    pub(crate) memory_writers: Writers,
    pub(crate) durability: Durability,
    pub(crate) restore: Restore,
    pub(crate) strategy: Strategy,
    pub(crate) tracker: TrackerChoice,
    pub(crate) on_close: OnClose,
    pub(crate) second_heap: Option<bool>,
    pub(crate) create: bool,
    pub(crate) initial_bytes: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) part_bytes: Option<u64>,
    pub(crate) change_part_bytes: bool,
    pub(crate) address: Option<usize>,
    pub(crate) huge_pages: bool,
    pub(crate) journal_bytes_max: Option<u64>,
    pub(crate) checkpoint_every: Option<Duration>,
    pub(crate) gate_timeout: Option<Duration>,
    pub(crate) readers_timeout: Duration,
    pub(crate) standstill: Option<Arc<dyn Standstill>>,
    pub(crate) follow_memory: bool,
    pub(crate) on_background_error: Option<ErrorCallback>,
}

impl Default for StoreOptions {
    /// Returns options for a store with transactions that survive power failures.
    ///
    /// The store is restored by copying and created if it does not exist. It reserves 64 GiB of
    /// addresses (1 GiB on 32-bit systems) and has parts of 256 MiB.
    fn default() -> Self {
        Self {
            changes: Changes::default(),
            memory: Memory::default(),
            memory_writers: Writers::default(),
            durability: Durability::default(),
            restore: Restore::default(),
            strategy: Strategy::default(),
            tracker: TrackerChoice::default(),
            on_close: OnClose::default(),
            second_heap: None,
            create: true,
            initial_bytes: 0,
            reserve_bytes: if cfg!(target_pointer_width = "32") {
                1 << 30
            } else {
                64 << 30
            },
            part_bytes: None,
            change_part_bytes: false,
            address: None,
            huge_pages: false,
            journal_bytes_max: None,
            checkpoint_every: None,
            gate_timeout: None,
            readers_timeout: Duration::from_secs(1),
            standstill: None,
            follow_memory: false,
            on_background_error: None,
        }
    }
}

impl StoreOptions {
    /// Sets how the memory is written.
    pub fn changes(mut self, changes: Changes) -> Self {
        self.changes = changes;
        self
    }

    /// Sets the source of the memory.
    pub fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// Sets the scope of writers of the memory. With [`Writers::OnlyThisMapping`] the caller
    /// guarantees that a memfd is written through this store only. Trackers that see no other
    /// writes can then be used.
    pub fn memory_writers(mut self, writers: Writers) -> Self {
        self.memory_writers = writers;
        self
    }

    /// Sets which failures a commit survives.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets how a checkpoint captures the memory.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets how changed pages are found with [`Changes::Writers`].
    pub fn tracker(mut self, tracker: TrackerChoice) -> Self {
        self.tracker = tracker;
        self
    }

    /// Sets what happens to the fallback heap when the store is closed.
    pub fn on_close(mut self, on_close: OnClose) -> Self {
        self.on_close = on_close;
        self
    }

    /// Sets whether the background thread creates a missing second heap, as after
    /// [`OnClose::DropOlder`]; see [`Store::make_second_heap`](super::Store::make_second_heap).
    ///
    /// Defaults to true for a store with background checkpoints. An error is
    /// [reported](Self::on_background_error). The next base checkpoint then creates the heap and
    /// writes every page.
    pub fn second_heap(mut self, second_heap: bool) -> Self {
        self.second_heap = Some(second_heap);
        self
    }

    /// Sets whether a missing store is created. Otherwise a missing store is an error. Defaults to
    /// true.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets the length of the region of a new store, rounded up to pages of 4096 bytes. A shorter
    /// existing region is extended. Defaults to 0.
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
    /// length of an existing store is an error, unless it is [converted](Self::change_part_bytes).
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = Some(bytes);
        self
    }

    /// Sets whether an existing store is converted to parts of [`part_bytes`](Self::part_bytes).
    /// Defaults to false.
    ///
    /// Opening writes nothing. The next base checkpoint writes one heap with the new part length,
    /// and the base checkpoint after it the other heap. Each writes every page. A crash in between
    /// leaves heaps with different part lengths, which is a valid store. Opened without this
    /// option, it continues with the part length of the newer heap. A heap that is
    /// [mapped](Self::restore_by_map) keeps its part length while it is mapped.
    pub fn change_part_bytes(mut self, change: bool) -> Self {
        self.change_part_bytes = change;
        self
    }

    /// Sets the address of the region. Defaults to any address.
    pub fn address(mut self, address: usize) -> Self {
        self.address = Some(address);
        self
    }

    /// Sets whether the region uses transparent huge pages. Defaults to false.
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// Sets the journal length that triggers a base checkpoint in the background. Defaults to a
    /// quarter of the region, and at least 64 MiB.
    pub fn journal_bytes_max(mut self, bytes: u64) -> Self {
        self.journal_bytes_max = Some(bytes);
        self
    }

    /// Sets the interval of background checkpoints. Defaults to none.
    pub fn checkpoint_every(mut self, every: Duration) -> Self {
        self.checkpoint_every = Some(every);
        self
    }

    /// Sets a callback for errors of background checkpoints and of the creation of the second heap.
    ///
    /// The background thread calls it. Closing and dropping the store wait for the call to return.
    /// [`Store::background_error`](super::Store::background_error) returns the last error.
    pub fn on_background_error(
        mut self,
        callback: impl Fn(&SnapshotError) + Send + Sync + 'static,
    ) -> Self {
        self.on_background_error = Some(ErrorCallback(Arc::new(callback)));
        self
    }

    /// Sets how long callers and checkpoints wait for the access lock. Defaults to no limit.
    /// [`SnapshotError::GateTimeout`] names the holder.
    pub fn gate_timeout(mut self, timeout: Duration) -> Self {
        self.gate_timeout = Some(timeout);
        self
    }

    /// Sets how long a base checkpoint waits for readers of its target heap. Afterwards it fails or
    /// becomes a delta checkpoint. Defaults to 1 s.
    pub fn readers_timeout(mut self, timeout: Duration) -> Self {
        self.readers_timeout = timeout;
        self
    }

    /// Sets how external writers are stopped at the point in time of a checkpoint. They run while
    /// the checkpoint scans for changed pages before, and while it waits for the disk.
    pub fn standstill(mut self, standstill: Arc<dyn Standstill>) -> Self {
        self.standstill = Some(standstill);
        self
    }

    /// Sets whether each checkpoint extends the region to the length of its memfd. Defaults to
    /// false.
    ///
    /// The checkpoint does so while writers are paused and external writers are
    /// [stopped](Self::standstill). An image is then as long as the memory was at its point in
    /// time. Otherwise the region keeps its length until [`resize`](super::Store::resize) or
    /// [`Store::follow_memory`](super::Store::follow_memory), and no checkpoint has the bytes after
    /// its end.
    ///
    /// This is for memory that programs without this store extend ([`Memory::Shared`],
    /// [`Memory::Adopted`], [`Memory::Live`]), which needs [`Changes::Writers`]. It has no effect
    /// on [`Memory::Private`].
    ///
    /// - The region never shrinks.
    /// - If the memfd ends within a page, the whole page belongs to the region. Its rest is zeros.
    /// - If the memfd is longer than [`reserve_bytes`](Self::reserve_bytes), the checkpoint fails
    ///   with [`SnapshotError::Memory`] and stores nothing. Reserve enough, since addresses cost
    ///   nothing.
    /// - New pages are copied while writers are paused. If many are expected, call
    ///   `Store::follow_memory` before each checkpoint: most pages are then copied before the
    ///   pause.
    pub fn follow_memory(mut self, follow: bool) -> Self {
        self.follow_memory = follow;
        self
    }

    /// Returns the part length to convert to.
    pub(crate) fn changed_part_bytes(&self) -> Option<u64> {
        self.part_bytes.filter(|_| self.change_part_bytes)
    }

    /// Checks the options that need no stored state.
    pub(crate) fn check(&self) -> Result<(), SnapshotError> {
        let page = PAGE_BYTES as u64;
        let refused = |option, reason: String| Err(SnapshotError::Option { option, reason });
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
        if !matches!(self.memory, Memory::Private) {
            if self.changes == Changes::Transactions {
                let reason = "transactions and views use references to the memory, and other processes may \
                              write a memfd: set Changes::Writers";
                return refused("memory", reason.to_owned());
            }
            if self.restore == Restore::Map {
                let reason = "a memfd is restored by copying, and `restore_by_map` maps files as private memory";
                return refused("memory", reason.to_owned());
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
