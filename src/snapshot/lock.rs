//! Who may use a store: locks on files of its directory, released by the death of their holder (hazard 16).
//!
//! One writer has `lock`. Readers of a committed heap share `lock-a` or `lock-b` while they read it; a checkpoint takes that one
//! for itself while it writes that heap (hazard 17). flock locks belong to the open file, so that they hold for
//! threads of one process too, and end with it.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::SnapshotError;
use super::format::HeapName;
use crate::sys::flock;

/// The writer's lock, and the place to ask for the others. A store that is not in a directory has none.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    directory: Option<PathBuf>,
    /// Held as long as this lives.
    _writer: Option<File>,
}

/// A lock on one heap, given back on drop.
#[derive(Debug)]
pub(crate) struct HeapLock {
    file: Option<File>,
}

impl Locks {
    /// Becomes the writer of a store.
    pub(crate) fn of_writer(directory: &Path) -> Result<Self, SnapshotError> {
        let path = directory.join("lock");
        let mut file = open(&path)?;
        match flock::lock_timeout(&file, flock::DEFAULT_TIMEOUT) {
            Ok(true) => {}
            Ok(false) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let pid = text.trim().parse().ok();
                let path = directory.to_path_buf();
                return Err(SnapshotError::InUse { path, pid });
            }
            Err(source) => return Err(failed("lock", path)(source)),
        }
        // For the message above only.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self {
            directory: Some(directory.to_path_buf()),
            _writer: Some(file),
        })
    }

    /// The heap for its writer alone; `ResourceBusy` if readers do not leave it in time.
    pub(crate) fn writer_of(
        &self,
        heap: HeapName,
        timeout: Duration,
    ) -> Result<HeapLock, SnapshotError> {
        let Some(directory) = &self.directory else {
            return Ok(HeapLock { file: None });
        };
        let path = directory.join(format!("lock-{heap}"));
        let file = open(&path)?;
        match flock::lock_timeout(&file, timeout) {
            Ok(true) => Ok(HeapLock { file: Some(file) }),
            Ok(false) => {
                let busy = io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    format!("readers are in heap {heap} for more than {timeout:?}"),
                );
                Err(failed("lock", path)(busy))
            }
            Err(source) => Err(failed("lock", path)(source)),
        }
    }
}

/// A lock that is nothing else, taken; `ResourceBusy` if another process has it for too long.
pub(super) fn lock_file(path: &Path, patience: Duration) -> Result<File, SnapshotError> {
    let file = open(path)?;
    match flock::lock_timeout(&file, patience) {
        Ok(true) => Ok(file),
        Ok(false) => {
            let busy = format!("another process has it for more than {patience:?}");
            let busy = io::Error::new(io::ErrorKind::ResourceBusy, busy);
            Err(failed("lock", path.to_path_buf())(busy))
        }
        Err(source) => Err(failed("lock", path.to_path_buf())(source)),
    }
}

impl HeapLock {
    /// The heap beside other readers; `None` while its writer is in it. Where the file is not there and cannot be made, or may
    /// not be opened, nothing is [held](Self::holds).
    pub(crate) fn of_reader(
        directory: &Path,
        heap: HeapName,
    ) -> Result<Option<Self>, SnapshotError> {
        let path = directory.join(format!("lock-{heap}"));
        let opened = match File::open(&path) {
            // A writer that enters later must find it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => open(&path),
            opened => opened.map_err(failed("open", path.clone())),
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) => match error.kind() {
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                    return Ok(Some(Self { file: None }));
                }
                _ => return Err(error),
            },
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self { file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed("lock", path)(source)),
        }
    }

    /// Does it keep anybody out?
    pub(crate) fn holds(&self) -> bool {
        self.file.is_some()
    }
}

fn open(path: &Path) -> Result<File, SnapshotError> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    options
        .open(path)
        .map_err(failed("open", path.to_path_buf()))
}

fn failed(operation: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::Directory {
        path,
        operation,
        source,
    }
}
