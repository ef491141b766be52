//! The host: the process that keeps the state.

use std::cell::RefCell;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::error::QueueError;
use super::layout::{Header, Lineage, Shape};
use super::store_image::{self, Stored};
use super::mapped_words::{Mapped, header_of, host_page};
use super::host_protocol::{Taken, take};
use crate::shm::memfd_map::SharedMapMut;
use crate::snapshot::{Changes, CheckpointReport, OpenReport, Store, StoreOptions, TrackerChoice};
use crate::sys::memfd;

/// How a host keeps a state.
#[derive(Clone, Debug)]
#[must_use]
pub struct HostOptions {
    store: StoreOptions,
    attempts: u32,
}

impl Default for HostOptions {
    /// A store with its defaults; 16 attempts.
    fn default() -> Self {
        Self {
            store: StoreOptions::default(),
            attempts: 16,
        }
    }
}

impl HostOptions {
    /// Options of the store: durability, length of parts, reserved addresses. How its memory changes is the host's affair.
    pub fn store(mut self, options: StoreOptions) -> Self {
        self.store = options;
        self
    }

    /// So often one snapshot tries to copy a generation before the client has used its buffer again.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }
}

/// What a snapshot came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Snapshot {
    /// The client has not laid out its queue yet.
    NoQueue,
    /// Nothing was committed since the last one.
    Nothing,
    /// The client was faster, every time: nothing was taken, and what the store has stays. A longer ring helps, and a faster
    /// disk does not.
    Starved {
        /// How often it was tried.
        attempts: u32,
    },
    /// A generation is durable.
    Persisted {
        /// Which.
        generation: u64,
        /// Its auxiliary data.
        tail: Vec<u8>,
        /// Pages of the state that were copied.
        pages: u64,
        /// Attempts that came to nothing before.
        torn: u32,
        /// What the store did.
        checkpoint: Box<CheckpointReport>,
    },
}

/// Keeps the state of a client in a store: restores it into the memfd before the client starts, and takes snapshots of what
/// the client commits.
///
/// It never makes the client wait, writes nothing the client reads but one word, and believes nothing the client has written.
#[derive(Debug)]
pub struct Host {
    store: Store,
    attempts: u32,
    /// A description of our own.
    file: File,
    stored: Option<Stored>,
    client: Option<Client>,
    restored: bool,
}

/// A queue that was found and checked.
#[derive(Debug)]
struct Client {
    memory: Mapped,
    header: Header,
    shape: Shape,
    host_page: SharedMapMut,
    /// The generation that the store's memory has; 0 for none that can be gone on from.
    known: u64,
    /// Its memory has it, the disk has not.
    unsaved: Option<(u64, Vec<u8>, u64)>,
    /// The memory of the store is half of one generation and half of another, until one is accepted.
    is_torn: bool,
}

impl Host {
    /// Opens the store, and restores its newest generation into the memfd if, and only if, that was never completed before: it
    /// has no seal against shrinking. Then it is sealed.
    ///
    /// # Errors
    ///
    /// Those of opening a store; [`QueueError::NotAQueue`] when it has the memory of a program that knows no queue; what the system
    /// says of the memfd.
    pub fn open(
        store: impl AsRef<Path>,
        memfd: impl Into<OwnedFd>,
        options: HostOptions,
    ) -> Result<Self, QueueError> {
        let file = memfd::reopen(&File::from(memfd.into()), true);
        let file = file.map_err(QueueError::io("open the memfd anew by /proc/self/fd"))?;
        let live = store_image::is_restored(&file)?;
        let mut store_options = options
            .store
            .changes(Changes::Writers)
            .tracker(TrackerChoice::Declared);
        // Checkpoints are of what was accepted, and nothing else.
        store_options.checkpoint_every = None;
        let store = Store::open(store, store_options)?;
        let stored = Stored::look(&store)?;
        if !live {
            // A store without a state empties nothing.
            if let Some(stored) = &stored {
                store_image::restore(&store, stored, &file)?;
            }
            memfd::seal_against_shrinking(&file).map_err(QueueError::io("seal the memfd"))?;
        }
        Ok(Self {
            store,
            attempts: options.attempts.max(1),
            file,
            stored,
            client: None,
            restored: !live,
        })
    }

    /// Was the memfd new to us, so that what the store has, if anything, was restored into it? Otherwise it was live.
    #[must_use]
    pub fn restored(&self) -> bool {
        self.restored
    }

