//! Options of a store.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::error::SnapshotError;
use super::format::{PAGE_BYTES, PAGES_MAX, is_part_length};
use super::standstill::Standstill;
use super::tracker::{TrackerChoice, Writers};

/// How the memory of a store is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Changes {
    /// By [`Store::transaction`](super::Store::transaction) only: each is durable when it returns, and a checkpoint only makes
    /// the journal shorter.
    #[default]
    Transactions,
    /// By threads that write as they like between [`Store::enter`](super::Store::enter) and its end: what was
    /// there at the last checkpoint comes back.
    Writers,
}

/// What the memory of a store is.
///
/// A memfd can be mapped by other processes too ([`Store::memory_fd`](super::Store::memory_fd)). They stand at no gate: a
/// checkpoint has each page as it was at some time while it was made, or since the one before, and is one instant of
/// all only if they keep still, or see to it by a protocol of their own. What they write is found by comparing, unless
/// the caller vouches that nobody does ([`StoreOptions::memory_writers`]). There are no references to such memory, so that
/// it needs [`Changes::Writers`], and it is restored by copy.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Memory {
    /// Of this process only.
    #[default]
    Private,
    /// A new memfd, sealed against shrinking.
    Shared,
    /// This memfd, which is not sealed against shrinking: what it holds is thrown away, the state of the store is restored into it,
    /// and then it is sealed. When opening fails, it is not sealed and may be adopted again.
    Adopted(Arc<OwnedFd>),
    /// This memfd, which is sealed against shrinking: its content stays, all of it, and is the state from now on; the first
    /// checkpoint writes everything. What the store has is verified and not restored.
    Live(Arc<OwnedFd>),
}

impl Memory {
    /// [`Adopted`](Self::Adopted).
    #[must_use]
    pub fn adopted(memfd: impl Into<OwnedFd>) -> Self {
        Self::Adopted(Arc::new(memfd.into()))
    }

    /// [`Live`](Self::Live).
    #[must_use]
    pub fn live(memfd: impl Into<OwnedFd>) -> Self {
        Self::Live(Arc::new(memfd.into()))
    }
}

/// What a return from a commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// It survives a power cut.
    #[default]
    Power,
    /// It survives the end of the process, kill -9 too. After a power cut an earlier complete state comes back: what was
    /// acknowledged last may be lost, up to the base checkpoint before the last. Transactions and delta checkpoints wait for no
    /// sync; a base checkpoint still waits for some, so that the heaps can be told apart afterwards.
    Process,
}

/// How the state comes into memory when a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Restore {
    /// It is read, and verified on the way.
    #[default]
    Copy,
    /// The files of the heap are mapped privately: at once, whatever the size. See
    /// [`StoreOptions::restore_by_map`].
    Map,
}

/// How an instant is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// Pages are copied while writers run, again and again where they change; writers stand only for the
    /// last few.
    #[default]
    PreCopy,
    /// Writers stand while all is copied.
    Quiesce,
}

/// What to do with the older heap when a store is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnClose {
    /// It stays: a second chance, and the next checkpoint costs only what changed.
    #[default]
    KeepBoth,
    /// It is removed: half the storage. The first base checkpoint of the next run writes everything, unless the second heap
    /// was made before it ([`StoreOptions::second_heap`]).
    DropOlder,
}

/// Who is told of errors in the background.
#[derive(Clone)]
pub(crate) struct Told(pub(crate) Arc<dyn Fn(&SnapshotError) + Send + Sync>);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

/// Options of a [`Store`](super::Store).
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
    pub(crate) on_background_error: Option<Told>,
}

/// Length of parts of a new store, if not said.
pub(crate) const PART_BYTES: u64 = 256 << 20;

impl Default for StoreOptions {
    /// Transactions, durable against power cuts, restored by copy, made if missing; 64 GiB reserved (1 GiB on
    /// 32 bit), parts of 256 MiB.
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
    /// How the memory is changed.
    pub fn changes(mut self, changes: Changes) -> Self {
        self.changes = changes;
        self
    }

    /// What the memory is.
    pub fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// Who writes the memory: with [`Writers::OnlyThisMapping`] the caller vouches that a memfd is written through this store
    /// only, and a tracker that sees no more than that will do.
    pub fn memory_writers(mut self, writers: Writers) -> Self {
        self.memory_writers = writers;
        self
    }

    /// What a commit promises.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How an instant is captured.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// How changed pages are found, with [`Changes::Writers`].
    pub fn tracker(mut self, tracker: TrackerChoice) -> Self {
        self.tracker = tracker;
        self
    }

    /// What becomes of the older heap at the end.
    pub fn on_close(mut self, on_close: OnClose) -> Self {
        self.on_close = on_close;
        self
    }

    /// Has the second heap made in the background where opening finds none, as after [`OnClose::DropOlder`]; see
    /// [`Store::make_second_heap`](super::Store::make_second_heap). If not said, a store that makes checkpoints in the background
    /// does so. What goes wrong is [told](Self::on_background_error), and leaves it to the first base checkpoint, which then writes everything.
    pub fn second_heap(mut self, second_heap: bool) -> Self {
        self.second_heap = Some(second_heap);
        self
    }

    /// Makes the store if it is not there; otherwise that is an error.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Length of the region of a new store, rounded up to pages of 4096 bytes. An existing one is made as long if
    /// it is shorter.
    pub fn initial_bytes(mut self, bytes: u64) -> Self {
        self.initial_bytes = bytes;
        self
    }

