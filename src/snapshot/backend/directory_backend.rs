//! Storage backend on a directory: one group of files for each logical file, opened on first use.
//!
//! Lock order:
//!
//! 1. the list of files;
//! 2. the shape of one logical file;
//! 3. the shape of a logical file with a higher name, or with the same name in a backend at a
//!    higher address.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::io_context::in_context;
use super::part_files::{FileParts, files_in};
use super::staging_directory::StagingDirectory;
use super::storage_backend::StorageBackend;
use crate::mapping_cache::{Access, CacheOptions, CopyMethod, MappingCache, Preallocation};
use crate::snapshot::file_names::LogicalFile;
use crate::span::Group;

/// Part length of a new store without the option [`StoreOptions::part_bytes`].
///
/// [`StoreOptions::part_bytes`]: crate::snapshot::StoreOptions::part_bytes
pub(crate) const DEFAULT_PART_BYTES: u64 = 256 << 20;
/// Unit of part lengths.
const PART_BYTES_STEP: u64 = 64 << 10;

/// Storage backend on a directory. Parts are sparse files, accessed by positioned I/O.
///
/// The locks of the store admit one writing process. Changes by other programs are reported as
/// errors at best. With [`Access::ReadOnly`] another process may write, so lengths are read again
/// where necessary.
///
/// A change of length across the end of a part syncs the files and the directory on the way. A
/// crash therefore leaves no gap between the parts. If a write fails there, the file may be longer,
/// with zeros.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use flatspan::mapping_cache::Access;
/// use flatspan::snapshot::{DirectoryBackend, StorageBackend, Store, StoreOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let directory = dir.path().join("counter");
/// let part_bytes = 1 << 20;
/// let backend = DirectoryBackend::create(&directory, part_bytes)?;
/// let options = StoreOptions::default().initial_bytes(4096);
/// let store = Store::open_with_backend(Arc::new(backend), options)?;
/// store.transaction(|tx| tx.write_at(0, b"new"))?;
/// drop(store);
///
/// let backend = DirectoryBackend::open(&directory, part_bytes, Access::ReadOnly)?;
/// for file in backend.files()? {
///     println!("{file}: {} bytes", backend.len(file)?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DirectoryBackend {
    part_bytes: u64,
    access: Access,
    cache: MappingCache,
    files: RwLock<Files>,
}

#[derive(Debug)]
struct Files {
    dir: PathBuf,
    arrays: BTreeMap<LogicalFile, Arc<FileParts>>,
    /// Part lengths that were set.
    part_bytes: BTreeMap<LogicalFile, u64>,
    /// Temporary directory of a store that is not published yet.
    staging: Option<StagingDirectory>,
}

