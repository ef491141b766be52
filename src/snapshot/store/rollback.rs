//! Returning a store to a snapshot of its history.
//!
//! The content of the snapshot is written as a new generation: a base checkpoint into the heap that
//! is not committed. So a rollback is exactly as crash-safe as a checkpoint:
//!
//! - The state that is replaced stays the committed one until METADATA of the new one is durable.
//! - The new generation is above all that the store, its journal and its history have ever used
//!   [I8].
//! - Nothing is renamed, so the history stays in place.
//! - The lock of the writer is held from before the first write until the end [I16].

use std::io;
use std::time::Duration;

use super::store_handle::Store;
use crate::numbers::Generation;
use crate::snapshot::backend::StoreLocks as Locks;
use crate::snapshot::error::StoreError;
use crate::snapshot::history::{History, HistorySnapshot, failed};
use crate::snapshot::modes::{CaptureMode, WriteMode};
use crate::snapshot::options::StoreOptions;
use crate::snapshot::reader::{Image, StoreReader};
use crate::snapshot::tracker::TrackerChoice;

/// Time that readers of the fallback heap have to finish.
const READERS_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether [`History::rollback`] first adds the state that it replaces to the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CurrentState {
    /// The state becomes a snapshot, so that the rollback can be undone.
    #[default]
    Keep,
    /// The state is not added to the history, so the rollback cannot be undone.
    Discard,
}

/// Result of [`History::rollback`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rollback {
    /// Generation under which the content of the snapshot was committed.
    pub generation: Generation,
    /// Length of the region in bytes, as in the snapshot.
    pub region_bytes: u64,
    /// Snapshot of the replaced state; `None` with [`CurrentState::Discard`].
    pub replaced: Option<HistorySnapshot>,
}

impl History {
    /// Commits the content of a snapshot as the newest state of the store, and closes the store.
    ///
    /// `name` is the [`name`](HistorySnapshot::name) of the snapshot. Every page of the snapshot is
    /// verified while it is read. With [`CurrentState::Keep`] the state that is replaced becomes a
    /// snapshot first. The history is otherwise unchanged, so a rollback can be undone by another
    /// one.
    ///
    /// The new state gets a new generation. Until that generation is durable, the replaced state is
    /// the committed one: a crash leaves either state complete, and a repeated call finishes the
    /// rollback. The region is held in memory during the call.
    ///
    /// # Errors
    ///
    /// The newest state does not change, unless the error occurs during the commit itself. In that
    /// case either state may be the newest one.
    ///
    /// - [`StoreError::InUse`] if a writer has the store open.
    /// - [`StoreError::Directory`] with `NotFound` if the history has no snapshot of this name.
    /// - [`StoreError::Corrupt`] if the snapshot is corrupt.
    /// - Any error of [`add`](Self::add) if the replaced state cannot be kept. Pass
    ///   [`CurrentState::Discard`] if that state is not needed.
    /// - Any error of [`Store::open`] and [`Store::checkpoint`]. A store without a usable heap
    ///   cannot be rolled back: copy the directory of the snapshot, which is a complete store.
    ///
    /// # Examples
    ///
    /// ```
    /// use flatspan::snapshot::{CurrentState, History, Store, StoreOptions, StoreReader};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("counter");
    /// Store::open(&path, StoreOptions::default().initial_bytes(4096))?.close()?;
    /// let history = History::new(&path);
    /// let before = history.add()?;
    /// // The store is used and closed here.
    /// let rollback = history.rollback(&before.name(), CurrentState::Keep)?;
    /// assert!(rollback.generation > before.generation());
    /// assert_eq!(StoreReader::open(&path)?.newest()?.generation(), rollback.generation);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rollback(&self, name: &str, current: CurrentState) -> Result<Rollback, StoreError> {
        let reader = StoreReader::open(&self.store)?;
        // Early: reading the states takes a while, and opening the store checks again.
        drop(Locks::of_writer(&self.store)?);
        let snapshot = self.snapshot(name)?;
        // The lock of its heap, held by the image, keeps the snapshot from being pruned.
        let image = StoreReader::open(snapshot.path())?.newest()?;
        let store = Store::open(&self.store, options(&reader, &image))?;
        let replaced = match current {
            CurrentState::Keep => Some(self.add()?),
            CurrentState::Discard => None,
        };
        replace_content(&store, &image)?;
        let report = store.checkpoint_base()?;
        store.close()?;
        Ok(Rollback {
            generation: report.generation,
            region_bytes: image.len(),
            replaced,
        })
    }

    fn snapshot(&self, name: &str) -> Result<HistorySnapshot, StoreError> {
        let found = self.list()?.into_iter().find(|kept| kept.name() == name);
        found.ok_or_else(|| {
            let path = self.directory().join(name);
            failed("find the snapshot", &path)(io::ErrorKind::NotFound.into())
        })
    }
}

/// Options to open the store with: only [`replace_content`] changes its memory.
fn options(reader: &StoreReader, image: &Image) -> StoreOptions {
    // A store whose newest state cannot be read may still open from its fallback heap.
    let current = reader.newest_to_clone();
    let current_bytes = current.map_or(0, |current| current.len());
    let options = StoreOptions::default();
    let reserve_bytes = options.reserve_bytes.max(current_bytes).max(image.len());
    options
        .create(false)
        .write_mode(WriteMode::Tracked)
        .capture_mode(CaptureMode::StopAndCopy)
        .tracker(TrackerChoice::Explicit)
        .create_second_heap(false)
        .reader_timeout(READERS_TIMEOUT)
        .reserve_bytes(reserve_bytes)
}

fn replace_content(store: &Store, image: &Image) -> Result<(), StoreError> {
    // The new pages are zero and marked dirty, so that only the data of the image has to be
    // written.
    store.resize(0)?;
    store.resize(image.len())?;
    let memory = store.write_guard()?;
    image.for_each_data(|offset, bytes| memory.write_at(offset, bytes))
}
