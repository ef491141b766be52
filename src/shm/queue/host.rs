//! Host of a queue: the process that stores what the client commits.

use std::cell::RefCell;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::error::QueueError;
use super::host_protocol::{CopyOutcome, copy_newest};
use super::layout::Header;
use super::mapped_words::{MappedWords, has_shrink_seal, header_of, host_page, reopen};
use super::store_image::{self, StoredImage};
use crate::numbers::Generation;
use crate::shm::memfd_map::MemfdMapMut;
use crate::snapshot::{
    CheckpointReport, OpenReport, Store, StoreOptions, TrackerChoice, WriteMode,
};
use crate::sys::memfd;

/// Options of a host.
#[derive(Clone, Debug)]
#[must_use]
pub struct QueueHostOptions {
    store_options: StoreOptions,
    max_attempts: u32,
}

impl Default for QueueHostOptions {
    /// Returns options for a store with its own defaults and 16 copy attempts.
    fn default() -> Self {
        Self {
            store_options: StoreOptions::default(),
            max_attempts: 16,
        }
    }
}

impl QueueHostOptions {
    /// Sets options of the store, such as durability and the length of its parts.
    ///
    /// The host itself sets the write mode and the tracker, and disables automatic checkpoints.
    pub fn store_options(mut self, options: StoreOptions) -> Self {
        self.store_options = options;
        self
    }

    /// Sets the number of attempts of one snapshot to copy a generation. Defaults to 16.
    ///
    /// An attempt fails if the client reuses the buffer during the copy.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }
}

/// Outcome of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotOutcome {
    /// The client has not created its queue yet.
    NoQueue,
    /// The client has committed nothing since the last snapshot.
    Unchanged,
    /// The client reused the buffer during every copy attempt. The store keeps its generation.
    ///
    /// A queue with a greater depth helps, a faster disk does not.
    Starved {
        /// Number of attempts.
        attempts: u32,
    },
    /// A generation is durable.
    Persisted {
        /// The generation.
        generation: Generation,
        /// Its auxiliary data.
        aux: Vec<u8>,
        /// Copied pages of the state.
        pages: u64,
        /// Failed copy attempts before it.
        torn_copies: u32,
        /// Report of the store's checkpoint.
        checkpoint: Box<CheckpointReport>,
    },
}

/// Host of a queue: restores the state into the memfd before the client starts, and stores the
/// generations that the client commits.
///
/// The client never waits for the host. The host writes a single word that the client reads, and
/// validates everything that the client writes.
///
/// # Examples
///
/// ```
/// use flatspan::shm::Memfd;
/// use flatspan::shm::queue::{Client, QueueHost, QueueHostOptions, QueueOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let store = dir.path().join("store");
/// let memfd = Memfd::create("state", 0)?;
/// let mut host = QueueHost::open(&store, memfd.try_clone()?, QueueHostOptions::default())?;
///
/// // The client is another process that inherits the memfd.
/// let mut client = Client::open(memfd, QueueOptions::new(4096))?;
/// client.commit(|update| update.write(0, b"state"))?;
///
/// host.snapshot()?;
/// assert_eq!(host.persisted(), client.generation());
/// host.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct QueueHost {
    store: Store,
    attempts: u32,
    /// Open file description of its own.
    file: File,
    stored: Option<StoredImage>,
    queue: Option<AttachedQueue>,
    restored: bool,
}

/// A mapped queue whose header was validated.
#[derive(Debug)]
struct AttachedQueue {
    memory: MappedWords,
    header: Header,
    host_page: MemfdMapMut,
    /// Generation in the region of the store, 0 if the next copy must take all pages.
    known: u64,
    /// Generation that is in the region of the store but not durable.
    unsaved: Option<Unsaved>,
    /// Whether the region of the store may mix pages of two generations, until a copy is accepted.
    is_torn: bool,
}

#[derive(Debug)]
struct Unsaved {
    generation: Generation,
    aux: Vec<u8>,
    pages: u64,
}