impl DirectoryBackend {
    /// Opens the files of an existing store.
    ///
    /// `part_bytes` is a multiple of 64 KiB. The first part of a file can be read with any value.
    /// METADATA is in the first part and records the actual value for
    /// [`StorageBackend::set_part_bytes`].
    ///
    /// # Errors
    ///
    /// - `NotFound` if `dir` does not exist.
    /// - `NotADirectory` if `dir` is no directory.
    /// - `InvalidInput` if `part_bytes` is invalid.
    pub fn open(dir: &Path, part_bytes: u64, access: Access) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        let found = fs::metadata(&dir).map_err(|error| in_context(&dir, "open it", &error))?;
        if !found.is_dir() {
            let error = io::ErrorKind::NotADirectory.into();
            return Err(in_context(&dir, "open it as a store", &error));
        }
        Self::new(dir, part_bytes, access, None)
    }

    /// Creates the files of a new store in a temporary directory next to `dir`, named
    /// `.NAME.new-<pid>-<random>`.
    ///
    /// [`StorageBackend::publish`] renames the directory to `dir`. Dropping the backend before
    /// removes it. A directory that a killed process left is not reused and can be deleted by hand.
    ///
    /// # Errors
    ///
    /// - `AlreadyExists` if `dir` exists and is not an empty directory.
    /// - `InvalidInput` if `part_bytes` is invalid, or if `dir` has no last component.
    /// - Errors of creating the directories.
    pub fn create(dir: &Path, part_bytes: u64) -> io::Result<Self> {
        check_part_bytes(part_bytes)?;
        let staging = StagingDirectory::create(dir)?;
        let dir = staging.dir().to_path_buf();
        Self::new(dir, part_bytes, Access::ReadWrite, Some(staging))
    }

    fn new(
        dir: PathBuf,
        part_bytes: u64,
        access: Access,
        staging: Option<StagingDirectory>,
    ) -> io::Result<Self> {
        check_part_bytes(part_bytes)?;
        // Positioned I/O maps nothing, so the smallest budget suffices.
        let window_bytes = 64 << 10;
        let options = CacheOptions::default()
            .window_bytes(window_bytes)
            .budget_bytes(window_bytes as u64)
            .copy_method(CopyMethod::Positioned);
        let files = Files {
            dir,
            arrays: BTreeMap::new(),
            part_bytes: BTreeMap::new(),
            staging,
        };
        Ok(Self {
            part_bytes,
            access,
            cache: MappingCache::new(options).map_err(io::Error::from)?,
            files: RwLock::new(files),
        })
    }

    /// Sets the cache for files that were not used yet. Groups of the caller over the same parts
    /// then share its descriptors and states.
    #[must_use]
    pub fn cache(mut self, cache: &MappingCache) -> Self {
        self.cache = cache.clone();
        self
    }

    /// Returns the directory that the files are in.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.read_files().dir.clone()
    }

    /// Creates the file in another backend with the same part length and copies a range to the same
    /// offset there. The new file ends with the range.
    pub(in crate::snapshot) fn clone_array(
        &self,
        array: LogicalFile,
        to: &Self,
        range: Range<u64>,
    ) -> io::Result<()> {
        let from = self.parts(array)?;
        to.set_part_bytes(array, from.part_bytes)?;
        to.create(array)?;
        to.set_len(array, range.end)?;
        from.clone_range(&*to.parts(array)?, range)
    }

    /// Returns the parts of an existing file.
    fn parts(&self, array: LogicalFile) -> io::Result<Arc<FileParts>> {
        if let Some(parts) = self.read_files().arrays.get(&array) {
            return Ok(Arc::clone(parts));
        }
        let mut files = self.write_files();
        if let Some(parts) = files.arrays.get(&array) {
            return Ok(Arc::clone(parts));
        }
        let group = self.empty_group(&files.dir)?;
        let part_bytes = match files.part_bytes.get(&array) {
            Some(part_bytes) => *part_bytes,
            None => self.detect_part_bytes(&files.dir, array),
        };
        let parts = Arc::new(FileParts::open(array, part_bytes, self.access, group)?);
        files.arrays.insert(array, Arc::clone(&parts));
        Ok(parts)
    }

    /// Returns the part length of a file: the length that was set, or the detected one.
    pub(in crate::snapshot) fn part_bytes_of(&self, array: LogicalFile) -> u64 {
        let files = self.read_files();
        let part_bytes = files.part_bytes.get(&array);
        part_bytes
            .copied()
            .unwrap_or_else(|| self.detect_part_bytes(&files.dir, array))
    }

    /// Detects the part length of a journal file: its first part is full if a second part exists.
    fn detect_part_bytes(&self, dir: &Path, array: LogicalFile) -> u64 {
        let part = |part| fs::metadata(dir.join(array.part_name(part)));
        let (LogicalFile::Journal(_), Ok(first)) = (array, part(0)) else {
            return self.part_bytes;
        };
        match part(1) {
            Ok(_) if check_part_bytes(first.len()).is_ok() => first.len(),
            Ok(_) => self.part_bytes,
            Err(_) => first
                .len()
                .next_multiple_of(PART_BYTES_STEP)
                .max(self.part_bytes),
        }
    }

    fn empty_group(&self, dir: &Path) -> io::Result<Group> {
        let builder = Group::builder(dir)
            .cache(&self.cache)
            .access(self.access)
            .preallocation(Preallocation::Sparse);
        Ok(builder.open()?)
    }

    fn read_files(&self) -> RwLockReadGuard<'_, Files> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_files(&self) -> RwLockWriteGuard<'_, Files> {
        self.files.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for DirectoryBackend {
    fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    fn set_part_bytes(&self, array: LogicalFile, part_bytes: u64) -> io::Result<()> {
        check_part_bytes(part_bytes)?;
        let mut files = self.write_files();
        files.part_bytes.insert(array, part_bytes);
        let known = files.arrays.get(&array);
        if known.is_some_and(|parts| parts.part_bytes != part_bytes) {
            // The file was opened before its part length was known. Open it again on next use.
            files.arrays.remove(&array);
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<LogicalFile>> {
        let files = files_in(&self.read_files().dir)?;
        let arrays = files.map(|file| file.map(|(array, _)| array));
        Ok(arrays
            .collect::<io::Result<BTreeSet<_>>>()?
            .into_iter()
            .collect())
    }

    fn create(&self, array: LogicalFile) -> io::Result<()> {
        let mut files = self.write_files();
        let group = self.empty_group(&files.dir)?;
        let part_bytes = files.part_bytes.get(&array);
        let part_bytes = part_bytes.copied().unwrap_or(self.part_bytes);
        let parts = FileParts::create(array, part_bytes, self.access, group)?;
        files.arrays.insert(array, Arc::new(parts));
        Ok(())
    }

    fn len(&self, array: LogicalFile) -> io::Result<u64> {
        self.parts(array)?.len()
    }

    fn read(&self, array: LogicalFile, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.parts(array)?.read(offset, buf)
    }

    fn write(&self, array: LogicalFile, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.parts(array)?.write(offset, buf)
    }

    fn start_writeback(&self, array: LogicalFile, range: Range<u64>) {
        if let Ok(parts) = self.parts(array) {
            parts.start_writing(range);
        }
    }

    fn reserve(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.parts(array)?.reserve(range)
    }

    fn set_len(&self, array: LogicalFile, len: u64) -> io::Result<()> {
        self.parts(array)?.set_len(len)
    }

    fn discard(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.parts(array)?.discard(range)
    }

    fn next_data(&self, array: LogicalFile, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.parts(array)?.next_data(offset)
    }

    fn sync(&self, array: LogicalFile) -> io::Result<()> {
        self.parts(array)?.sync()
    }

    fn drop_page_cache(&self, array: LogicalFile) -> io::Result<()> {
        self.parts(array)?.forget_cached()
    }

    fn remove(&self, array: LogicalFile) -> io::Result<()> {
        let parts = self.parts(array)?;
        parts.remove()?;
        let mut files = self.write_files();
        // Another thread may have created the file again.
        if files
            .arrays
            .get(&array)
            .is_some_and(|listed| Arc::ptr_eq(listed, &parts))
        {
            files.arrays.remove(&array);
        }
        Ok(())
    }

    fn clone_range(&self, from: LogicalFile, to: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.parts(from)?.clone_range(&*self.parts(to)?, range)
    }

    fn publish(&self) -> io::Result<()> {
        let mut files = self.write_files();
        let Files {
            dir,
            arrays,
            staging,
            ..
        } = &mut *files;
        let Some(directory) = staging else {
            let error = io::ErrorKind::InvalidInput.into();
            return Err(in_context(dir, "publish a published store", &error));
        };
        arrays
            .values()
            .try_for_each(|parts| parts.refuse_failed())?;
        let published = directory.publish();
        if directory.dir() == dir.as_path() {
            return published;
        }
        *dir = directory.dir().to_path_buf();
        let moved = arrays.values().try_for_each(|parts| parts.set_root(dir));
        *staging = None;
        published.and(moved)
    }

    fn part_file(&self, array: LogicalFile, part: u64) -> io::Result<Option<File>> {
        self.parts(array)?.part_file(part).map(Some)
    }
}

fn check_part_bytes(part_bytes: u64) -> io::Result<()> {
    let step = PART_BYTES_STEP;
    if part_bytes > 0 && part_bytes.is_multiple_of(step) && part_bytes <= i64::MAX as u64 {
        return Ok(());
    }
    let message = format!("parts of {part_bytes} bytes: not a multiple of {step}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}
