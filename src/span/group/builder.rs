//! Construction of a group from entries.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::{EntryBody, GroupEntry};
use super::group::Group;
use super::layout::Layout;
use crate::mapping_cache::{
    Access, CacheOptions, CachedFile, FileOptions, Location, MappingCache, Preallocation,
    PreallocationFallback,
};
use crate::span::error::GroupError;

/// Builder of a [`Group`]. No file is opened before [`open`](Self::open).
///
/// ```
/// use flatspan::mapping_cache::MappingCache;
/// use flatspan::span::{Entry, Group};
///
/// # let directory = tempfile::tempdir()?;
/// # let root = directory.path();
/// let cache = MappingCache::new(Default::default())?;
/// let shards = (0..100).map(|shard| Entry::file(format!("shard-{shard:03}"), 1 << 20));
/// let group = Group::builder(root)
///     .cache(&cache)
///     .entries(shards)
///     .padding(4096)
///     .open()?;
/// assert_eq!(group.len(), 100 * (1 << 20) + 4096);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "`open` creates the group"]
pub struct GroupBuilder {
    root: PathBuf,
    cache: Option<MappingCache>,
    pub(in crate::span) options: FileOptions,
    allow_outside_root: bool,
    entries: Vec<Entry>,
}

/// Entry to be added to a [`GroupBuilder`].
///
/// ```
/// use flatspan::span::{Entry, Group};
///
/// let sectors = [(0, 512), (4096, 1024)];
/// let group = Group::builder("/dev/shm")
///     .entries(sectors.map(|(start, end)| Entry::file_range("disk.img", start..end)))
///     .entries([Entry::padding(512)]);
/// # drop(group);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an entry takes effect when it is given to a group builder"]
pub struct Entry(EntrySpec);

#[derive(Clone, Debug, PartialEq, Eq)]
enum EntrySpec {
    File { path: PathBuf, declared_bytes: u64 },
    ExistingFile { path: PathBuf },
    FileRange { path: PathBuf, range: Range<u64> },
    Padding { bytes: u64 },
}

impl Entry {
    /// Creates an entry for a file of `declared_bytes` bytes. The file may be missing, or be
    /// shorter or longer than declared.
    pub fn file(path: impl Into<PathBuf>, declared_bytes: u64) -> Self {
        Self(EntrySpec::File {
            path: path.into(),
            declared_bytes,
        })
    }

    /// Creates an entry for a file that exists. Its length is that of the file when the group is
    /// opened.
    pub fn existing_file(path: impl Into<PathBuf>) -> Self {
        Self(EntrySpec::ExistingFile { path: path.into() })
    }

    /// Creates an entry for a byte range of a file.
    pub fn file_range(path: impl Into<PathBuf>, range: Range<u64>) -> Self {
        Self(EntrySpec::FileRange {
            path: path.into(),
            range,
        })
    }

    /// Creates an entry of virtual zeros that are not stored.
    pub fn padding(bytes: u64) -> Self {
        Self(EntrySpec::Padding { bytes })
    }
}

impl GroupBuilder {
    fn new(root: PathBuf) -> Self {
        Self {
            root,
            cache: None,
            options: FileOptions::default(),
            allow_outside_root: false,
            entries: Vec::new(),
        }
    }

    /// Sets the mapping cache. Defaults to a new cache with default options.
    pub fn cache(mut self, cache: &MappingCache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Sets the access mode of the files. Defaults to [`Access::ReadOnly`].
    pub fn access(mut self, access: Access) -> Self {
        self.options.access = access;
        self
    }

    /// Sets whether missing files are created on their first write. Empty files are created when
    /// the group is opened. Defaults to `false`. The value `true` requires [`Access::ReadWrite`].
    ///
    /// The missing directories of an entry's path are created, too. The root directory is not: it
    /// must exist.
    pub fn create(mut self, create: bool) -> Self {
        self.options.create = create;
        self
    }

    /// Sets how much storage is preallocated, and when. Defaults to [`Preallocation::Window`].
    pub fn preallocation(mut self, preallocation: Preallocation) -> Self {
        self.options.preallocation = preallocation;
        self
    }

    /// Sets the reaction to a filesystem that does not support preallocation. Defaults to
    /// [`PreallocationFallback::Sparse`].
    pub fn preallocation_fallback(mut self, fallback: PreallocationFallback) -> Self {
        self.options.preallocation_fallback = fallback;
        self
    }

    /// Sets whether paths may leave the root by being absolute, by `..` or by symbolic links.
    /// Defaults to `false`.
    pub fn allow_outside_root(mut self, allowed: bool) -> Self {
        self.allow_outside_root = allowed;
        self
    }

    /// Adds entries in order.
    pub fn entries(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        self.entries.extend(entries);
        self
    }

    /// Adds an entry for a file, as [`Entry::file`].
    pub fn file(self, path: impl Into<PathBuf>, declared_bytes: u64) -> Self {
        self.entries([Entry::file(path, declared_bytes)])
    }

    /// Adds an entry for each file, given as path and declared length.
    pub fn files<P: Into<PathBuf>>(self, files: impl IntoIterator<Item = (P, u64)>) -> Self {
        let files = files.into_iter();
        self.entries(files.map(|(path, declared_bytes)| Entry::file(path, declared_bytes)))
    }

    /// Adds an entry for a file that exists, as [`Entry::existing_file`].
    pub fn existing_file(self, path: impl Into<PathBuf>) -> Self {
        self.entries([Entry::existing_file(path)])
    }

    /// Adds an entry for a byte range of a file, as [`Entry::file_range`].
    pub fn file_range(self, path: impl Into<PathBuf>, range: Range<u64>) -> Self {
        self.entries([Entry::file_range(path, range)])
    }

    /// Adds an entry of virtual zeros, as [`Entry::padding`].
    pub fn padding(self, bytes: u64) -> Self {
        self.entries([Entry::padding(bytes)])
    }

    /// Checks the options and entries and creates the group.
    ///
    /// # Errors
    ///
    /// - [`GroupError::LengthOverflow`] if the sum of the lengths exceeds 2^64 - 1.
    /// - [`GroupError::InvalidEntry`] if no file can have an entry.
    /// - [`GroupError::InvalidArgument`] if options contradict each other, or if the root cannot be
    ///   a path.
    /// - [`GroupError::File`] if a path leaves the root, the length of an existing file cannot be
    ///   read, or an empty file cannot be created.
    pub fn open(self) -> Result<Group, GroupError> {
        if self.options.create && self.options.access == Access::ReadOnly {
            return Err(GroupError::InvalidArgument {
                argument: "create",
                reason: "creating files requires `access(Access::ReadWrite)`; \
                         use `create(false)` to read existing files only"
                    .to_owned(),
            });
        }
        let cache = match &self.cache {
            Some(cache) => cache.clone(),
            None => MappingCache::new(CacheOptions::default())?,
        };
        let mut group = Group {
            layout: Layout::default(),
            entries: Vec::with_capacity(self.entries.len()),
            cache,
            root: Arc::from(absolute(&self.root)?),
            options: self.options,
            outside_root: self.allow_outside_root,
        };
        for entry in self.entries {
            group.add(entry)?;
        }
        for entry in 0..group.entries.len() {
            group.create_if_empty(entry)?;
        }
        Ok(group)
    }
}

/// The absolute path of a root: later changes of the current directory do not affect the group.
pub(super) fn absolute(root: &Path) -> Result<PathBuf, GroupError> {
    std::path::absolute(root).map_err(|error| GroupError::InvalidArgument {
        argument: "root",
        reason: format!("{}: {error}", root.display()),
    })
}

impl Group {
    /// Starts a group of files below the directory `root`.
    pub fn builder(root: impl Into<PathBuf>) -> GroupBuilder {
        GroupBuilder::new(root.into())
    }

