//! Host of an unmodified program: stores the content of its memfd.
//!
//! The memfd is the region of a [`Store`]. Changes are found by comparing hashes, since the program
//! writes through its own mappings. A checkpoint has each page as it was at some time during the
//! checkpoint. It is of one point in time only if no process writes: after the program has exited,
//! or if a [`Quiesce`] freezes it. The program may still be in the middle of a change. A
//! restored state is then what the program would find after being killed at that point.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ShmError;
use super::memfd::Memfd;
use crate::numbers::Generation;
use crate::snapshot::{
    CheckpointReport, MemorySource, OpenReport, Quiesce, Store, StoreError, StoreOptions,
    StoreReader, TrackerChoice, WriteMode, WriterScope,
};
use crate::sys::{fallocate, memfd};

/// Address reservation for growth of the memfd. It uses no memory.
const RESERVE_BYTES: u64 = if cfg!(target_pointer_width = "32") {
    1 << 30
} else {
    256 << 30
};

/// Options of a transparent host.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TransparentHostOptions {
    part_bytes: Option<u64>,
    quiesce: Option<Arc<dyn Quiesce>>,
}

impl TransparentHostOptions {
    /// Sets the length of the store's part files. An existing store is converted.
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = Some(bytes);
        self
    }

    /// Sets what freezes the program during the stop-and-copy part of each checkpoint. Defaults to
    /// nothing.
    pub fn quiesce_with(mut self, quiesce: Arc<dyn Quiesce>) -> Self {
        self.quiesce = Some(quiesce);
        self
    }

    fn store_options(self, memory: MemorySource) -> StoreOptions {
        let mut options = StoreOptions::default()
            .write_mode(WriteMode::Tracked)
            .memory_source(memory)
            .writer_scope(WriterScope::AnyMapping)
            .grow_with_memfd(true)
            .tracker(TrackerChoice::HashCompare)
            .reserve_bytes(RESERVE_BYTES);
        if let Some(bytes) = self.part_bytes {
            options = options.part_bytes(bytes).convert_part_bytes(true);
        }
        match self.quiesce {
            Some(quiesce) => options.quiesce_with(quiesce),
            None => options,
        }
    }
}

/// An error of a transparent host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransparentHostError {
    /// The memfd failed.
    #[error(transparent)]
    Memory(#[from] ShmError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Transparent host: restores the memfd before an unmodified program starts, and stores its content
/// by checkpoints.
///
/// The store has whole pages of 4096 bytes. A memfd that ends within a page is restored with that
/// page completed by zeros.
///
/// # Examples
///
/// ```
/// use flatspan::shm::{Memfd, TransparentHost, TransparentHostOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let store = dir.path().join("store");
/// let memfd = Memfd::create("state", 4096)?;
/// let host = TransparentHost::open(&store, &memfd, TransparentHostOptions::default())?;
/// // The program maps the memfd, runs and exits.
/// memfd.map_mut(0..4096)?.words()[0].store(7, std::sync::atomic::Ordering::Relaxed);
/// host.snapshot()?;
/// host.close()?;
///
/// let restored = Memfd::create("state", 0)?;
/// let host = TransparentHost::open(&store, &restored, TransparentHostOptions::default())?;
/// assert!(host.was_restored());
/// assert_eq!(restored.map(0..4096)?.load(0), Some(7));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TransparentHost {
    store: Store,
    directory: PathBuf,
    memfd: Memfd,
    restored: bool,
}

impl TransparentHost {
    /// Opens or creates the store and restores its newest state into the memfd.
    ///
    /// A memfd with the shrink seal is live and keeps its content; only
    /// [`rollback`](Self::rollback) overwrites it. Otherwise the state replaces the content, and
    /// the seal is added. If the store is empty, the content of the memfd is its first state.
    ///
    /// No process may write the memfd during the call.
    ///
    /// # Errors
    ///
    /// - [`TransparentHostError::Store`] if the store cannot be opened.
    /// - [`TransparentHostError::Memory`] if a system call on the memfd fails.
    pub fn open(
        store: impl AsRef<Path>,
        memfd: &Memfd,
        options: TransparentHostOptions,
    ) -> Result<Self, TransparentHostError> {
        let path = store.as_ref();
        let mut is_live = memfd.is_restored()?;
        if !is_live && !memfd.is_empty()? && is_store_empty(path)? {
            memfd.seal_restored()?;
            is_live = true;
        }
        let own = reopen(memfd)?;
        let memory = if is_live {
            MemorySource::attach(own)
        } else {
            MemorySource::restore_into(own)
        };
        Ok(Self {
            store: Store::open(path, options.store_options(memory))?,
            directory: path.to_path_buf(),
            memfd: memfd.try_clone()?,
            restored: !is_live,
        })
    }

