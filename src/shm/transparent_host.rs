//! Keeping the state of a program that knows nothing of us.
//!
//! The memfd is the memory of a [`Store`]. What changed is found by comparing, since the program writes through mappings of
//! its own. A checkpoint has each page as it was at some time while it was made; it is one instant only if nobody writes, as
//! when the program has ended, or when a [`Standstill`] stops it. Even an instant is any instant: the program may be in
//! the middle of a change. What comes back is what a program finds that was killed there and then.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ShmError;
use super::memfd::SharedFile;
use crate::snapshot::{
    Changes, CheckpointReport, Memory, OpenReport, SnapshotError, Standstill, Store, StoreOptions,
    StoreReader, TrackerChoice, Writers,
};
use crate::sys::{fallocate, memfd};

/// Addresses for the memory to grow into; they cost nothing.
const RESERVE_BYTES: u64 = if cfg!(target_pointer_width = "32") {
    1 << 30
} else {
    256 << 30
};

/// How such a state is kept.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct UnawareOptions {
    part_bytes: Option<u64>,
    standstill: Option<Arc<dyn Standstill>>,
}

impl UnawareOptions {
    /// Length of the files of the store; one that has another length gets this.
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = Some(bytes);
        self
    }

    /// Stops the program for the instant of each checkpoint.
    pub fn standstill(mut self, standstill: Arc<dyn Standstill>) -> Self {
        self.standstill = Some(standstill);
        self
    }

    fn store(self, memory: Memory) -> StoreOptions {
        let mut options = StoreOptions::default()
            .changes(Changes::Writers)
            .memory(memory)
            .memory_writers(Writers::Anyone)
            .follow_memory(true)
            .tracker(TrackerChoice::Compare)
            .reserve_bytes(RESERVE_BYTES);
        if let Some(bytes) = self.part_bytes {
            options = options.part_bytes(bytes).change_part_bytes(true);
        }
        match self.standstill {
            Some(standstill) => options.standstill(standstill),
            None => options,
        }
    }
}

/// Why such a state cannot be restored or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnawareError {
    /// The memfd.
    #[error(transparent)]
    Memory(#[from] ShmError),
    /// The store.
    #[error(transparent)]
    Store(#[from] SnapshotError),
}

/// Keeps the memory of a program in a store: restores it before the program starts, and makes checkpoints of it.
///
/// The store has whole pages of 4096 bytes. So a memfd that ends within a page comes back with that page to its end, the rest of
/// it zeros.
#[derive(Debug)]
pub struct Unaware {
    store: Store,
    directory: PathBuf,
    memfd: SharedFile,
    restored: bool,
}

impl Unaware {
    /// Opens the store, or makes it, and restores its newest state into the memfd if, and only if, that has no seal against
    /// shrinking: then it was never completed. What is in such a memfd goes, but where the store has no byte, which
    /// empties nothing: then the memory is the first state. In the end the memfd is sealed.
    ///
    /// A live memfd is emptied only by [`roll_back`](Self::roll_back).
    ///
    /// Nobody may write the memfd meanwhile.
    ///
    /// # Errors
    ///
    /// Those of opening a store; what the system says of the memfd.
    pub fn open(
        store: impl AsRef<Path>,
        memfd: &SharedFile,
        options: UnawareOptions,
    ) -> Result<Self, UnawareError> {
        let path = store.as_ref();
        let mut is_live = memfd.is_restored()?;
        if !is_live && !memfd.is_empty()? && has_nothing(path)? {
            memfd.mark_restored()?;
            is_live = true;
        }
        let own = own_description(memfd)?;
        let memory = match is_live {
            true => Memory::live(own),
            false => Memory::adopted(own),
        };
        Ok(Self {
            store: Store::open(path, options.store(memory))?,
            directory: path.to_path_buf(),
            memfd: memfd.try_clone()?,
            restored: !is_live,
        })
    }

    /// The content of a live memfd is bad, as after a crash in the middle of a change: restores the newest state of the store into it,
    /// all the same, with zeros behind. Nobody else does so meanwhile, as the store is ours.
    ///
    /// The caller remembers that it is to be done until it is, since the seal does not tell that it is half restored. Nobody may
    /// write the memfd meanwhile.
    ///
    /// # Errors
    ///
    /// Those of reading the store, before anything is emptied where that can be known; what the system says of the memfd.
    pub fn roll_back(&mut self) -> Result<(), UnawareError> {
        put_back(&self.directory, &self.memfd)?;
        self.restored = true;
        Ok(())
    }

    /// Was the store's state restored into the memfd? Otherwise that was live.
    #[must_use]
    pub fn restored(&self) -> bool {
        self.restored
    }

    /// What opening the store found.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        self.store.open_report()
    }

    /// The generation that is durable.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.store.generation()
    }

    /// Makes what is in the memory durable, as long as it has become.
    ///
    /// # Errors
    ///
    /// Those of the store: what it had before stays, and the next call tries again unless it is
    /// [poisoned](SnapshotError::Poisoned). Then it must be opened again, which takes the memory as it is.
    pub fn snapshot_once(&self) -> Result<CheckpointReport, UnawareError> {
        // What is new is copied before the program stands; what it adds until then, when it stands.
        self.store.follow_memory()?;
        Ok(self.store.checkpoint()?)
    }

    /// Closes the store, with what has changed since the last snapshot. Dropping it leaves that out.
    ///
    /// # Errors
    ///
    /// Those of the store; then it is as after a crash.
    pub fn close(self) -> Result<(), UnawareError> {
        Ok(self.store.close()?)
    }
}

/// Makes the memory what the store has, and zeros behind it.
fn put_back(store: &Path, memfd: &SharedFile) -> Result<(), UnawareError> {
    let failed = || ShmError::io(memfd.as_fd().as_raw_fd(), "restore into it");
    // Nothing is emptied before it is known what takes its place.
    let image = StoreReader::open(store)?.newest()?;
    let own = own_description(memfd)?;
    if !memfd.is_empty()? {
        fallocate::punch(&own, 0, memfd.len()?).map_err(failed())?;
    }
    memfd.grow(image.len())?;
    image.read(|offset, bytes| {
        let written = own.write_all_at(bytes, offset).map_err(failed());
        Ok(written?)
    })
}

/// Is there no store yet, or one without a byte?
fn has_nothing(store: &Path) -> Result<bool, SnapshotError> {
    let is_new = match std::fs::read_dir(store) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if is_new {
        return Ok(true);
    }
    Ok(StoreReader::open(store)?.newest()?.is_empty())
}

/// A description of the memfd with a position of its own: that of the program's is the program's affair.
fn own_description(memfd: &SharedFile) -> Result<File, ShmError> {
    let fd = memfd.as_fd();
    let failed = || ShmError::io(fd.as_raw_fd(), "open it anew by /proc/self/fd");
    let copy = fd.try_clone_to_owned().map_err(failed())?;
    memfd::reopen(&File::from(copy), true).map_err(failed())
}
