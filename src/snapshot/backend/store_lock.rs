//! Locks of a store: flock(2) on files of its directory, which end with their holder [I16].
//!
//! The writer holds `lock`. Readers share `lock-a` or `lock-b` while they read that heap, and a
//! checkpoint locks it exclusively while it writes that heap [I17]. Locks by flock(2) belong to the
//! open file description, so they also exclude threads of the same process.
//!
//! # References
//!
//! [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html).

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::snapshot::error::StoreError;
use crate::snapshot::format::HeapName;
use crate::sys::flock;

/// Lock of the writer, and the directory of the heap locks. A store without a directory has no
/// locks.
#[derive(Debug, Default)]
pub(crate) struct StoreLocks {
    directory: Option<PathBuf>,
    /// Held until the value is dropped.
    _writer: Option<File>,
}

/// Lock on the files of a heap. Dropping it unlocks them.
#[derive(Debug)]
pub(crate) struct HeapLock {
    file: Option<File>,
}

impl StoreLocks {
    /// Locks a store for writing.
    pub(crate) fn of_writer(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("lock");
        let mut file = open(&path)?;
        match flock::lock_timeout(&file, flock::DEFAULT_TIMEOUT) {
            Ok(true) => {}
            Ok(false) => {
                let mut text = String::new();
                drop(file.read_to_string(&mut text));
                let pid = text.trim().parse().ok();
                let path = directory.to_path_buf();
                return Err(StoreError::InUse { path, pid });
            }
            Err(source) => return Err(failed("lock", path)(source)),
        }
        // The process id is for the error message above only.
        let recorded = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        drop(recorded);
        Ok(Self {
            directory: Some(directory.to_path_buf()),
            _writer: Some(file),
        })
    }

    /// Locks a heap for writing. Fails with `ResourceBusy` if readers hold it for longer than
    /// `timeout`.
    pub(crate) fn writer_of(
        &self,
        heap: HeapName,
        timeout: Duration,
    ) -> Result<HeapLock, StoreError> {
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
                    format!("readers have held heap {heap} for more than {timeout:?}"),
                );
                Err(failed("lock", path)(busy))
            }
            Err(source) => Err(failed("lock", path)(source)),
        }
    }
}

/// Locks a file. Fails with `ResourceBusy` if another process holds it for longer than `timeout`.
pub(crate) fn lock_file(path: &Path, timeout: Duration) -> Result<File, StoreError> {
    let file = open(path)?;
    match flock::lock_timeout(&file, timeout) {
        Ok(true) => Ok(file),
        Ok(false) => {
            let busy = format!("another process has held it for more than {timeout:?}");
            let busy = io::Error::new(io::ErrorKind::ResourceBusy, busy);
            Err(failed("lock", path.to_path_buf())(busy))
        }
        Err(source) => Err(failed("lock", path.to_path_buf())(source)),
    }
}

impl HeapLock {
    /// Locks a heap for reading. Returns `None` while its writer holds it.
    ///
    /// Returns a value that [holds](Self::holds) nothing if the lock file cannot be created or
    /// opened for lack of permission.
    pub(crate) fn of_reader(directory: &Path, heap: HeapName) -> Result<Option<Self>, StoreError> {
        let path = directory.join(format!("lock-{heap}"));
        let opened = match File::open(&path) {
            // A writer that locks the heap later must find the file.
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

    /// Returns whether the lock excludes the writer.
    pub(crate) fn holds(&self) -> bool {
        self.file.is_some()
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    options
        .open(path)
        .map_err(failed("open", path.to_path_buf()))
}

fn failed(operation: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Directory {
        path,
        operation,
        source,
    }
}
