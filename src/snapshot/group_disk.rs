//! The disk of a store on groups of files: one group for each array, made when it is first asked for.
//!
//! Locks, in the order they may be taken: the table of arrays here, then the shape of one array, then those of
//! another with a higher name, or of the same name on another disk with a higher address.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::array_files::ArrayFiles;
use super::disk::{Array, Disk};
use super::new_place::NewPlace;
use super::part_row::files_in;
use crate::mapping_cache::{Access, CacheOptions, CopyPath, MappingCache, Preallocation};
use crate::span::Group;

/// Of these the parts of arrays are made up, in bytes.
const PART_BYTES_STEP: u64 = 64 << 10;

/// The disk of a store in a directory. Parts are sparse files, read and written by positioned I/O.
///
/// One process has the store for writing (the store's own locks see to that): what others do to the files
/// meanwhile is noticed as an error at best. With [`Access::ReadOnly`] another process may be writing; lengths are then
/// asked for anew where they matter.
///
/// Where an array grows or is cut across the end of a part, files and directory are synced on the way, so that no
/// crash leaves a gap in the row of its parts. A write that fails there may leave the array longer, with zeros.
#[derive(Debug)]
pub struct GroupDisk {
    part_bytes: u64,
    access: Access,
    cache: MappingCache,
    table: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    dir: PathBuf,
    arrays: BTreeMap<Array, Arc<ArrayFiles>>,
    /// Where it was said.
    part_bytes: BTreeMap<Array, u64>,
    /// Of a store that is being made.
    place: Option<NewPlace>,
}

