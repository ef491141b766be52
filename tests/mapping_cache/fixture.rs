//! Files and caches for the tests of this target.

use std::{fs, path::Path, sync::Arc};

use flatspan::mapping_cache::{
    Access, CacheOptions, CachedFile, CopyMethod, FileOptions, Location, MappingCache,
};

/// Size of a page; windows and offsets of the tests are multiples of it.
pub(crate) const PAGE: usize = 4096;

/// A small window, so that small files have many.
pub(crate) const WINDOW: usize = 4 * PAGE;

/// A cache of small windows with a budget in bytes.
pub(crate) fn options(windows: usize) -> CacheOptions {
    CacheOptions::default()
        .window_bytes(WINDOW)
        .budget_bytes((windows * WINDOW) as u64)
}

pub(crate) fn cache_of(options: CacheOptions) -> MappingCache {
    MappingCache::new(options).expect("options that work")
}

/// A cache with a budget for the given number of small windows.
pub(crate) fn cache(windows: usize) -> MappingCache {
    cache_of(options(windows))
}

/// A cache with a fixed copy method.
pub(crate) fn copying(path: CopyMethod) -> MappingCache {
    cache_of(options(64).copy_method(path))
}

pub(crate) fn place(directory: &Path, name: &str) -> Location {
    Location::beneath(Arc::from(directory), name.into()).expect("a plain name")
}

pub(crate) fn file_with(
    cache: &MappingCache,
    directory: &Path,
    name: &str,
    bytes: usize,
    options: FileOptions,
) -> CachedFile {
    cache.file(place(directory, name), bytes as u64, options)
}

/// A file opened for reading.
pub(crate) fn reader(
    cache: &MappingCache,
    directory: &Path,
    name: &str,
    bytes: usize,
) -> CachedFile {
    file_with(cache, directory, name, bytes, FileOptions::default())
}

/// Options of a file that is created, read and written.
pub(crate) fn writable() -> FileOptions {
    FileOptions::default()
        .access(Access::ReadWrite)
        .create(true)
}

/// A file opened for writing, created if it is missing.
pub(crate) fn writer(
    cache: &MappingCache,
    directory: &Path,
    name: &str,
    bytes: usize,
) -> CachedFile {
    file_with(cache, directory, name, bytes, writable())
}

/// Bytes that identify their position, none of them zero.
pub(crate) fn pattern(seed: u64, offset: u64, len: usize) -> Vec<u8> {
    let byte = |at: u64| ((at ^ (seed << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8 | 1;
    (offset..offset + len as u64).map(byte).collect()
}

/// Writes a file of pattern bytes without the cache.
pub(crate) fn put(directory: &Path, name: &str, seed: u64, bytes: usize) {
    fs::write(directory.join(name), pattern(seed, 0, bytes)).expect("a file");
}

/// Asserts that a file reads as pattern bytes through the cache.
#[track_caller]
pub(crate) fn assert_reads(file: &CachedFile, seed: u64, offset: u64, len: usize) {
    let mut buf = vec![0; len];
    assert_eq!(file.read_at(offset, &mut buf).expect("a read"), len);
    assert!(buf == pattern(seed, offset, len), "wrong bytes at {offset}");
}

/// Length of a file as the filesystem reports it.
#[track_caller]
pub(crate) fn len_of(directory: &Path, name: &str) -> u64 {
    fs::metadata(directory.join(name)).expect("metadata").len()
}