    /// Address space to reserve: the region grows up to there without moving.
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// Length of the files of a new store: a multiple of 64 KiB. An existing one that has another is an error, unless it may be
    /// [changed](Self::change_part_bytes).
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = Some(bytes);
        self
    }

    /// An existing store of which the files have another length than [`part_bytes`](Self::part_bytes) gets that. Nothing is
    /// written anew when it is opened: the next base checkpoint makes the older heap anew, with parts of the new length, and
    /// the one after it the other heap, each writing everything once. A crash in between leaves heaps of both lengths, which is
    /// as good a store as any; opened without this option it goes on with the length of the newer heap. The heap that is
    /// [mapped](Self::restore_by_map) keeps its length for as long as it is.
    pub fn change_part_bytes(mut self, change: bool) -> Self {
        self.change_part_bytes = change;
        self
    }

    /// Puts the region there and nowhere else.
    pub fn address(mut self, address: usize) -> Self {
        self.address = Some(address);
        self
    }

    /// Asks for huge pages.
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// A base checkpoint is made in the background when the journal has grown by so many bytes; if not
    /// said, a quarter of the region and at least 64 MiB.
    pub fn journal_bytes_max(mut self, bytes: u64) -> Self {
        self.journal_bytes_max = Some(bytes);
        self
    }

    /// A checkpoint is made in the background so often.
    pub fn checkpoint_every(mut self, every: Duration) -> Self {
        self.checkpoint_every = Some(every);
        self
    }

    /// Is called with the error of every checkpoint in the background that fails, and of the second heap if it cannot be made, on the
    /// thread that makes them: closing and dropping the store wait for it. [`Store::background_error`](super::Store::background_error) has the last one.
    pub fn on_background_error(
        mut self,
        told: impl Fn(&SnapshotError) + Send + Sync + 'static,
    ) -> Self {
        self.on_background_error = Some(Told(Arc::new(told)));
        self
    }

    /// Who wants into the memory, and who captures, gives up after so long and is told who is inside. If not said, they wait.
    pub fn gate_timeout(mut self, timeout: Duration) -> Self {
        self.gate_timeout = Some(timeout);
        self
    }

    /// A base checkpoint waits so long for readers of the heap it is going to (1 s if not said), then it fails or
    /// goes on as a delta.
    pub fn readers_timeout(mut self, timeout: Duration) -> Self {
        self.readers_timeout = timeout;
        self
    }

    /// Stops writers who stand at no gate for the instant of each checkpoint. They are not stopped while it is still
    /// looked for what changed, or while the disk is waited for.
    pub fn standstill(mut self, standstill: Arc<dyn Standstill>) -> Self {
        self.standstill = Some(standstill);
        self
    }

    /// Has each checkpoint make the region as long as its memfd when it has closed the gate and others
    /// [stand](Self::standstill), as [`Store::follow_memory`](super::Store::follow_memory) does at any time. So an image is as long as the memory was
    /// at its instant, whoever made it longer. If not said, the region keeps its length until
    /// [`resize`](super::Store::resize) or `follow_memory`, and what others have put behind its end is in no checkpoint.
    ///
    /// For memory that programs without this store make longer ([`Memory::Shared`], [`Memory::Adopted`], [`Memory::Live`]); nothing for
    /// [`Memory::Private`]. It needs [`Changes::Writers`], as such memory does.
    ///
    /// - The region never becomes shorter by it: a memfd with the seal cannot, and a shorter one is left as it is.
    /// - A memfd that ends within a page counts with all of that page, whose rest is zeros.
    /// - One longer than [`reserve_bytes`](Self::reserve_bytes) is [`SnapshotError::Memory`] from the checkpoint, which stores nothing: the image before
    ///   stays. So reserve what the memory may ever become; address space costs nothing.
    /// - What is new is copied while others stand. Who expects much of it calls `Store::follow_memory` before each checkpoint, too: then
    ///   most of it was copied when they stop.
    pub fn follow_memory(mut self, follow: bool) -> Self {
        self.follow_memory = follow;
        self
    }

    /// The length that the files are to get, whatever they have.
    pub(crate) fn changed_part_bytes(&self) -> Option<u64> {
        self.part_bytes.filter(|_| self.change_part_bytes)
    }

    pub(crate) fn check(&self) -> Result<(), SnapshotError> {
        let page = PAGE_BYTES as u64;
        let refused = |option, reason: String| Err(SnapshotError::Option { option, reason });
        if let Some(bytes) = self.part_bytes
            && !is_part_length(bytes)
        {
            return refused("part_bytes", format!("{bytes} is no multiple of 64 KiB"));
        }
        if self.reserve_bytes < page
            || self.reserve_bytes / page > PAGES_MAX
            || usize::try_from(self.reserve_bytes).is_err()
        {
            let reason = format!("{} cannot be reserved", self.reserve_bytes);
            return refused("reserve_bytes", reason);
        }
        if !matches!(self.memory, Memory::Private) {
            if self.changes == Changes::Transactions {
                let reason = "transactions and views make references to memory, and others may write a memfd: \
                              it needs Changes::Writers";
                return refused("memory", reason.to_owned());
            }
            if self.restore == Restore::Map {
                let reason = "files are mapped as private memory, so a memfd is restored by copy";
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
