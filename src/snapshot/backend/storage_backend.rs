//! Storage interface of a store. All files of a store are accessed through it.
//!
//! The implementation for production is [`DirectoryBackend`](super::DirectoryBackend), on groups of
//! files. A test can use a backend of its own to record the operations and to replay every crash.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;

use crate::snapshot::file_names::LogicalFile;

/// Storage backend: durable I/O on the logical files of one store.
///
/// Every method takes `&self` and can be called from any thread. Written bytes are visible to
/// [`read`](Self::read) at once. They are durable when a later [`sync`](Self::sync) of the file
/// returned `Ok`. The store does not repeat a failed sync of a file: it abandons the
/// generation.
///
/// # Examples
///
/// The [example](crate::snapshot::DirectoryBackend#examples) of `DirectoryBackend` opens a store
/// with a backend. Lengths and content of the logical files of a store:
///
/// ```
/// use flatspan::snapshot::StorageBackend;
///
/// fn print_files(backend: &dyn StorageBackend) -> std::io::Result<()> {
///     for file in backend.files()? {
///         let mut start = [0; 8];
///         backend.read(file, 0, &mut start)?;
///         println!("{file}: {} bytes, starting with {start:x?}", backend.len(file)?);
///     }
///     Ok(())
/// }
/// ```
pub trait StorageBackend: fmt::Debug + Send + Sync {
    /// Returns the part length of files without a length of their own.
    fn part_bytes(&self) -> u64;

    /// Sets the part length of a file.
    ///
    /// The store calls this before it uses an existing file or creates a new one. It never does so
    /// for journal files: if a journal file has several parts, the length of the first one is the
    /// part length.
    ///
    /// # Errors
    ///
    /// - `Unsupported` if the backend supports one part length only.
    fn set_part_bytes(&self, array: LogicalFile, part_bytes: u64) -> io::Result<()> {
        let only = self.part_bytes();
        if part_bytes == only {
            return Ok(());
        }
        let message =
            format!("{array}: parts of {part_bytes} bytes in a backend with parts of {only}");
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    /// Returns the existing files.
    ///
    /// # Errors
    ///
    /// - Errors of the storage.
    fn files(&self) -> io::Result<Vec<LogicalFile>>;

    /// Creates an empty file with one part.
    ///
    /// # Errors
    ///
    /// - `AlreadyExists` if the file exists.
    fn create(&self, array: LogicalFile) -> io::Result<()>;

    /// Returns the present length of a file.
    ///
    /// # Errors
    ///
    /// - `NotFound` if the file does not exist.
    /// - `InvalidData` if a part in the middle is missing or has a wrong length.
    fn len(&self, array: LogicalFile) -> io::Result<u64>;

    /// Fills `buf` with bytes at `offset`.
    ///
    /// # Errors
    ///
    /// - `UnexpectedEof` if the file ends before `buf` is full.
    fn read(&self, array: LogicalFile, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `buf` at `offset`. Extends the file if necessary, with zeros in a gap.
    ///
    /// # Errors
    ///
    /// - Errors of the storage.
    fn write(&self, array: LogicalFile, offset: u64, buf: &[u8]) -> io::Result<()>;

    /// Starts the writeback of a range, so that a later [`sync`](Self::sync) takes less time. This
    /// is a hint and makes nothing durable.
    fn start_writeback(&self, _array: LogicalFile, _range: Range<u64>) {}

    /// Reserves storage for a range where the filesystem supports it. Writing the range then does
    /// not fail for lack of space. The length of the file does not change.
    ///
    /// # Errors
    ///
    /// - `StorageFull` if there is too little space. The message has the number of missing bytes.
    fn reserve(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()>;

    /// Sets the length of a file: adds zeros, or truncates it and removes parts.
    ///
    /// # Errors
    ///
    /// - Errors of the storage.
    fn set_len(&self, array: LogicalFile, len: u64) -> io::Result<()>;

    /// Sets a range inside the file to zeros and releases its storage where the filesystem supports
    /// it.
    ///
    /// # Errors
    ///
    /// - Errors of the storage.
    fn discard(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()>;

    /// Returns the next range at or after `offset` that may have data other than zeros, or `None`.
    ///
    /// # Errors
    ///
    /// - Errors of the storage.
    fn next_data(&self, array: LogicalFile, offset: u64) -> io::Result<Option<Range<u64>>>;

    /// Makes earlier changes of the file durable: its bytes, its length and the existence of its
    /// parts.
    ///
    /// # Errors
    ///
    /// - Errors of the storage. The durable state is then unknown.
    fn sync(&self, array: LogicalFile) -> io::Result<()>;

    /// Drops the file from the page cache, so that the next read returns the bytes on the disk.
    /// After a failed sync the page cache may differ from the disk. The store calls this before it
    /// writes anything.
    ///
    /// # Errors
    ///
    /// - Errors of the storage.
    fn drop_page_cache(&self, array: LogicalFile) -> io::Result<()>;

    /// Removes the file with all its parts. A crash may undo the removal.
    ///
    /// # Errors
    ///
    /// - `NotFound` if the file does not exist.
    fn remove(&self, array: LogicalFile) -> io::Result<()>;

    /// Copies a range of one file to the same offset of another file. Shares storage where the
    /// filesystem supports it.
    ///
    /// # Errors
    ///
    /// - Errors of the storage.
    fn clone_range(&self, from: LogicalFile, to: LogicalFile, range: Range<u64>) -> io::Result<()>;

    /// Gives a store that was created under a temporary name its final name, durably. Everything
    /// was synced before.
    ///
    /// # Errors
    ///
    /// - `AlreadyExists` if another store has the name.
    fn publish(&self) -> io::Result<()>;

    /// Opens a part of the file for mapping. Returns `None` if the backend has no files.
    ///
    /// # Errors
    ///
    /// - `NotFound` if the part does not exist.
    fn part_file(&self, array: LogicalFile, part: u64) -> io::Result<Option<File>>;
}