    /// Restores the newest state of the store into a live memfd, followed by zeros.
    ///
    /// Use it if the content is bad, such as after a crash in the middle of a change. The seal does
    /// not show an incomplete rollback, so the caller must remember to repeat it. This host holds
    /// the store's lock, so no other host restores at the same time. No process may write the memfd
    /// during the call.
    ///
    /// # Errors
    ///
    /// - [`TransparentHostError::Store`] if the store cannot be read. The memfd is not modified
    ///   unless the error is found during the copy.
    /// - [`TransparentHostError::Memory`] if a system call on the memfd fails.
    pub fn rollback(&mut self) -> Result<(), TransparentHostError> {
        restore_newest(&self.directory, &self.memfd)?;
        self.restored = true;
        Ok(())
    }

    /// Returns whether the state of the store was restored into the memfd. Returns `false` for a
    /// live memfd.
    #[must_use]
    pub fn was_restored(&self) -> bool {
        self.restored
    }

    /// Returns the report of opening the store.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        self.store.open_report()
    }

    /// Returns the durable generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.store.generation()
    }

    /// Makes the content of the memfd durable, including what the program appended.
    ///
    /// # Errors
    ///
    /// Returns [`TransparentHostError::Store`] if the checkpoint fails. The store keeps its state,
    /// and the next call retries. A [poisoned](StoreError::Poisoned) store must be opened again,
    /// which keeps the content of the memfd.
    pub fn snapshot(&self) -> Result<CheckpointReport, TransparentHostError> {
        // Appended pages are copied before the program is frozen. The checkpoint follows the memfd
        // again for those appended in between.
        self.store.grow_to_memfd()?;
        Ok(self.store.checkpoint()?)
    }

    /// Closes the store after a final checkpoint. Dropping the host skips that checkpoint.
    ///
    /// # Errors
    ///
    /// Returns [`TransparentHostError::Store`] if the checkpoint fails. The store is then as after
    /// a crash.
    pub fn close(self) -> Result<(), TransparentHostError> {
        Ok(self.store.close()?)
    }
}

/// Replaces the content of the memfd by the newest state of the store, followed by zeros.
fn restore_newest(store: &Path, memfd: &Memfd) -> Result<(), TransparentHostError> {
    let failed = || ShmError::io(memfd.as_fd().as_raw_fd(), "restore into the memfd");
    // The image is opened before the memfd is emptied, so that an unusable store changes nothing.
    let image = StoreReader::open(store)?.newest()?;
    let own = reopen(memfd)?;
    if !memfd.is_empty()? {
        fallocate::punch(&own, 0, memfd.len()?).map_err(failed())?;
    }
    memfd.grow_to(image.len())?;
    image.for_each_data(|offset, bytes| {
        let written = own.write_all_at(bytes, offset).map_err(failed());
        Ok(written?)
    })
}

/// Whether the directory holds no store, or one without a byte.
fn is_store_empty(store: &Path) -> Result<bool, StoreError> {
    let is_new = match std::fs::read_dir(store) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if is_new {
        return Ok(true);
    }
    Ok(StoreReader::open(store)?.newest()?.is_empty())
}

/// A new open file description: the program's one has a position that only the program may move.
fn reopen(memfd: &Memfd) -> Result<File, ShmError> {
    let fd = memfd.as_fd();
    let number = fd.as_raw_fd();
    let copy = fd
        .try_clone_to_owned()
        .map_err(ShmError::io(number, "duplicate the descriptor"))?;
    memfd::reopen(&File::from(copy), true).map_err(ShmError::io(
        number,
        "reopen the memfd through /proc/self/fd",
    ))
}
