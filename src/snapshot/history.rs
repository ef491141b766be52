//! List, addition and removal of snapshots.
//!
//! Programs that add or remove snapshots take turns by a lock file. The writer of the store does
//! not take this lock. It only reads the list, since it must not use a generation of a snapshot
//! again [I8].
//!
//! Snapshots are ordered by the time at which they were added. Their generations need not be in
//! this order if a journal lost its end.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::numbers::Generation;
use crate::snapshot::backend::StoreLocks as Locks;
use crate::snapshot::backend::lock_file;
use crate::snapshot::error::StoreError;
use crate::snapshot::format::{HeapName, NUMBERS_END};
use crate::snapshot::reader::StoreReader;
use crate::sys::openat2::sync_directory;

const DIRECTORY: &str = "history";
/// Another process may be copying a large state.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// History of a store: snapshots that exist until they are removed.
///
/// # Examples
///
/// ```no_run
/// use flatspan::snapshot::{History, StoreReader};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let history = History::new("/var/lib/counter");
/// let snapshot = history.add()?;
/// history.prune(24)?;
/// // A snapshot is a store.
/// let image = StoreReader::open(snapshot.path())?.newest()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct History {
    pub(super) store: PathBuf,
}

/// Snapshot of a store: a store in a directory named `NUMBER-GENERATION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistorySnapshot {
    name: SnapshotName,
    path: PathBuf,
}

/// Name of a snapshot. Names are ordered by the time at which the snapshots were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SnapshotName {
    number: u64,
    generation: Generation,
}

/// Lock for adding and removing snapshots. It is released explicitly, since a forked child may hold
/// the same file description.
struct HistoryLock(File);

impl Drop for HistoryLock {
    fn drop(&mut self) {
        // Closing the file would not release the lock if a child has inherited it.
        drop(self.0.unlock());
    }
}

impl History {
    /// Creates a handle for the history of the store in a directory. It does no I/O.
    pub fn new(store: impl AsRef<Path>) -> Self {
        Self {
            store: store.as_ref().to_path_buf(),
        }
    }

    /// Returns all snapshots, the oldest first.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Directory`] if the directory cannot be read.
    pub fn list(&self) -> Result<Vec<HistorySnapshot>, StoreError> {
        let names = self.names()?;
        let mut all: Vec<_> = names
            .iter()
            .filter_map(|name| SnapshotName::parse(name))
            .collect();
        all.sort();
        let all = all.into_iter().map(|name| self.kept(name));
        Ok(all.filter(|kept| kept.path.is_dir()).collect())
    }

    /// Adds the newest state of the store as a snapshot, and returns it.
    ///
    /// The state is the one of [`StoreReader::newest`], copied by
    /// [`Image::clone_to`](crate::snapshot::Image::clone_to). If it equals the last snapshot, that
    /// one is returned instead.
    ///
    /// # Errors
    ///
    /// - Any error of [`StoreReader::newest`] and
    ///   [`Image::clone_to`](crate::snapshot::Image::clone_to).
    /// - [`StoreError::Directory`] with `ResourceBusy` if another process adds or removes snapshots
    ///   for more than 10 seconds.
    pub fn add(&self) -> Result<HistorySnapshot, StoreError> {
        // Open the store first, so that no directory is created where no store exists.
        let store = StoreReader::open(&self.store)?;
        let _lock = self.lock()?;
        let names = self.names()?;
        self.remove_leftovers(&names);
        let image = store.newest_to_clone()?;
        if let Some(last) = self.list()?.pop() {
            let newest = StoreReader::open(&last.path);
            let newest = newest.and_then(|reader| reader.newest_to_clone());
            if newest.is_ok_and(|newest| newest.is_same_state(&image)) {
                return Ok(last);
            }
        }
        let known = names.iter().filter_map(|name| SnapshotName::parse(name));
        let kept = self.kept(SnapshotName {
            number: known.max().map_or(1, |last| last.number.saturating_add(1)),
            generation: image.generation(),
        });
        image.clone_to(&kept.path)?;
        Ok(kept)
    }

