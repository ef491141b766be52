//! A store: memory whose state comes back.
//!
//! # Safety
//!
//! A view shares the gate, which keeps transactions out, so nobody changes the memory while its slice lives; captures only
//! copy. Where writers change it, there are no slices but through `unsafe` (docs/unsafe.md).
#![expect(unsafe_code, reason = "a slice of the region for views")]

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use super::background::Background;
use super::disk::Disk;
use super::error::SnapshotError;
use super::format::StoreId;
use super::inner::Inner;
use super::open;
use super::options::{Changes, Memory, Restore, StoreOptions};
use super::report::{CheckpointKind, CheckpointReport, OpenReport};
use super::second_heap::Progress;
use super::transaction::{Transaction, pages_of, set_len, whole_pages};
use super::writing::Writing;

/// Memory whose state outlives the process: a region, a pair of NVHeaps, and a journal.
///
/// One process writes a store at a time. Dropping a store leaves it as a crash would, which loses nothing that was
/// acknowledged; [`close`](Self::close) leaves it so that the next start is quick.
pub struct Store {
    inner: Arc<Inner>,
    background: Option<Background>,
    report: OpenReport,
}

impl StoreOptions {
    /// Maps the files of the heap privately instead of reading them: opening costs the same whatever the size, and memory
    /// is used for what is touched. After an unclean end all pages are still read once, to be verified; after a clean one
    /// they are verified before the first base checkpoint.
    ///
    /// # Safety
    ///
    /// As long as the store is open nobody else changes or cuts the files of its heaps: slices of the memory show them.
    /// A page that cannot be read raises SIGBUS, unless the dispatcher is
    /// [installed](crate::mapping_cache::install_sigbus_dispatcher): then the store is poisoned.
    pub unsafe fn restore_by_map(mut self) -> Self {
        self.restore = Restore::Map;
        self
    }
}

impl Store {
    /// Opens the store in a directory, or makes it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::InUse`]; [`SnapshotError::Option`]; and what is wrong with what is there:
    /// [`SnapshotError::NoHeap`], [`SnapshotError::Damaged`], [`SnapshotError::NothingGood`]. Then nothing was
    /// written.
    pub fn open(directory: impl AsRef<Path>, options: StoreOptions) -> Result<Self, SnapshotError> {
        Self::start(open::in_directory(directory.as_ref(), options)?)
    }

