//! Headers of a store, and the heap that a store would open from.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::snapshot::backend::DirectoryBackend;
use crate::snapshot::backend::StorageBackend as _;
use crate::snapshot::error::HeapSelectionError;
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{Copies, HeaderError, HeapName, Metadata};
use crate::snapshot::heap::HeapSelection;
use crate::snapshot::heap::HeapState;
use crate::snapshot::heap::choose_heap;
use crate::snapshot::heap::{open_read_only, read_headers, stored_part_bytes};

/// Read-only access to the store in a directory, also while a writer has it open.
///
/// It writes nothing. Lock files are created if they are missing and the directory is writable.
///
/// # Examples
///
/// ```
/// use std::ops::ControlFlow;
///
/// use flatspan::snapshot::{Store, StoreOptions, StoreReader};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("counter");
/// Store::open(&path, StoreOptions::default().initial_bytes(4096))?.close()?;
/// let reader = StoreReader::open(&path)?;
/// assert_eq!(reader.newest()?.len(), 4096);
/// assert!(reader.verify(|_progress| ControlFlow::Continue(()))?.is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StoreReader {
    pub(super) directory: PathBuf,
    pub(super) part_bytes: u64,
}

/// State of one heap as it is stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeapInfo {
    /// The heap.
    pub heap: HeapName,
    /// Both copies of METADATA, or the error of each; `None` if the heap has no files.
    pub metadata_copies: Option<[Result<Metadata, HeaderError>; 2]>,
    /// State of the heap according to the copies.
    pub state: HeapState,
    /// Length of the heap in bytes; `None` if a part file is missing or has a wrong length.
    pub actual_bytes: Option<u64>,
}

/// Headers of a store, from [`StoreReader::inspect`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreInfo {
    /// Heap a, then heap b.
    pub heaps: [HeapInfo; 2],
    /// The heap that a store would open from, or why there is none.
    pub selection: Result<HeapSelection, HeapSelectionError>,
    /// Process that has the store open for writing, if `/proc/locks` shows one.
    pub writer_pid: Option<u32>,
}

impl StoreReader {
    /// Opens a store for reading.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Directory`] if the directory cannot be read.
    /// - [`StoreError::NotAStore`] if it has no files of a store.
    /// - [`StoreError::Backend`] if a header cannot be read.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, StoreError> {
        let directory = directory.as_ref().to_path_buf();
        let part_bytes = stored_part_bytes(&directory)?;
        Ok(Self {
            directory,
            part_bytes,
        })
    }

    /// Returns the directory of the store.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads the headers of both heaps. Corrupt headers are part of the result.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Directory`] if the directory cannot be read.
    /// - [`StoreError::Backend`] if a header cannot be read.
    pub fn inspect(&self) -> Result<StoreInfo, StoreError> {
        let disk = self.disk()?;
        let found = read_headers(&disk)?;
        let heaps = [HeapName::A, HeapName::B].map(|heap| HeapInfo {
            heap,
            metadata_copies: found.copies[heap as usize].map(|Copies(copies)| copies),
            state: found.states[heap as usize],
            actual_bytes: disk.len(LogicalFile::Heap(heap)).ok(),
        });
        Ok(StoreInfo {
            heaps,
            selection: choose_heap(&found.states[0], &found.states[1]),
            writer_pid: self.writer(),
        })
    }

    /// Drops the files of the store from the page cache, so that later reads return what is stored.
    ///
    /// After a failed sync the page cache may hold data that the disk does not. The call waits
    /// until everything that a running writer has written is stored.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Backend`] if a file cannot be synced or dropped.
    pub fn drop_page_cache(&self) -> Result<(), StoreError> {
        let disk = self.disk()?;
        let arrays = disk.files();
        for array in arrays.map_err(StoreError::disk(
            "list the files beside",
            LogicalFile::Heap(HeapName::A),
        ))? {
            match disk.drop_page_cache(array) {
                // A checkpoint has removed the file since the list was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                forgotten => {
                    forgotten.map_err(StoreError::disk("drop the page cache of", array))?;
                }
            }
        }
        Ok(())
    }

    /// Opens the files again for each operation, because a running writer removes and recreates
    /// files.
    pub(super) fn disk(&self) -> Result<DirectoryBackend, StoreError> {
        let disk = open_read_only(&self.directory, self.part_bytes)?;
        // Sets the part lengths of both heaps. Errors are reported by the operation that follows.
        drop(read_headers(&disk));
        Ok(disk)
    }

    /// Finds the writer without trying its lock, which could make a writer fail that starts at this
    /// moment. Inode numbers are not unique across filesystems, so the process id in the lock
    /// file must match, too.
    fn writer(&self) -> Option<u32> {
        let path = self.directory.join("lock");
        let inode = fs::metadata(&path).ok()?.ino();
        let recorded = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let mut holders = locks.lines().filter_map(|line| holder(line, inode));
        holders.any(|pid| pid == recorded).then_some(recorded)
    }
}

/// Parses a line such as `1: FLOCK  ADVISORY  WRITE 4711 00:2a:1234 0 EOF`.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, "FLOCK", _, "WRITE", pid, file, ..] = words[..] else {
        return None;
    };
    let (_, found) = file.rsplit_once(':')?;
    (found.parse() == Ok(inode)).then(|| pid.parse().ok())?
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lock_holder_is_found_by_inode() {
        let line = "1: FLOCK  ADVISORY  WRITE 4711 00:2a:1234 0 EOF";
        assert_eq!(holder(line, 1234), Some(4711));
        assert_eq!(holder(line, 234), None);
        assert_eq!(
            holder("2: POSIX  ADVISORY  WRITE 4711 00:2a:1234 0 EOF", 1234),
            None
        );
        assert_eq!(
            holder("1: -> FLOCK  ADVISORY  WRITE 4711 00:2a:1234 0 EOF", 1234),
            None
        );
        assert_eq!(holder("", 1234), None);
    }
}