impl QueueHost {
    /// Opens or creates the store and restores its newest generation into the memfd.
    ///
    /// A memfd with the shrink seal is live: it is never overwritten. Otherwise the host restores
    /// the state and adds the seal.
    ///
    /// # Errors
    ///
    /// - [`QueueError::Store`] if the store cannot be opened.
    /// - [`QueueError::NotAQueue`] if the store has the memory of a program without queue code.
    /// - [`QueueError::InvalidHeader`], [`QueueError::UnsupportedVersion`],
    ///   [`QueueError::TooShort`] if the stored queue is not usable.
    /// - [`QueueError::Io`] if a system call on the memfd fails.
    pub fn open(
        store: impl AsRef<Path>,
        memfd: impl Into<OwnedFd>,
        options: QueueHostOptions,
    ) -> Result<Self, QueueError> {
        let file = reopen(&File::from(memfd.into()), true)?;
        let is_live = has_shrink_seal(&file)?;
        let mut store_options = options
            .store_options
            .write_mode(WriteMode::Tracked)
            .tracker(TrackerChoice::Explicit);
        // The region may be torn at any time but right after an accepted copy.
        store_options.checkpoint_interval = None;
        let store = Store::open(store, store_options)?;
        let stored = StoredImage::read(&store)?;
        if !is_live {
            // With an empty store the memfd keeps its content.
            if let Some(stored) = &stored {
                store_image::restore(&store, stored, &file)?;
            }
            memfd::seal_shrink(&file).map_err(QueueError::io("seal the memfd"))?;
        }
        Ok(Self {
            store,
            attempts: options.max_attempts.max(1),
            file,
            stored,
            queue: None,
            restored: !is_live,
        })
    }

    /// Returns whether [`open`](Self::open) restored the stored state, if any, into the memfd.
    /// Returns `false` for a live memfd.
    #[must_use]
    pub fn was_restored(&self) -> bool {
        self.restored
    }

    /// Returns the report of opening the store.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        self.store.open_report()
    }

    /// Returns the durable generation of the client, `None` if there is none.
    #[must_use]
    pub fn persisted(&self) -> Option<Generation> {
        let stored = self.stored.as_ref()?;
        Generation::new(stored.generation)
    }

    /// Copies the newest committed generation and makes it durable.
    ///
    /// # Errors
    ///
    /// - [`QueueError::Store`] if the store fails. It keeps its generation, and the next call
    ///   retries unless the store is poisoned.
    /// - [`QueueError::LineageMismatch`] if the memfd does not continue the stored state.
    /// - [`QueueError::InvalidHeader`], [`QueueError::UnsupportedVersion`],
    ///   [`QueueError::LayoutMismatch`], [`QueueError::TooShort`] if the queue is not usable.
    ///   Nothing is written.
    /// - [`QueueError::Io`] if a system call on the memfd fails.
    pub fn snapshot(&mut self) -> Result<SnapshotOutcome, QueueError> {
        if self.queue.is_none() {
            self.queue = self.attach()?;
        }
        let Some(queue) = &mut self.queue else {
            return Ok(SnapshotOutcome::NoQueue);
        };
        let mut torn = 0;
        while !queue.copy(&self.store)? {
            torn += 1;
            if torn >= self.attempts {
                return Ok(SnapshotOutcome::Starved { attempts: torn });
            }
        }
        let Some(unsaved) = &queue.unsaved else {
            return Ok(SnapshotOutcome::Unchanged);
        };
        // A failed checkpoint keeps `unsaved` for the next call.
        let checkpoint = self.store.checkpoint()?;
        let generation = unsaved.generation;
        self.stored = Some(StoredImage {
            header: queue.header,
            generation: generation.get(),
            is_host_layout: true,
        });
        queue.publish(generation.get());
        let (aux, pages) = match queue.unsaved.take() {
            Some(unsaved) => (unsaved.aux, unsaved.pages),
            None => (Vec::new(), 0),
        };
        Ok(SnapshotOutcome::Persisted {
            generation,
            aux,
            pages,
            torn_copies: torn,
            checkpoint: Box::new(checkpoint),
        })
    }

    /// Takes a snapshot every `interval` and passes each outcome, including errors, to
    /// `on_outcome`.
    ///
    /// Returns when `on_outcome` returns [`ControlFlow::Break`].
    pub fn run(
        &mut self,
        interval: Duration,
        mut on_outcome: impl FnMut(Result<SnapshotOutcome, QueueError>) -> ControlFlow<()>,
    ) {
        while on_outcome(self.snapshot()).is_continue() {
            std::thread::sleep(interval);
        }
    }

    /// Closes the store, which makes the next start faster.
    ///
    /// Generations that no snapshot has copied are not stored.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Store`] as [`Store::close`] does.
    pub fn close(self) -> Result<(), QueueError> {
        // Closing would make a torn region durable. Without it the store keeps its generation.
        if self.queue.is_some_and(|queue| queue.is_torn) {
            return Ok(());
        }
        Ok(self.store.close()?)
    }

    /// Maps the client's queue, if it exists and continues the stored state.
    fn attach(&self) -> Result<Option<AttachedQueue>, QueueError> {
        let Some(header) = header_of(&self.file)? else {
            return Ok(None);
        };
        let file = reopen(&self.file, false)?;
        let memory = match MappedWords::new(file, &header.layout(), false) {
            // A restored memfd is short until the client opens it.
            Err(QueueError::TooShort { .. }) if self.is_restored_here(&header) => return Ok(None),
            mapped => mapped?,
        };
        let known = self.known_generation(&header)?;
        let queue = AttachedQueue {
            memory,
            header,
            host_page: host_page(&self.file)?,
            known,
            unsaved: None,
            is_torn: false,
        };
        queue.publish(known);
        Ok(Some(queue))
    }

    fn is_restored_here(&self, header: &Header) -> bool {
        let stored = self.stored.as_ref();
        stored.is_some_and(|stored| header.parent() == Some(stored.header.lineage()))
    }

    /// The generation in the region of the store that the client continues, 0 for none [I26].
    fn known_generation(&self, header: &Header) -> Result<u64, QueueError> {
        let Some(stored) = &self.stored else {
            return Ok(0);
        };
        let stored_lineage = stored.header.lineage();
        let is_same = header.lineage() == stored_lineage;
        let continues =
            header.parent() == Some(stored_lineage) && header.restored_at() == stored.generation;
        if !is_same && !continues {
            return Err(QueueError::LineageMismatch {
                stored: Generation::new(stored.generation),
                stored_lineage,
                live_lineage: header.lineage(),
                parent: header.parent(),
                restored_at: Generation::new(header.restored_at()),
            });
        }
        header
            .dimensions()
            .check_equal(stored.header.dimensions())?;
        Ok(if stored.is_host_layout {
            stored.generation
        } else {
            0
        })
    }
}

