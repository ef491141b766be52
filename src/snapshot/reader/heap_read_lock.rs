//! Holding a complete heap while it is read (hazard 17).
//!
//! A checkpoint may enter the heap between reading its header and locking it, so the header is read again under the lock. If it
//! is another one then, all begins anew.

use std::io;
use std::time::{Duration, Instant};

use super::inspect::StoreReader;
use crate::snapshot::choose::{HeapState, choose_heap};
use crate::snapshot::error::SnapshotError;
use crate::snapshot::format::{HeapName, Metadata};
use crate::snapshot::group_disk::GroupDisk;
use crate::snapshot::lock::HeapLock;
use crate::snapshot::open::{self, Found};

/// A writer makes so many checkpoints a second that none of both heaps stands still: then this is too short.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// A complete heap that no checkpoint enters while this lives.
#[derive(Debug)]
pub(super) struct HeapReadLock {
    pub(super) disk: GroupDisk,
    pub(super) metadata: Metadata,
    /// Of the newer complete heap, if this is the older one.
    pub(super) newer: Option<Metadata>,
    lock: HeapLock,
}

/// A heap, and the newer one beside it.
type Selected = (Metadata, Option<Metadata>);

/// HeapSelector heap.
#[derive(Clone, Copy, Debug)]
pub(super) enum HeapSelector {
    /// That opening begins with.
    Primary,
    /// That it tries next.
    Fallback,
    /// That one, if it is complete.
    Named(HeapName),
}

impl HeapSelector {
    fn pick(self, found: &Found) -> Result<Option<Selected>, SnapshotError> {
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
            end: None,
            ..second
        });
        Ok(match self {
            Self::Primary => Some((choice.first, None)),
            _ => second.map(|second| (second, Some(choice.first))),
        })
    }
}

impl StoreReader {
    /// `None` if there is no such complete heap.
    pub(super) fn heap_lock(
        &self,
        which: HeapSelector,
    ) -> Result<Option<HeapReadLock>, SnapshotError> {
        let begun = Instant::now();
        loop {
            let Some((wanted, _)) = which.pick(&open::look(&self.disk()?)?)? else {
                return Ok(None);
            };
            if let Some(lock) = HeapLock::of_reader(&self.directory, wanted.heap)? {
                let disk = self.disk()?;
                // Other revisions of the same image are as good, and say better whether it was closed.
                let again = which.pick(&open::look(&disk)?)?;
                if let Some((metadata, newer)) = again
                    && same_image(&metadata, &wanted)
                {
                    return Ok(Some(HeapReadLock {
                        disk,
                        metadata,
                        newer,
                        lock,
                    }));
                }
            }
            if begun.elapsed() > LOCK_TIMEOUT {
                return Err(self.busy());
            }
            std::thread::sleep(RETRY_INTERVAL);
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

impl HeapReadLock {
    /// Where nothing could be locked: was anybody in the heap meanwhile?
    pub(super) fn check_unchanged(&self, reader: &StoreReader) -> Result<(), SnapshotError> {
        if self.lock.holds() {
            return Ok(());
        }
        let found = open::look(&reader.disk()?)?;
        match HeapSelector::Named(self.metadata.heap).pick(&found)? {
            Some((now, _)) if same_image(&now, &self.metadata) => Ok(()),
            _ => Err(reader.busy()),
        }
    }
}

fn same_image(one: &Metadata, other: &Metadata) -> bool {
    (one.store, one.heap, one.generation, one.root)
        == (other.store, other.heap, other.generation, other.root)
}
