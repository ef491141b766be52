//! Holding a complete heap while it is read (hazard 17).
//!
//! A checkpoint may enter the heap between reading its header and locking it, so the header is read again under the lock. If it
//! is another one then, all begins anew.

use std::io;
use std::time::{Duration, Instant};

use super::facts::StoreReader;
use crate::snapshot::backend::GroupDisk;
use crate::snapshot::backend::HeapLock;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::format::{HeapName, Metadata};
use crate::snapshot::heap::{HeapHeaders as Found, read_headers};
use crate::snapshot::heap::{HeapState, choose_heap};

/// A writer makes so many checkpoints a second that none of both heaps stands still: then this is too short.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// A complete heap that no checkpoint enters while this lives.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) disk: GroupDisk,
    pub(super) metadata: Metadata,
    /// Of the newer complete heap, if this is the older one.
    pub(super) newer: Option<Metadata>,
    lock: HeapLock,
}

/// A heap, and the newer one beside it.
type Picked = (Metadata, Option<Metadata>);

/// Which heap.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    /// That opening begins with.
    First,
    /// That it tries next.
    Second,
    /// That one, if it is complete.
    Named(HeapName),
}

impl Which {
    fn pick(self, found: &Found) -> Result<Option<Picked>, SnapshotError> {
        if let Self::Named(heap) = self {
            return Ok(match found.states[heap as usize] {
                HeapState::Released(metadata) if metadata.heap == heap => Some((metadata, None)),
                _ => None,
            });
        }
        let choice = choose_heap(&found.states[0], &found.states[1])?;
        // It was not the last that was closed.
        let second = choice.second.map(|second| Metadata {
            closed: false,
            end: 0,
            ..second
        });
        Ok(match self {
            Self::First => Some((choice.first, None)),
            _ => second.map(|second| (second, Some(choice.first))),
        })
    }
}

impl StoreReader {
    /// `None` if there is no such complete heap.
    pub(super) fn hold(&self, which: Which) -> Result<Option<Hold>, SnapshotError> {
        let begun = Instant::now();
        loop {
            let Some((wanted, _)) = which.pick(&read_headers(&self.disk()?)?)? else {
                return Ok(None);
            };
            if let Some(lock) = HeapLock::of_reader(&self.directory, wanted.heap)? {
                let disk = self.disk()?;
                // Other revisions of the same image are as good, and say better whether it was closed.
                let again = which.pick(&read_headers(&disk)?)?;
                if let Some((metadata, newer)) = again
                    && same_image(&metadata, &wanted)
                {
                    return Ok(Some(Hold {
                        disk,
                        metadata,
                        newer,
                        lock,
                    }));
                }
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.busy());
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn busy(&self) -> SnapshotError {
        SnapshotError::Directory {
            path: self.directory.clone(),
            operation: "read a heap that checkpoints enter again and again",
            source: io::ErrorKind::ResourceBusy.into(),
        }
    }
}

impl Hold {
    /// Where nothing could be locked: was anybody in the heap meanwhile?
    pub(super) fn must_be_unchanged(&self, reader: &StoreReader) -> Result<(), SnapshotError> {
        if self.lock.holds() {
            return Ok(());
        }
        let found = read_headers(&reader.disk()?)?;
        match Which::Named(self.metadata.heap).pick(&found)? {
            Some((now, _)) if same_image(&now, &self.metadata) => Ok(()),
            _ => Err(reader.busy()),
        }
    }
}

fn same_image(one: &Metadata, other: &Metadata) -> bool {
    (one.store, one.heap, one.generation, one.root)
        == (other.store, other.heap, other.generation, other.root)
}