    /// What opening the store found.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        self.store.open_report()
    }

    /// The generation of the client that is durable; 0 for none.
    #[must_use]
    pub fn persisted(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.generation)
    }

    /// Makes the newest generation that the client has committed durable.
    ///
    /// # Errors
    ///
    /// Those of the store: then what it had before stays, and the next call tries again unless it is poisoned. What is wrong with the
    /// queue: then nothing was written.
    pub fn snapshot_once(&mut self) -> Result<Snapshot, QueueError> {
        if self.client.is_none() {
            self.client = self.attach()?;
        }
        let Some(client) = &mut self.client else {
            return Ok(Snapshot::NoQueue);
        };
        let mut torn = 0;
        loop {
            match client.copy(&self.store)? {
                Copied::Nothing | Copied::Whole => break,
                Copied::Torn => torn += 1,
            }
            if torn >= self.attempts {
                return Ok(Snapshot::Starved { attempts: torn });
            }
        }
        let Some((generation, ..)) = client.unsaved else {
            return Ok(Snapshot::Nothing);
        };
        let checkpoint = self.store.checkpoint()?;
        self.stored = Some(Stored {
            header: client.header,
            generation,
            is_ours: true,
        });
        client.publish(generation);
        let (_, tail, pages) = client.unsaved.take().expect("just looked at");
        Ok(Snapshot::Persisted {
            generation,
            tail,
            pages,
            torn,
            checkpoint: Box::new(checkpoint),
        })
    }

    /// Takes a snapshot every so often, and tells what each came to, until it is told to stop. Errors are told like any other
    /// outcome: who is told decides whether to go on.
    pub fn run(
        &mut self,
        every: Duration,
        mut told: impl FnMut(Result<Snapshot, QueueError>) -> ControlFlow<()>,
    ) {
        while told(self.snapshot_once()).is_continue() {
            std::thread::sleep(every);
        }
    }

    /// Closes the store, so that the next start is quick. What was not taken is not in it.
    ///
    /// # Errors
    ///
    /// Those of [`Store::close`].
    pub fn close(self) -> Result<(), QueueError> {
        // The memory of the store may be half of one generation and half of the next; what is on disk is not.
        if self.client.is_some_and(|client| client.is_torn) {
            return Ok(());
        }
        Ok(self.store.close()?)
    }

    /// The client's queue, if it has one, and if it goes on from what the store has.
    fn attach(&self) -> Result<Option<Client>, QueueError> {
        let Some(header) = header_of(&self.file)? else {
            return Ok(None);
        };
        let shape = header.shape().expect("checked");
        let file = memfd::reopen(&self.file, false);
        let file = file.map_err(QueueError::io("open the memfd anew by /proc/self/fd"))?;
        let memory = match Mapped::new(file, &shape, false) {
            // Restored, and no client has made it longer yet.
            Err(QueueError::TooShort { .. }) if self.is_only_restored(&header) => return Ok(None),
            mapped => mapped?,
        };
        let known = self.known(&header)?;
        let host_page = host_page(&self.file)?;
        let client = Client {
            memory,
            header,
            shape,
            host_page,
            known,
            unsaved: None,
            is_torn: false,
        };
        client.publish(known);
        Ok(Some(client))
    }

    fn is_only_restored(&self, header: &Header) -> bool {
        let stored = self.stored.as_ref();
        stored.is_some_and(|stored| header.parent == stored.header.lineage)
    }

    /// The generation that the memory of the store has, and that the client has gone on from.
    fn known(&self, header: &Header) -> Result<u64, QueueError> {
        let Some(stored) = &self.stored else {
            return Ok(0);
        };
        let same = header.lineage == stored.header.lineage;
        let follows =
            header.parent == stored.header.lineage && header.restored_at == stored.generation;
        if !same && !follows {
            return Err(QueueError::OtherHistory {
                stored: stored.generation,
                stored_lineage: stored.header.lineage.to_string(),
                live_lineage: header.lineage.to_string(),
                parent: match header.parent {
                    Lineage::NONE => "nothing".to_owned(),
                    parent => parent.to_string(),
                },
                restored_at: header.restored_at,
            });
        }
        for (field, found, asked) in [
            ("state_bytes", header.state_bytes, stored.header.state_bytes),
            ("depth", header.depth, stored.header.depth),
            ("tail_bytes", header.tail_bytes, stored.header.tail_bytes),
        ] {
            if found != asked {
                return Err(QueueError::Geometry {
                    field,
                    found,
                    asked,
                });
            }
        }
        Ok(if stored.is_ours { stored.generation } else { 0 })
    }
}

/// What is in the memory of the store behind an attempt.
enum Copied {
    /// What was there before: there is nothing newer.
    Nothing,
    /// Nothing that may be stored.
    Torn,
    /// A generation.
    Whole,
}

impl Client {
    /// Brings the memory of the store to the newest generation, or leaves it [torn](Self::is_torn).
    fn copy(&mut self, store: &Store) -> Result<Copied, QueueError> {
        let (shape, known) = (self.shape, self.known);
        let inside = RefCell::new(None);
        let was_torn = self.is_torn;
        let begin = || {
            // From now on, until all is there and says what it is.
            self.is_torn = true;
            self.unsaved = None;
            if known == 0 {
                // What the first generation is put into is zeros, also after an attempt that was torn: pages may be left out.
                store.resize(0)?;
                store.resize(shape.image_bytes() as u64)?;
            }
            *inside.borrow_mut() = Some(store.enter()?);
            Ok(())
        };
        let taken = take(&self.memory, &shape, known, begin, |page, words| {
            let inside = inside.borrow();
            let inside = inside.as_ref().expect("begun before");
            store_image::put_page(inside, &shape, page, words)
        });
        match taken? {
            Taken::Nothing if was_torn => Ok(Copied::Torn),
            Taken::Nothing => Ok(Copied::Nothing),
            Taken::Torn => Ok(Copied::Torn),
            Taken::Accepted {
                generation,
                tail,
                pages,
            } => {
                let inside = inside.borrow();
                let inside = inside.as_ref().expect("begun before");
                store_image::put_generation(inside, &self.header, generation, &tail)?;
                self.known = generation;
                self.unsaved = Some((generation, tail, pages));
                self.is_torn = false;
                Ok(Copied::Whole)
            }
        }
    }

    fn publish(&self, generation: u64) {
        self.host_page.words()[0].store(generation, Ordering::Release);
    }
}