    /// Opens a store on any durable I/O, without locks: for tests, and for what is no directory.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_on(disk: Arc<dyn Disk>, options: StoreOptions) -> Result<Self, SnapshotError> {
        Self::start(open::on_disk(disk, options)?)
    }

    fn start((inner, report): (Inner, OpenReport)) -> Result<Self, SnapshotError> {
        if inner.len() < inner.options.initial_bytes {
            let len = whole_pages(&inner, inner.options.initial_bytes)?;
            open::lengthen(&inner, len)?;
        }
        if let Memory::Adopted(_) = inner.options.memory {
            // Last: now it is complete (hazard 25).
            inner.region.seal()?;
        }
        let inner = Arc::new(inner);
        let background = Background::start(&inner);
        Ok(Self {
            inner,
            background,
            report,
        })
    }

    /// What opening found, and did.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.report
    }

    /// Which store it is.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.inner.store
    }

    /// Length of the region in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.inner.len()
    }

    /// True without a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The generation that is durable.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.generation()
    }

    /// The last transaction that is durable.
    #[must_use]
    pub fn durable_sequence(&self) -> u64 {
        self.inner.journal.durable()
    }

    /// Where the region begins, for as long as the store lives. Using it is `unsafe`: between
    /// [`enter`](Self::enter) and its end, and as other writers permit.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.inner.region.as_ptr()
    }

    /// The memfd that is the memory, to be handed to other processes; `None` for [`Memory::Private`]. It may be longer than the
    /// region, of which the first [`len`](Self::len) bytes are checkpointed.
    #[must_use]
    pub fn memory_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.region.as_fd()
    }

    /// Looks at the memory. Many may at once; transactions wait. What is seen may not be durable yet: who tells the
    /// world of it waits first ([`wait_durable`](Self::wait_durable)).
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Door`] unless the store was opened with [`Changes::Transactions`];
    /// [`SnapshotError::Nested`]; [`SnapshotError::GateTimeout`].
    pub fn view<R>(&self, look: impl FnOnce(&[u8]) -> R) -> Result<R, SnapshotError> {
        self.needs(Changes::Transactions, "view", "Transactions")?;
        let timeout = self.inner.options.gate_timeout;
        let _inside = self.inner.gate.share("view", timeout)?;
        let region = &self.inner.region;
        // SAFETY: the region has so many bytes, and is changed, and its length too, only alone in the gate, which this
        // thread shares.
        let bytes = unsafe { std::slice::from_raw_parts(region.as_ptr().as_ptr(), region.len()) };
        let seen = look(bytes);
        self.inner.check_memory()?;
        Ok(seen)
    }

    /// Changes the memory. When it returns `Ok`, the changes are durable, all of them; when the closure returns
    /// an error or panics, there are none.
    ///
    /// # Errors
    ///
    /// What the closure returns. [`SnapshotError::Poisoned`], [`SnapshotError::Nested`],
    /// [`SnapshotError::GateTimeout`], and `StorageFull` in [`SnapshotError::Disk`]: then nothing is
    /// changed. Another [`SnapshotError::Disk`]: it is not known whether the changes are durable, and the store is
    /// poisoned.
    pub fn transaction<R, E: From<SnapshotError>>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let (result, sequence) = self.transaction_deferred(change)?;
        self.wait_durable(sequence)?;
        Ok(result)
    }

    /// As [`transaction`](Self::transaction), without waiting: the changes are durable when
    /// [`wait_durable`](Self::wait_durable) of the sequence returned, or that of any later one.
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction).
    pub fn transaction_deferred<R, E: From<SnapshotError>>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<R, E>,
    ) -> Result<(R, u64), E> {
        self.needs(Changes::Transactions, "transaction", "Transactions")?;
        let inner = &*self.inner;
        inner.check()?;
        inner.gate.refuse_inside("transaction")?;
        inner.journal.make_ready()?;
        let inside = inner
            .gate
            .enter_alone("transaction", inner.options.gate_timeout)?;
        let mut transaction = Transaction::new(inner);
        let result = change(&mut transaction)?;
        let sequence = transaction.finish()?;
        drop(inside);
        if let Some(background) = &self.background {
            background.nudge(inner);
        }
        Ok((result, sequence.unwrap_or_else(|| inner.journal.sequence())))
    }

    /// Returns when a transaction is durable.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Disk`] or [`SnapshotError::Poisoned`]: it is not known whether it is.
    pub fn wait_durable(&self, sequence: u64) -> Result<(), SnapshotError> {
        let inner = &self.inner;
        inner.gate.refuse_inside("wait_durable")?;
        let committed = inner.journal.commit(sequence);
        committed.inspect_err(|error| inner.poison(error))
    }

    /// Goes into the memory to write it, beside other writers. A checkpoint waits until all have left, so what is
    /// done between entering and leaving is in it together.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Door`] unless the store was opened with [`Changes::Writers`];
    /// [`SnapshotError::GateTimeout`].
    pub fn enter(&self) -> Result<Writing<'_>, SnapshotError> {
        self.needs(Changes::Writers, "enter", "Writers")?;
        let inside = self
            .inner
            .gate
            .share("enter", self.inner.options.gate_timeout)?;
        Ok(Writing {
            inner: &self.inner,
            _inside: inside,
        })
    }

    /// Makes the region so long, rounded up to pages of 4096 bytes. In a store with transactions, see
    /// [`Transaction::resize`].
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Door`] unless the store was opened with [`Changes::Writers`];
    /// [`SnapshotError::Option`] past what was reserved; [`SnapshotError::Memory`].
    pub fn resize(&self, len: u64) -> Result<(), SnapshotError> {
        self.needs(Changes::Writers, "resize", "Writers")?;
        let inner = &*self.inner;
        let len = whole_pages(inner, len)?;
        let timeout = inner.options.gate_timeout;
        let _inside = inner.gate.enter_alone("resize", timeout)?;
        let mut tracking = inner.tracking();
        let before = inner.len();
        set_len(inner, len)?;
        let changed = before.min(len)..before.max(len);
        inner.declared().insert_range(pages_of(&changed));
        match len > before {
            // Lossless: a length of the region.
            true => tracking.grown(&inner.region, before as usize),
            false => Ok(()),
        }
    }

    /// Makes the region as long as its memfd, which another process may have made longer: what is there stays, and is in the next
    /// checkpoint. A memfd that ends within a page counts with all of it. Nothing for [`Memory::Private`], and where
    /// the region is as long already. Returns its length.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Door`] unless the store was opened with [`Changes::Writers`];
    /// [`SnapshotError::Memory`] past what was reserved.
    pub fn follow_memory(&self) -> Result<u64, SnapshotError> {
        self.needs(Changes::Writers, "follow_memory", "Writers")?;
        let inner = &*self.inner;
        let timeout = inner.options.gate_timeout;
        let _inside = inner.gate.enter_alone("follow_memory", timeout)?;
        inner.follow_memory()?;
        Ok(inner.len())
    }

    /// Makes what is in memory now durable as a new generation, in whichever way is cheaper, and the journal shorter.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Disk`]: the generation before stays, and the store goes on, unless a sync failed, which poisons it.
    /// [`SnapshotError::Nested`] inside of a transaction, view or write.
    pub fn checkpoint(&self) -> Result<CheckpointReport, SnapshotError> {
        self.inner.checkpoint(None)
    }

    /// As [`checkpoint`](Self::checkpoint), into the older heap.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_base(&self) -> Result<CheckpointReport, SnapshotError> {
        self.inner.checkpoint(Some(CheckpointKind::Base))
    }

    /// As [`checkpoint`](Self::checkpoint), into the journal.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Self::checkpoint); [`SnapshotError::Door`] in a store with transactions, where the journal has
    /// everything already.
    pub fn checkpoint_delta(&self) -> Result<CheckpointReport, SnapshotError> {
        self.needs(Changes::Writers, "checkpoint_delta", "Writers")?;
        self.inner.checkpoint(Some(CheckpointKind::Delta))
    }

    /// Makes the second heap, if there is none, as after [`OnClose::DropOlder`](super::OnClose::DropOlder): a copy of the one that there is, which shares
    /// its storage where the filesystem can (reflink). The next base checkpoint then writes what changed, and not everything.
    /// Others may change the memory and make checkpoints meanwhile; these wait for a step of it at the most, and a base
    /// checkpoint makes the second heap by itself, and so ends it. False if none was made. See
    /// [`StoreOptions::second_heap`] for having it done in the background.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Self::checkpoint); then there is none.
    pub fn make_second_heap(&self) -> Result<bool, SnapshotError> {
        let patience = self.inner.options.readers_timeout;
        loop {
            match self.inner.step_of_second_heap(patience)? {
                Progress::More => {}
                Progress::Made => return Ok(true),
                Progress::NotNeeded => return Ok(false),
            }
        }
    }

    /// Why the last checkpoint in the background was not made, or the second heap; `None` once a checkpoint was made, by whomever.
    /// What transactions acknowledged is durable all the same, but the journal grows. On a full disk the next checkpoint is tried
    /// a second later, and the second heap is left to the next base, as it is when readers do not leave its place for a minute; after an error that poisons the store there is nothing more. [`StoreOptions::on_background_error`] tells as it happens.
    #[must_use]
    pub fn background_error(&self) -> Option<Arc<SnapshotError>> {
        self.inner.background_error().clone()
    }

    /// Makes everything durable in a base checkpoint, and notes that it is complete.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Self::checkpoint); then it is as after a crash.
    pub fn close(mut self) -> Result<(), SnapshotError> {
        drop(self.background.take());
        let inner = &*self.inner;
        inner.checkpoint(Some(CheckpointKind::Base))?;
        let mut checkpointer = inner.checkpoints();
        inner.close(&mut checkpointer)
    }

    fn needs(
        &self,
        changes: Changes,
        door: &'static str,
        needs: &'static str,
    ) -> Result<(), SnapshotError> {
        match self.inner.options.changes == changes {
            true => Ok(()),
            false => Err(SnapshotError::Door { door, needs }),
        }
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
