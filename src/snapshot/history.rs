//! States of a store that are kept beside the newest one (docs/file-format.md, "History").
//!
//! Each is a store of its own, so that everything that works on stores works on them. Who adds and removes them takes turns by a lock; the
//! writer of the store needs none of this, but for generations: it gives no number that a kept state has (hazard 8).

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::SnapshotError;
use super::format::{HeapName, NUMBERS_END};
use super::lock::{Locks, lock_file};
use super::reader::StoreReader;
use crate::sys::open::sync_directory;

const FOLDER: &str = "kept";
/// Others may be copying a large state.
const PATIENCE: Duration = Duration::from_secs(60);

/// The history of one store: states that are kept until they are removed.
///
/// ```no_run
/// use flatspan::snapshot::{History, StoreReader};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let history = History::of("/var/lib/counter");
/// let kept = history.keep()?;
/// history.prune(24)?;
/// // Like any other store:
/// let image = StoreReader::open(kept.directory())?.newest()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct History {
    store: PathBuf,
}

/// A state that is kept: a store in a directory named `GENERATION-SEQUENCE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    name: Name,
    directory: PathBuf,
}

/// In the order of the states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    generation: u64,
    sequence: u64,
    /// From 1 on, of different states with the same numbers: after a power cut a journal that was not synced may go on otherwise.
    variant: u64,
}

impl History {
    /// Of the store in this directory.
    pub fn of(store: impl AsRef<Path>) -> Self {
        Self {
            store: store.as_ref().to_path_buf(),
        }
    }

    /// All that are kept, the oldest first.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Directory`].
    pub fn list(&self) -> Result<Vec<Kept>, SnapshotError> {
        let mut all = Vec::new();
        for name in self.names()? {
            if let Some(name) = Name::parse(&name) {
                all.push(self.kept(name));
            }
        }
        all.sort_by_key(|kept| kept.name);
        Ok(all)
    }

    /// Keeps the newest state ([`StoreReader::newest`], [`Image::clone_to`](super::Image::clone_to)). One that is kept already is not
    /// kept twice.
    ///
    /// # Errors
    ///
    /// Those of reading the store, and of making one.
    pub fn keep(&self) -> Result<Kept, SnapshotError> {
        let _turn = self.turn()?;
        self.remove_leftovers()?;
        let image = StoreReader::open(&self.store)?.newest()?;
        let mut name = Name {
            generation: image.generation(),
            sequence: image.sequence(),
            variant: 1,
        };
        loop {
            let kept = self.kept(name);
            if !kept.directory.exists() {
                image.clone_to(&kept.directory)?;
                return Ok(kept);
            }
            let there = StoreReader::open(&kept.directory).and_then(|reader| reader.newest());
            if there.is_ok_and(|there| there.is_same_state(&image)) {
                return Ok(kept);
            }
            name.variant += 1;
        }
    }

    /// Removes the oldest until `count` are left, and returns those that it has removed. What somebody reads or has open stays
    /// until another time.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Directory`]; then some are removed.
    pub fn prune(&self, count: usize) -> Result<Vec<Kept>, SnapshotError> {
        if self.names()?.is_empty() {
            return Ok(Vec::new());
        }
        let _turn = self.turn()?;
        self.remove_leftovers()?;
        let all = self.list()?;
        let mut removed = Vec::new();
        for kept in all.iter().take(all.len().saturating_sub(count)) {
            if self.remove(kept)? {
                removed.push(kept.clone());
            }
        }
        Ok(removed)
    }

    /// False if it is in use.
    fn remove(&self, kept: &Kept) -> Result<bool, SnapshotError> {
        let locks = match Locks::of_writer(&kept.directory) {
            Err(SnapshotError::InUse { .. }) => return Ok(false),
            locks => locks?,
        };
        let mut heaps = Vec::new();
        for heap in [HeapName::A, HeapName::B] {
            match locks.writer_of(heap, Duration::ZERO) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
                lock => heaps.push(lock?),
            }
        }
        // Under another name nobody finds it half removed.
        let hidden = self.folder().join(format!(".{}.old", kept.name));
        fs::rename(&kept.directory, &hidden)
            .and_then(|()| sync_directory(&self.folder()))
            .and_then(|()| fs::remove_dir_all(&hidden))
            .map_err(failed("remove", &kept.directory))?;
        Ok(true)
    }

    /// What is being made or removed has a name that begins with a dot; if it is nobody's turn, whoever did it was killed.
    fn remove_leftovers(&self) -> Result<(), SnapshotError> {
        for name in self.names()? {
            let path = self.folder().join(&name);
            if name.starts_with('.') && path.is_dir() {
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Held as long as something is added or removed.
    fn turn(&self) -> Result<File, SnapshotError> {
        let folder = self.folder();
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed("create", &folder))?,
        }
        lock_file(&folder.join("lock"), PATIENCE)
    }

    /// None where there is no history.
    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let folder = self.folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("read", &folder))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("read", &folder))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    fn kept(&self, name: Name) -> Kept {
        Kept {
            name,
            directory: self.folder().join(name.to_string()),
        }
    }

    fn folder(&self) -> PathBuf {
        self.store.join(FOLDER)
    }
}

/// The highest generation that a kept state has; 0 for none.
pub(super) fn highest_generation(store: &Path) -> Result<u64, SnapshotError> {
    let all = History::of(store).list()?;
    Ok(all.last().map_or(0, Kept::generation))
}

impl Kept {
    /// Its name in the history.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.to_string()
    }

    /// Where it is: a store like any other.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.name.generation
    }

    /// The last record of the journal that is in it.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.name.sequence
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, self.sequence)?;
        match self.variant {
            1 => Ok(()),
            variant => write!(f, "-{variant}"),
        }
    }
}

impl Name {
    /// Nothing but what `fmt` makes: no other spelling of the same.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('-').map(|number| number.parse().ok());
        let name = Self {
            generation: numbers.next()??,
            sequence: numbers.next()??,
            variant: numbers.next().unwrap_or(Some(1))?,
        };
        let is_known = name.generation < NUMBERS_END && name.to_string() == text;
        is_known.then_some(name)
    }
}

fn failed<'p>(
    operation: &'static str,
    path: &'p Path,
) -> impl FnOnce(io::Error) -> SnapshotError + use<'p> {
    move |source| SnapshotError::Directory {
        path: path.to_path_buf(),
        operation,
        source,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        for text in ["1-0", "17-4", "17-4-2", "9223372036854775808-1"] {
            let name = Name::parse(text);
            let is_name = name.is_some_and(|name| name.to_string() == text);
            assert_eq!(is_name, !text.starts_with("92"), "{text}");
        }
        for text in [
            "",
            "-",
            "1",
            "1-",
            "01-1",
            "+1-1",
            "1-1-1",
            "1-1-02",
            "1-1-2-3",
            "a-1",
            ".1-1.old",
            "18446744073709551616-1",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
        assert!(Name::parse("9-100") < Name::parse("10-1"));
        assert!(Name::parse("9-9-2") < Name::parse("9-10"));
    }
}
