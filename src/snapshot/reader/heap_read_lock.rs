//! Shared lock on a complete heap while a reader uses it [I17].
//!
//! A checkpoint may start to write the heap after its header was read and before it was locked. So
//! the header is read again under the lock. If it differs, the reader starts again.

use std::io;
use std::time::{Duration, Instant};

use super::inspect::StoreReader;
use crate::snapshot::backend::DirectoryBackend;
use crate::snapshot::backend::HeapLock;
use crate::snapshot::error::StoreError;
use crate::snapshot::format::{HeapName, Metadata};
use crate::snapshot::heap::HeapState;
use crate::snapshot::heap::choose_heap;
use crate::snapshot::heap::{HeapHeaders as Found, read_headers};

/// Time to lock a heap. It is exceeded if a writer commits to both heaps many times per second.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Complete heap that no checkpoint writes until this value is dropped.
#[derive(Debug)]
pub(super) struct HeapReadLock {
    pub(super) disk: DirectoryBackend,
    pub(super) metadata: Metadata,
    /// METADATA of the committed heap if this is the fallback heap.
    pub(super) newer: Option<Metadata>,
    lock: HeapLock,
}

/// A heap, and the committed heap if the first one is the fallback heap.
type Selected = (Metadata, Option<Metadata>);

/// Selection of the heap to read.
#[derive(Clone, Copy, Debug)]
pub(super) enum HeapSelector {
    /// The heap that a store opens from.
    Primary,
    /// The heap that a store opens from if the primary one is corrupt.
    Fallback,
    /// This heap, if it is complete.
    Named(HeapName),
}

impl HeapSelector {
    fn select(self, found: &Found) -> Result<Option<Selected>, StoreError> {
        if let Self::Named(heap) = self {
            return Ok(match found.states[heap as usize] {
                HeapState::Complete(metadata) if metadata.heap == heap => Some((metadata, None)),
                _ => None,
            });
        }
        let choice = choose_heap(&found.states[0], &found.states[1])?;
        // Only the heap that was committed last can carry the mark of a clean shutdown.
        let second = choice.fallback.map(|second| Metadata {
            closed: false,
            end_sequence: None,
            ..second
        });
        Ok(match self {
            Self::Primary => Some((choice.primary, None)),
            _ => second.map(|second| (second, Some(choice.primary))),
        })
    }
}

impl StoreReader {
    /// `None` if the selected heap is not complete.
    pub(super) fn lock_heap(
        &self,
        selector: HeapSelector,
    ) -> Result<Option<HeapReadLock>, StoreError> {
        let start = Instant::now();
        loop {
            let Some((wanted, _)) = selector.select(&read_headers(&self.disk()?)?)? else {
                return Ok(None);
            };
            if let Some(lock) = HeapLock::of_reader(&self.directory, wanted.heap)? {
                let disk = self.disk()?;
                // Another revision of the same image is equally valid, and is newer information
                // about a clean shutdown.
                let again = selector.select(&read_headers(&disk)?)?;
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
            if start.elapsed() > LOCK_TIMEOUT {
                return Err(self.busy());
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    pub(super) fn busy(&self) -> StoreError {
        StoreError::Directory {
            path: self.directory.clone(),
            operation: "lock a heap for reading while checkpoints keep writing it",
            source: io::ErrorKind::ResourceBusy.into(),
        }
    }
}

impl HeapReadLock {
    /// Checks that no checkpoint has written the heap, where the filesystem or the permissions do
    /// not allow a lock.
    pub(super) fn check_unchanged(&self, reader: &StoreReader) -> Result<(), StoreError> {
        if self.lock.holds() {
            return Ok(());
        }
        let found = read_headers(&reader.disk()?)?;
        match HeapSelector::Named(self.metadata.heap).select(&found)? {
            Some((now, _)) if same_image(&now, &self.metadata) => Ok(()),
            _ => Err(reader.busy()),
        }
    }
}

fn same_image(one: &Metadata, other: &Metadata) -> bool {
    (one.store_id, one.heap, one.generation, one.tree_root_hash)
        == (
            other.store_id,
            other.heap,
            other.generation,
            other.tree_root_hash,
        )
}
