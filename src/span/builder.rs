//! Putting a group together.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::{Body, Entry};
use super::error::SpanError;
use super::group::Group;
use super::layout::Layout;
use crate::mapping_cache::{
    Access, CacheOptions, CachedFile, FileOptions, Location, MappingCache, Preallocation,
    Unreservable, UnsyncedDirectories,
};

/// Builds a [`Group`], entry by entry. Nothing is opened before [`open`](Self::open).
#[derive(Debug)]
#[must_use = "a group is made by `open`"]
pub struct GroupBuilder {
    root: PathBuf,
    cache: Option<MappingCache>,
    options: FileOptions,
    outside_root: bool,
    /// Set by `trust_files`.
    pub(super) trusted: bool,
    entries: Vec<Planned>,
}

#[derive(Debug)]
enum Planned {
    File(PathBuf, u64),
    Existing(PathBuf),
    FileRange(PathBuf, Range<u64>),
    Padding(u64),
}

impl GroupBuilder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            cache: None,
            options: FileOptions::default(),
            outside_root: false,
            trusted: false,
            entries: Vec::new(),
        }
    }

    /// Uses this cache; otherwise the group has one of its own with default options.
    pub fn cache(mut self, cache: &MappingCache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// May the files be changed? [`Access::ReadOnly`] if not said.
    pub fn access(mut self, access: Access) -> Self {
        self.options.access = access;
        self
    }

    /// Creates missing files, with the folders on their paths, when they are first written; empty
    /// ones when the group is opened. Needs [`Access::ReadWrite`].
    pub fn create(mut self, create: bool) -> Self {
        self.options.create = create;
        self
    }

    /// How much storage is reserved, and when.
    pub fn preallocation(mut self, preallocation: Preallocation) -> Self {
        self.options.preallocation = preallocation;
        self
    }

    /// What to do on a filesystem that cannot reserve storage.
    pub fn unreservable(mut self, unreservable: Unreservable) -> Self {
        self.options.unreservable = unreservable;
        self
    }

    /// Allows paths that leave the root: absolute ones, `..`, symlinks.
    pub fn outside_root(mut self, allowed: bool) -> Self {
        self.outside_root = allowed;
        self
    }

    /// Adds a file of `declared_bytes` bytes. It may be missing, and shorter or longer than declared.
    pub fn file(mut self, path: impl Into<PathBuf>, declared_bytes: u64) -> Self {
        self.entries
            .push(Planned::File(path.into(), declared_bytes));
        self
    }

    /// Adds a file that is there, as long as it is when the group is opened.
    pub fn existing(mut self, path: impl Into<PathBuf>) -> Self {
        self.entries.push(Planned::Existing(path.into()));
        self
    }

    /// Adds a range of a file.
    pub fn file_range(mut self, path: impl Into<PathBuf>, range: Range<u64>) -> Self {
        self.entries.push(Planned::FileRange(path.into(), range));
        self
    }

    /// Adds bytes that are zero and not on disk.
    pub fn padding(mut self, bytes: u64) -> Self {
        self.entries.push(Planned::Padding(bytes));
        self
    }

    /// Checks everything and makes the group.
    ///
    /// # Errors
    ///
    /// [`SpanError::TooLong`] and [`SpanError::Entry`] for lengths that cannot be,
    /// [`SpanError::Argument`] for options that contradict each other, and of the files
    /// [`MappingError::OutsideRoot`](crate::mapping_cache::MappingError::OutsideRoot), those of asking
    /// an existing file for its length and of creating an empty one.
    pub fn open(self) -> Result<Group, SpanError> {
        if self.options.create && self.options.access == Access::ReadOnly {
            return Err(SpanError::Argument {
                argument: "create",
                reason: "files cannot be created with Access::ReadOnly".to_owned(),
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
            root: Arc::from(absolute(self.root)?),
            options: self.options,
            outside_root: self.outside_root,
            trusted: self.trusted,
            directories: UnsyncedDirectories::default(),
        };
        for planned in self.entries {
            group.add(planned)?;
        }
        for entry in 0..group.entries.len() {
            group.create_if_empty(entry)?;
        }
        Ok(group)
    }
}

/// A relative root is seen from the directory the process is in now, not from one it goes to later.
pub(super) fn absolute(root: PathBuf) -> Result<PathBuf, SpanError> {
    std::path::absolute(&root).map_err(|error| SpanError::Argument {
        argument: "root",
        reason: format!("{}: {error}", root.display()),
    })
}

impl Group {
    /// Adds an entry at the end; nothing changes if that fails.
    fn add(&mut self, planned: Planned) -> Result<(), SpanError> {
        let (path, start, len, is_range) = match planned {
            Planned::File(path, len) => (path, 0, Some(len), false),
            Planned::Existing(path) => (path, 0, None, false),
            Planned::FileRange(path, range) => {
                let len = range.end.checked_sub(range.start);
                let len = len.ok_or_else(|| self.refused(&path, "the range is inverted"))?;
                (path, range.start, Some(len), true)
            }
            Planned::Padding(len) => {
                self.layout.push(len)?;
                self.entries.push(Entry {
                    path: PathBuf::new(),
                    body: Body::Padding,
                });
                return Ok(());
            }
        };
        let mut file = self.file_at(&path, start.saturating_add(len.unwrap_or(0)))?;
        let len = match len {
            Some(len) => len,
            None => {
                let present = file.present_bytes()?;
                file.declare(present)?;
                present
            }
        };
        // Offsets of files are signed.
        if start
            .checked_add(len)
            .is_none_or(|end| i64::try_from(end).is_err())
        {
            return Err(self.refused(&path, "it reaches past 2^63 - 1 bytes"));
        }
        self.layout.push(len)?;
        let body = Body::File {
            file,
            start,
            is_range,
        };
        self.entries.push(Entry { path, body });
        Ok(())
    }

    /// Adds a file at the end of the group, as [`GroupBuilder::file`] does.
    ///
    /// # Errors
    ///
    /// As for [`GroupBuilder::open`]; then the group is as before.
    pub fn append_file(
        &mut self,
        path: impl Into<PathBuf>,
        declared_bytes: u64,
    ) -> Result<(), SpanError> {
        self.add(Planned::File(path.into(), declared_bytes))?;
        let entry = self.entries.len() - 1;
        if let Err(error) = self.create_if_empty(entry) {
            self.entries.pop();
            self.layout = Layout::new((0..entry).map(|entry| {
                let range = self.layout.range_of(entry);
                range.end - range.start
            }))?;
            return Err(error);
        }
        Ok(())
    }

    fn file_at(&self, path: &Path, declared_bytes: u64) -> Result<CachedFile, SpanError> {
        let (root, path) = (self.root.clone(), path.to_path_buf());
        let location = if self.outside_root {
            Location::anywhere(root, path)
        } else {
            Location::beneath(root, path)?
        };
        let directories = self.directories.clone();
        Ok(self
            .cache
            .file_of_group(location, declared_bytes, self.options, directories))
    }

    fn create_if_empty(&self, entry: usize) -> Result<(), SpanError> {
        let range = self.layout.range_of(entry);
        match self.entries[entry].file() {
            Some(file) if self.options.create && range.is_empty() => Ok(file.ensure_exists()?),
            _ => Ok(()),
        }
    }

    fn refused(&self, path: &Path, reason: &'static str) -> SpanError {
        let entry = self.entries.len();
        let path = path.to_path_buf();
        SpanError::Entry {
            entry,
            path,
            reason,
        }
    }
}
