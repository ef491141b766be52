//! The durable I/O of a store: the one door through which it reaches what outlives the process.
//!
//! Production is [`GroupDisk`](super::GroupDisk), on groups of files. A test may put its own behind a store, to record what is
//! done and to replay every crash of it.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;

use super::format::{HeapName, NUMBERS_END};

/// An array of a store: a row of files of equal length, the last one shorter, seen as one array of bytes
/// (docs/file-format.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Array {
    /// METADATA, then PAYLOAD.
    Heap(HeapName),
    /// The checksum tree of a heap.
    Table(HeapName),
    /// The journal of this number.
    Journal(u64),
}

impl fmt::Display for Array {
    /// As its files are named, without the number of the part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heap(name) => write!(f, "heap-{name}"),
            Self::Table(name) => write!(f, "table-{name}"),
            Self::Journal(number) => write!(f, "journal-{number:016x}"),
        }
    }
}

impl Array {
    /// The name of one of its files.
    #[must_use]
    pub fn part_name(&self, part: u64) -> String {
        format!("{self}.{part:05}")
    }

    /// The array and part that a file of a store belongs to; `None` for other files.
    #[must_use]
    pub fn of_file(file_name: &str) -> Option<(Self, u64)> {
        let (stem, part) = file_name.rsplit_once('.')?;
        let number = part.parse().ok()?;
        let array = match stem.split_once('-')? {
            ("heap", name) => Self::Heap(HeapName::parse(name)?),
            ("table", name) => Self::Table(HeapName::parse(name)?),
            ("journal", number) => {
                let number = u64::from_str_radix(number, 16).ok();
                Self::Journal(number.filter(|number| *number < NUMBERS_END)?)
            }
            _ => return None,
        };
        // Nothing but what `part_name` makes: no other spelling of the same.
        (array.part_name(number) == file_name).then_some((array, number))
    }
}

/// Durable I/O on the arrays of one store.
///
/// Everything takes `&self` and may be called from any thread. What was written is visible to
/// [`read`](Self::read) at once, and durable when a later [`sync`](Self::sync) of the array has returned `Ok`.
/// A sync that failed is never tried again on the same array: the store gives up the generation.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Bytes of each part, of arrays of which nothing else was said.
    fn part_bytes(&self) -> u64;

    /// Says how long the parts of an array are: of one that is there, before it is used, or of one that is made next. Of the
    /// journal nobody says it: where there is a second part, all are as long as the first one.
    ///
    /// A disk that knows one length only refuses others (`Unsupported`).
    fn set_part_bytes(&self, array: Array, part_bytes: u64) -> io::Result<()> {
        let only = self.part_bytes();
        if part_bytes == only {
            return Ok(());
        }
        let message = format!("{array}: parts of {part_bytes} bytes on a disk with {only}");
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    /// The arrays that are there.
    fn arrays(&self) -> io::Result<Vec<Array>>;

    /// Makes an array of no bytes: its first part. `AlreadyExists` if that is there.
    fn create(&self, array: Array) -> io::Result<()>;

    /// Present length. `NotFound` when there is no such array; `InvalidData` when a part in the middle is missing or
    /// has another length than it must.
    fn len(&self, array: Array) -> io::Result<u64>;

    /// Fills `buf`. `UnexpectedEof` when the array ends before.
    fn read(&self, array: Array, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `buf`; the array becomes longer if it must, with zeros in a gap.
    fn write(&self, array: Array, offset: u64, buf: &[u8]) -> io::Result<()>;

    /// Hints that what was written to a range may go to the disk now: a later [`sync`](Self::sync) has less to wait for.
    /// Nothing is durable by that.
    fn start_writing(&self, _array: Array, _range: Range<u64>) {}

    /// Reserves storage for a range, so that writing it does not fail for want of room, where the filesystem
    /// can. `StorageFull` says what is missing. Lengths do not change.
    fn reserve(&self, array: Array, range: Range<u64>) -> io::Result<()>;

    /// Makes the array this long: zeros are added, or the end is cut off and its parts removed.
    fn set_len(&self, array: Array, len: u64) -> io::Result<()>;

    /// Makes a range inside the array zeros, and gives its storage back where the filesystem can.
    fn discard(&self, array: Array, range: Range<u64>) -> io::Result<()>;

    /// The next stretch at or behind `offset` that may hold anything but zeros; `None` if there is none.
    fn next_data(&self, array: Array, offset: u64) -> io::Result<Option<Range<u64>>>;

    /// Makes durable what was done to the array before: bytes, lengths, and that its parts are there.
    fn sync(&self, array: Array) -> io::Result<()>;

    /// Sees to it that what is read next comes from the disk and not from memory, where it may look better than it
    /// is after a sync that failed. To be called before anything is written.
    fn forget_cached(&self, array: Array) -> io::Result<()>;

    /// Removes the array with all its parts. It may be back after a crash.
    fn remove(&self, array: Array) -> io::Result<()>;

    /// Copies a range from one array to the same place of another, sharing storage where the filesystem can.
    fn clone_range(&self, from: Array, to: Array, range: Range<u64>) -> io::Result<()>;

    /// Gives a store that was made under a temporary name its place, durably. Everything was synced before. `AlreadyExists` when
    /// something is there meanwhile.
    fn publish(&self) -> io::Result<()>;

    /// A file of the array, to be mapped for reading; `None` where that cannot be done.
    fn part_file(&self, array: Array, part: u64) -> io::Result<Option<File>>;
}