impl GroupDisk {
    /// The disk of a store that is there. `part_bytes` is a multiple of 64 KiB; what lies in the first part of an
    /// array can be read whatever it is, so METADATA, which says what it is ([`Disk::set_part_bytes`]).
    ///
    /// # Errors
    ///
    /// `NotFound` and `NotADirectory` for `dir`; `InvalidInput` for `part_bytes`.
    pub fn open(dir: &Path, part_bytes: u64, access: Access) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        let found = fs::metadata(&dir).map_err(|error| in_context(&dir, "open it", &error))?;
        if !found.is_dir() {
            let error = io::ErrorKind::NotADirectory.into();
            return Err(in_context(&dir, "open it as a store", &error));
        }
        Self::new(dir, part_bytes, access, None)
    }

    /// The disk of a store that is being made: in a directory beside `dir` with the name `.NAME.new-<pid>-<random>`
    /// until it is [published](Disk::publish). Dropped before, it is gone. One that a killed process has left is
    /// left alone and may be deleted by hand.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is anything at `dir` but an empty directory; `InvalidInput` for `part_bytes`, and
    /// for a path without a last name; those of making the directories.
    pub fn create(dir: &Path, part_bytes: u64) -> io::Result<Self> {
        check_part_bytes(part_bytes)?;
        let place = NewPlace::make(dir)?;
        let dir = place.dir().to_path_buf();
        Self::new(dir, part_bytes, Access::ReadWrite, Some(place))
    }

    fn new(
        dir: PathBuf,
        part_bytes: u64,
        access: Access,
        place: Option<NewPlace>,
    ) -> io::Result<Self> {
        check_part_bytes(part_bytes)?;
        // Copies are positioned: nothing is mapped here.
        let window_bytes = 64 << 10;
        let options = CacheOptions::default()
            .window_bytes(window_bytes)
            .budget_bytes(window_bytes as u64)
            .copy_path(CopyPath::Positioned);
        let table = Table {
            dir,
            arrays: BTreeMap::new(),
            part_bytes: BTreeMap::new(),
            place,
        };
        Ok(Self {
            part_bytes,
            access,
            cache: MappingCache::new(options).map_err(io::Error::from)?,
            table: RwLock::new(table),
        })
    }

    /// Uses this cache from now on, for arrays not used yet: so that groups of the caller over the same parts share
    /// what is known of them.
    #[must_use]
    pub fn cache(mut self, cache: &MappingCache) -> Self {
        self.cache = cache.clone();
        self
    }

    /// Where the files are now.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.read_table().dir.clone()
    }

    /// Makes the array on another disk, with parts as long as here, and copies a range to the same place there. It ends behind the
    /// range.
    pub(super) fn clone_array(&self, array: Array, to: &Self, range: Range<u64>) -> io::Result<()> {
        let from = self.files(array)?;
        to.set_part_bytes(array, from.part_bytes)?;
        to.create(array)?;
        to.set_len(array, range.end)?;
        from.clone_range(&*to.files(array)?, range)
    }

    /// The files of an array, if there are any.
    fn files(&self, array: Array) -> io::Result<Arc<ArrayFiles>> {
        if let Some(files) = self.read_table().arrays.get(&array) {
            return Ok(files.clone());
        }
        let mut table = self.write_table();
        if let Some(files) = table.arrays.get(&array) {
            return Ok(files.clone());
        }
        let group = self.empty_group(&table.dir)?;
        let part_bytes = match table.part_bytes.get(&array) {
            Some(part_bytes) => *part_bytes,
            None => self.found_part_bytes(&table.dir, array),
        };
        let files = ArrayFiles::open(array, part_bytes, self.access, group)?;
        let files = Arc::new(files);
        table.arrays.insert(array, files.clone());
        Ok(files)
    }

    /// Of an array of which nothing was said.
    pub(super) fn part_bytes_of(&self, array: Array) -> u64 {
        let table = self.read_table();
        let said = table.part_bytes.get(&array);
        said.copied()
            .unwrap_or_else(|| self.found_part_bytes(&table.dir, array))
    }

    /// What the files of a journal say of their length: the first one is full where there is a second.
    fn found_part_bytes(&self, dir: &Path, array: Array) -> u64 {
        let part = |part| fs::metadata(dir.join(array.part_name(part)));
        let (Array::Journal(_), Ok(first)) = (array, part(0)) else {
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

    fn read_table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_table(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for GroupDisk {
    fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    fn set_part_bytes(&self, array: Array, part_bytes: u64) -> io::Result<()> {
        check_part_bytes(part_bytes)?;
        let mut table = self.write_table();
        table.part_bytes.insert(array, part_bytes);
        let known = table.arrays.get(&array);
        if known.is_some_and(|files| files.part_bytes != part_bytes) {
            // Looked at before that was known.
            table.arrays.remove(&array);
        }
        Ok(())
    }

    fn arrays(&self) -> io::Result<Vec<Array>> {
        let files = files_in(&self.read_table().dir)?;
        let arrays = files.map(|file| file.map(|(array, _)| array));
        Ok(arrays
            .collect::<io::Result<BTreeSet<_>>>()?
            .into_iter()
            .collect())
    }

    fn create(&self, array: Array) -> io::Result<()> {
        let mut table = self.write_table();
        let group = self.empty_group(&table.dir)?;
        let said = table.part_bytes.get(&array);
        let part_bytes = said.copied().unwrap_or(self.part_bytes);
        let files = ArrayFiles::create(array, part_bytes, self.access, group)?;
        table.arrays.insert(array, Arc::new(files));
        Ok(())
    }

    fn len(&self, array: Array) -> io::Result<u64> {
        self.files(array)?.len()
    }

    fn read(&self, array: Array, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.files(array)?.read(offset, buf)
    }

    fn write(&self, array: Array, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.files(array)?.write(offset, buf)
    }

    fn start_writing(&self, array: Array, range: Range<u64>) {
        if let Ok(files) = self.files(array) {
            files.start_writing(range);
        }
    }

    fn reserve(&self, array: Array, range: Range<u64>) -> io::Result<()> {
        self.files(array)?.reserve(range)
    }

    fn set_len(&self, array: Array, len: u64) -> io::Result<()> {
        self.files(array)?.set_len(len)
    }

    fn discard(&self, array: Array, range: Range<u64>) -> io::Result<()> {
        self.files(array)?.discard(range)
    }

    fn next_data(&self, array: Array, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.files(array)?.next_data(offset)
    }

    fn sync(&self, array: Array) -> io::Result<()> {
        self.files(array)?.sync()
    }

    fn forget_cached(&self, array: Array) -> io::Result<()> {
        self.files(array)?.forget_cached()
    }

    fn remove(&self, array: Array) -> io::Result<()> {
        let files = self.files(array)?;
        files.remove()?;
        let mut table = self.write_table();
        // Somebody may have made it anew meanwhile.
        if table
            .arrays
            .get(&array)
            .is_some_and(|listed| Arc::ptr_eq(listed, &files))
        {
            table.arrays.remove(&array);
        }
        Ok(())
    }

    fn clone_range(&self, from: Array, to: Array, range: Range<u64>) -> io::Result<()> {
        self.files(from)?.clone_range(&*self.files(to)?, range)
    }

    fn publish(&self) -> io::Result<()> {
        let mut table = self.write_table();
        let Table {
            dir, arrays, place, ..
        } = &mut *table;
        let Some(place) = place else {
            let error = io::ErrorKind::InvalidInput.into();
            return Err(in_context(
                dir,
                "publish a store that has its place",
                &error,
            ));
        };
        arrays
            .values()
            .try_for_each(|files| files.refuse_failed())?;
        let published = place.publish();
        if place.dir() == dir.as_path() {
            return published;
        }
        *dir = place.dir().to_path_buf();
        let followed = arrays.values().try_for_each(|files| files.follow(dir));
        table.place = None;
        published.and(followed)
    }

    fn part_file(&self, array: Array, part: u64) -> io::Result<Option<File>> {
        self.files(array)?.part_file(part).map(Some)
    }
}

/// An error of the system with the path and what was tried; the kind stays.
pub(super) fn in_context(path: &Path, operation: &str, error: &io::Error) -> io::Error {
    let message = format!("{}: cannot {operation}: {error}", path.display());
    io::Error::new(error.kind(), message)
}

fn check_part_bytes(part_bytes: u64) -> io::Result<()> {
    let step = PART_BYTES_STEP;
    if part_bytes > 0 && part_bytes.is_multiple_of(step) && part_bytes <= i64::MAX as u64 {
        return Ok(());
    }
    let message = format!("parts of {part_bytes} bytes: not a multiple of {step}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}
