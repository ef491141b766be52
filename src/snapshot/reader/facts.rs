//! What the headers of a store say, and what opening would make of them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::snapshot::backend::Disk;
use crate::snapshot::backend::GroupDisk;
use crate::snapshot::error::{NoHeap, SnapshotError};
use crate::snapshot::file_names::Array;
use crate::snapshot::format::{Copies, Defect, HeapName, Metadata};
use crate::snapshot::heap::{Choice, HeapState, choose_heap};
use crate::snapshot::heap::{open_read_only, read_headers, stored_part_bytes};

/// Looks at the store in a directory. Writes nothing, but for making the files of the locks where they are missing and
/// can be made.
#[derive(Clone, Debug)]
pub struct StoreReader {
    pub(super) directory: PathBuf,
    pub(super) part_bytes: u64,
}

/// One heap, as it is on the disk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeapFacts {
    /// Which one.
    pub heap: HeapName,
    /// Both copies of METADATA, or what is wrong with them; `None` without files.
    pub copies: Option<[Result<Metadata, Defect>; 2]>,
    /// What follows from them.
    pub state: HeapState,
    /// Present length of its files, if they are a row.
    pub present_bytes: Option<u64>,
}

/// Both heaps.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Survey {
    /// Heap a, then heap b.
    pub heaps: [HeapFacts; 2],
    /// Which one opening would begin with, or why none.
    pub choice: Result<Choice, NoHeap>,
    /// The process that has the store open for writing, as far as the system tells.
    pub writer: Option<u32>,
}

impl StoreReader {
    /// Looks for a store.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Directory`], [`SnapshotError::NotAStore`], [`SnapshotError::Disk`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, SnapshotError> {
        let directory = directory.as_ref().to_path_buf();
        let part_bytes = stored_part_bytes(&directory)?;
        Ok(Self {
            directory,
            part_bytes,
        })
    }

    /// Where the store is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the headers say.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Disk`], [`SnapshotError::Directory`]; damage is part of the answer.
    pub fn survey(&self) -> Result<Survey, SnapshotError> {
        let disk = self.disk()?;
        let found = read_headers(&disk)?;
        let heaps = [HeapName::A, HeapName::B].map(|heap| HeapFacts {
            heap,
            copies: found.copies[heap as usize].map(|Copies(copies)| copies),
            state: found.states[heap as usize],
            present_bytes: disk.len(Array::Heap(heap)).ok(),
        });
        Ok(Survey {
            heaps,
            choice: choose_heap(&found.states[0], &found.states[1]),
            writer: self.writer(),
        })
    }

    /// Sees to it that what is read next comes from the disk, where it may be worse than in memory after a sync that failed (hazard
    /// 3). Waits until what a running writer has written so far is there.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Disk`].
    pub fn forget_cached(&self) -> Result<(), SnapshotError> {
        let disk = self.disk()?;
        let arrays = disk.arrays();
        for array in arrays.map_err(SnapshotError::disk("look for", Array::Heap(HeapName::A)))? {
            match disk.forget_cached(array) {
                // A checkpoint has removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                forgotten => forgotten.map_err(SnapshotError::disk("read anew", array))?,
            }
        }
        Ok(())
    }

    /// A new one for each look: files are removed and made anew by a running writer.
    pub(super) fn disk(&self) -> Result<GroupDisk, SnapshotError> {
        let disk = open_read_only(&self.directory, self.part_bytes)?;
        // So that it knows how long the parts of each heap are. What is wrong is met by who looks.
        let _ = read_headers(&disk);
        Ok(disk)
    }

    /// Who has the lock, without touching it: a try would keep out a writer that comes at this moment. Inodes have the same
    /// number on many filesystems, so the writer's own word counts too.
    fn writer(&self) -> Option<u32> {
        let path = self.directory.join("lock");
        let inode = fs::metadata(&path).ok()?.ino();
        let said = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let mut holders = locks.lines().filter_map(|line| holder(line, inode));
        holders.any(|pid| pid == said).then_some(said)
    }
}

/// `1: FLOCK  ADVISORY  WRITE 4711 00:2a:1234 0 EOF`
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
    fn the_holder_of_a_lock_is_found_by_its_inode() {
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