impl AttachedQueue {
    /// Tries to bring the region of the store to the newest generation. Returns `false` if the
    /// region is torn afterwards.
    fn copy(&mut self, store: &Store) -> Result<bool, QueueError> {
        let (layout, known) = (self.header.layout(), self.known);
        let guard = RefCell::new(None);
        let was_torn = self.is_torn;
        let begin = || {
            self.is_torn = true;
            self.unsaved = None;
            if known == 0 {
                // A first copy leaves out pages of zeros, so the region must be zeros, also after a
                // torn attempt.
                store.resize(0)?;
                store.resize(layout.image_bytes() as u64)?;
            }
            *guard.borrow_mut() = Some(store.write_guard()?);
            Ok(())
        };
        let outcome = copy_newest(&self.memory, &layout, known, begin, |page, words| {
            let guard = guard.borrow();
            let guard = guard.as_ref().expect("copy_newest calls `begin` first");
            store_image::write_page(guard, &layout, page, words)
        });
        match outcome? {
            CopyOutcome::Unchanged => Ok(!was_torn),
            CopyOutcome::Torn => Ok(false),
            CopyOutcome::Accepted {
                generation,
                aux,
                pages,
            } => {
                let guard = guard.borrow();
                let guard = guard.as_ref().expect("copy_newest calls `begin` first");
                store_image::write_generation(guard, &self.header, generation, &aux)?;
                self.known = generation;
                let generation = Generation::new(generation).expect("a copy is of a generation");
                self.unsaved = Some(Unsaved {
                    generation,
                    aux,
                    pages,
                });
                self.is_torn = false;
                Ok(true)
            }
        }
    }

    /// Reports the durable generation to the client.
    fn publish(&self, generation: u64) {
        self.host_page.words()[0].store(generation, Ordering::Release);
    }
}