    /// Removes the oldest snapshots until `keep_last` are left, and returns the removed ones.
    ///
    /// Snapshots that another process reads or has open are skipped.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Directory`] with `ResourceBusy` if another process adds or removes snapshots
    ///   for more than 10 seconds.
    /// - [`StoreError::Directory`] if a snapshot cannot be removed. The error is the first one; all
    ///   other snapshots are removed nevertheless.
    pub fn prune(&self, keep_last: usize) -> Result<Vec<HistorySnapshot>, StoreError> {
        if self.names()?.is_empty() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        self.remove_leftovers(&self.names()?);
        let all = self.list()?;
        let mut removed = Vec::new();
        let mut failed = None;
        for kept in all.iter().take(all.len().saturating_sub(keep_last)) {
            match self.remove(kept) {
                Ok(true) => removed.push(kept.clone()),
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(removed), Err)
    }

    /// Returns false if the snapshot is in use.
    fn remove(&self, kept: &HistorySnapshot) -> Result<bool, StoreError> {
        let locks = match Locks::of_writer(&kept.path) {
            Err(StoreError::InUse { .. }) => return Ok(false),
            locks => locks?,
        };
        let mut heap_locks = Vec::new();
        for heap in [HeapName::A, HeapName::B] {
            match locks.writer_of(heap, Duration::ZERO) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
                lock => heap_locks.push(lock?),
            }
        }
        // Rename it first, so that no reader finds a partly removed snapshot.
        let removed_path = self.directory().join(format!(".{}.old", kept.name));
        fs::rename(&kept.path, &removed_path)
            .and_then(|()| sync_directory(&self.directory()))
            .and_then(|()| fs::remove_dir_all(&removed_path))
            .map_err(failed("remove", &kept.path))?;
        Ok(true)
    }

    /// Removes directories of snapshots that are being added or removed. The lock is held, so a
    /// killed process has left them. Errors are ignored, since leftovers have no effect on the
    /// history.
    fn remove_leftovers(&self, names: &[String]) {
        for name in names.iter().filter(|name| is_leftover(name)) {
            drop(fs::remove_dir_all(self.directory().join(name)));
        }
    }

    fn lock(&self) -> Result<HistoryLock, StoreError> {
        let directory = self.directory();
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => created.map_err(failed("create", &directory))?,
        }
        lock_file(&directory.join("lock"), LOCK_TIMEOUT).map(HistoryLock)
    }

    /// Names in the directory of the history; none if it does not exist.
    fn names(&self) -> Result<Vec<String>, StoreError> {
        let directory = self.directory();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("read", &directory))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("read", &directory))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    fn kept(&self, name: SnapshotName) -> HistorySnapshot {
        HistorySnapshot {
            name,
            path: self.directory().join(name.to_string()),
        }
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.store.join(DIRECTORY)
    }
}

/// Highest generation of all snapshots; `None` if there are none.
pub(super) fn highest_generation(store: &Path) -> Result<Option<Generation>, StoreError> {
    let all = History::new(store).list()?;
    Ok(all.iter().map(HistorySnapshot::generation).max())
}

impl HistorySnapshot {
    /// Returns the name of the snapshot, unique in its history.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.to_string()
    }

    /// Returns the directory of the snapshot, which is a store.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the generation of the snapshot.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.name.generation
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.generation)
    }
}

impl SnapshotName {
    /// Parses exactly what `fmt` writes, so that each snapshot has one name.
    fn parse(text: &str) -> Option<Self> {
        let (number, generation) = text.split_once('-')?;
        let name = Self {
            number: number.parse().ok()?,
            generation: Generation::new(generation.parse().ok()?)?,
        };
        // The next generation must be valid, too.
        let is_valid = name.generation < NUMBERS_END - 1 && name.to_string() == text;
        is_valid.then_some(name)
    }
}

/// Returns whether a name is `.NAME.new-PID-RANDOM` or `.NAME.old`.
fn is_leftover(text: &str) -> bool {
    let name = text.strip_prefix('.').and_then(|text| text.split_once('.'));
    name.is_some_and(|(name, suffix)| {
        SnapshotName::parse(name).is_some() && (suffix == "old" || suffix.starts_with("new-"))
    })
}

pub(super) fn failed<'p>(
    operation: &'static str,
    path: &'p Path,
) -> impl FnOnce(io::Error) -> StoreError + use<'p> {
    move |source| StoreError::Directory {
        path: path.to_path_buf(),
        operation,
        source,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_spelling() {
        for text in ["1-1", "17-4", "18446744073709551615-9223372036854775806"] {
            let name = SnapshotName::parse(text).expect("a valid name");
            assert_eq!(name.to_string(), text);
        }
        for text in [
            "",
            "-",
            "1",
            "1-",
            "1-0",
            "-1",
            "01-1",
            "1-+1",
            "1-1-1",
            "a-1",
            ".1-1.old",
            "1-9223372036854775807",
            "18446744073709551616-1",
        ] {
            assert_eq!(SnapshotName::parse(text), None, "{text}");
        }
        assert!(SnapshotName::parse("9-100") < SnapshotName::parse("10-1"));
    }

    #[test]
    fn only_names_of_this_library_are_leftovers() {
        for text in [".1-4.old", ".17-4.new-77-0123456789abcdef"] {
            assert!(is_leftover(text), "{text}");
        }
        for text in [
            "1-4",
            ".git",
            ".1-4",
            ".1-4.older",
            ".mine.new-77-0",
            "1-4.old",
            ".x-4.old",
        ] {
            assert!(!is_leftover(text), "{text}");
        }
    }
}
