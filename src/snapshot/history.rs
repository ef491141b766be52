//! States of a store that are kept beside the newest one (docs/file-format.md, "History").
//!
//! Each is a store of its own, so that everything that works on stores works on them. Who adds and removes them takes turns by a lock; the
//! writer of the store needs none of this, but for generations: it gives no number that a kept state has (hazard 8). They are in the
//! order in which they were kept: generations need not be, where a journal has lost its end.

mod rollback;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::rollback::{CurrentState, Rollback};
use super::error::SnapshotError;
use super::format::{HeapName, NUMBERS_END};
use super::lock::{Locks, lock_file};
use super::reader::StoreReader;
use crate::sys::openat2::sync_directory;

const FOLDER: &str = "history";
/// Others may be copying a large state.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// A state that is kept: a store in a directory named `NUMBER-GENERATION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    name: Name,
    directory: PathBuf,
}

/// In the order in which they were kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    number: u64,
    generation: u64,
}

/// Held as long as something is added or removed. Given back by hand, as a child that was forked meanwhile may have the
/// file, too.
struct Turn(File);

impl Drop for Turn {
    fn drop(&mut self) {
        // Closing it does the same, but for such a child.
        let _ = self.0.unlock();
    }
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
        let names = self.names()?;
        let mut all: Vec<_> = names.iter().filter_map(|name| Name::parse(name)).collect();
        all.sort();
        let all = all.into_iter().map(|name| self.kept(name));
        Ok(all.filter(|kept| kept.directory.is_dir()).collect())
    }

    /// Keeps the newest state ([`StoreReader::newest`], [`Image::clone_to`](super::Image::clone_to)). One that was kept last is not
    /// kept twice.
    ///
    /// # Errors
    ///
    /// Those of reading the store, and of making one; `ResourceBusy` in [`SnapshotError::Directory`] if others are adding or removing
    /// states for long.
    pub fn keep(&self) -> Result<Kept, SnapshotError> {
        // First, so that nothing is put where there is no store.
        let store = StoreReader::open(&self.store)?;
        let _turn = self.turn()?;
        let names = self.names()?;
        self.remove_leftovers(&names);
        let image = store.newest_to_clone()?;
        if let Some(last) = self.list()?.pop() {
            let there = StoreReader::open(&last.directory);
            let there = there.and_then(|reader| reader.newest_to_clone());
            if there.is_ok_and(|there| there.is_same_state(&image)) {
                return Ok(last);
            }
        }
        let taken = names.iter().filter_map(|name| Name::parse(name));
        let kept = self.kept(Name {
            number: taken.max().map_or(1, |last| last.number.saturating_add(1)),
            generation: image.generation(),
        });
        image.clone_to(&kept.directory)?;
        Ok(kept)
    }

    /// Removes the oldest until `count` are left, and returns those that it has removed. What somebody reads or has open stays
    /// until another time.
    ///
    /// # Errors
    ///
    /// As for [`keep`](Self::keep); those of the directories that could not be removed, the first of them. All others are.
    pub fn prune(&self, count: usize) -> Result<Vec<Kept>, SnapshotError> {
        if self.names()?.is_empty() {
            return Ok(Vec::new());
        }
        let _turn = self.turn()?;
        self.remove_leftovers(&self.names()?);
        let all = self.list()?;
        let mut removed = Vec::new();
        let mut failed = None;
        for kept in all.iter().take(all.len().saturating_sub(count)) {
            match self.remove(kept) {
                Ok(true) => removed.push(kept.clone()),
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(removed), Err)
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

    /// What is being made or removed has a name that begins with a dot; if it is nobody's turn, whoever did it was killed. What
    /// cannot be removed is in nobody's way.
    fn remove_leftovers(&self, names: &[String]) {
        for name in names.iter().filter(|name| is_leftover(name)) {
            let _ = fs::remove_dir_all(self.folder().join(name));
        }
    }

    fn turn(&self) -> Result<Turn, SnapshotError> {
        let folder = self.folder();
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed("create", &folder))?,
        }
        lock_file(&folder.join("lock"), PATIENCE).map(Turn)
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
    Ok(all.iter().map(Kept::generation).max().unwrap_or(0))
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
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.generation)
    }
}

impl Name {
    /// Nothing but what `fmt` makes: no other spelling of the same.
    fn parse(text: &str) -> Option<Self> {
        let (number, generation) = text.split_once('-')?;
        let name = Self {
            number: number.parse().ok()?,
            generation: generation.parse().ok()?,
        };
        // One more must be a generation, too.
        let is_known = name.generation < NUMBERS_END - 1 && name.to_string() == text;
        is_known.then_some(name)
    }
}

/// `.NAME.new-PID-RANDOM` or `.NAME.old`.
fn is_leftover(text: &str) -> bool {
    let name = text.strip_prefix('.').and_then(|text| text.split_once('.'));
    name.is_some_and(|(name, what)| {
        Name::parse(name).is_some() && (what == "old" || what.starts_with("new-"))
    })
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
        for text in ["1-0", "17-4", "18446744073709551615-9223372036854775806"] {
            let name = Name::parse(text).expect("a name");
            assert_eq!(name.to_string(), text);
        }
        for text in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "01-1",
            "1-+1",
            "1-1-1",
            "a-1",
            ".1-1.old",
            "1-9223372036854775807",
            "18446744073709551616-1",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
        assert!(Name::parse("9-100") < Name::parse("10-1"));
    }

    #[test]
    fn leftovers_are_of_ours_only() {
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