    /// Appends a file to the group, as [`Entry::file`] describes it.
    ///
    /// # Errors
    ///
    /// The errors of [`GroupBuilder::open`]. The group is unchanged on error.
    pub fn append_file(
        &mut self,
        path: impl Into<PathBuf>,
        declared_bytes: u64,
    ) -> Result<(), GroupError> {
        self.add(Entry::file(path, declared_bytes))?;
        let entry = self.entries.len() - 1;
        if let Err(error) = self.create_if_empty(entry) {
            self.entries.pop();
            self.layout.pop();
            return Err(error);
        }
        Ok(())
    }

    /// Appends an entry; an error leaves the group unchanged.
    fn add(&mut self, entry: Entry) -> Result<(), GroupError> {
        match entry.0 {
            EntrySpec::File {
                path,
                declared_bytes,
            } => self.add_file(path, 0..declared_bytes, false),
            EntrySpec::ExistingFile { path } => {
                let mut file = self.open_cached(&path, 0)?;
                let actual_bytes = file.actual_bytes()?;
                file.set_declared_bytes(actual_bytes)?;
                self.push_file(path, file, 0..actual_bytes, false)
            }
            EntrySpec::FileRange { path, range } => self.add_file(path, range, true),
            EntrySpec::Padding { bytes } => {
                self.layout.push(bytes)?;
                self.entries.push(GroupEntry {
                    path: PathBuf::new(),
                    body: EntryBody::Padding,
                });
                Ok(())
            }
        }
    }

    fn add_file(
        &mut self,
        path: PathBuf,
        range: Range<u64>,
        is_range: bool,
    ) -> Result<(), GroupError> {
        if range.end < range.start {
            return Err(self.invalid_entry(path, "the range is inverted"));
        }
        let file = self.open_cached(&path, range.end)?;
        self.push_file(path, file, range, is_range)
    }

    fn push_file(
        &mut self,
        path: PathBuf,
        file: CachedFile,
        range: Range<u64>,
        is_range: bool,
    ) -> Result<(), GroupError> {
        // File offsets are signed (off_t).
        if i64::try_from(range.end).is_err() {
            return Err(self.invalid_entry(path, "it ends after 2^63 - 1 bytes"));
        }
        self.layout.push(range.end - range.start)?;
        let body = EntryBody::File {
            file,
            start: range.start,
            is_range,
        };
        self.entries.push(GroupEntry { path, body });
        Ok(())
    }

    fn open_cached(&self, path: &Path, declared_bytes: u64) -> Result<CachedFile, GroupError> {
        let (root, path) = (Arc::clone(&self.root), path.to_path_buf());
        let location = if self.outside_root {
            Location::unrestricted(root, path)
        } else {
            Location::beneath(root, path)?
        };
        Ok(self.cache.file(location, declared_bytes, self.options))
    }

    fn create_if_empty(&self, entry: usize) -> Result<(), GroupError> {
        let range = self.layout.bounds(entry);
        match self.entries[entry].file() {
            Some(file) if self.options.create && range.is_empty() => Ok(file.create_if_missing()?),
            _ => Ok(()),
        }
    }

    fn invalid_entry(&self, path: PathBuf, reason: &'static str) -> GroupError {
        GroupError::InvalidEntry {
            entry: self.entries.len(),
            path,
            reason,
        }
    }
}
