//! The files of a group as their owner keeps them: made, sized, reserved, with holes.

use std::fs::File;
use std::ops::{Range, RangeBounds};

use super::entry::{Body, Entry};
use super::error::SpanError;
use super::group::Group;
use crate::mapping_cache::CachedFile;

impl Group {
    /// Creates the file of an entry, which must not be there. Its folder is synced by
    /// [`sync_all`](Self::sync_all).
    ///
    /// # Errors
    ///
    /// [`SpanError::NoSuchFile`]; `AlreadyExists`; `ReadOnly`, `StorageFull`.
    pub fn create_file(&self, entry: usize) -> Result<(), SpanError> {
        Ok(self.file_of(entry)?.create_new()?)
    }

    /// Length that the file of an entry has now, all of it if the entry is a range.
    ///
    /// # Errors
    ///
    /// [`SpanError::NoSuchFile`]; those of opening the file, `Missing` among them.
    pub fn present_bytes(&self, entry: usize) -> Result<u64, SpanError> {
        Ok(self.file_of(entry)?.present_bytes()?)
    }

    /// Makes the file of an entry this long, at most as long as declared: what is added is a hole, what is cut off is
    /// gone. Counts as a write, also where the length was this before.
    ///
    /// # Errors
    ///
    /// [`SpanError::NoSuchFile`]; [`SpanError::Argument`] for more than was declared, and for an entry that is a
    /// range of a file; `Busy` and `WindowPinned` where a span or a pin lies behind the new end; `ReadOnly`,
    /// `StorageFull`, `ShortFile`. Then it is as long as before.
    pub fn set_file_len(&self, entry: usize, bytes: u64) -> Result<(), SpanError> {
        let file = self.file_of(entry)?;
        let refuse = |reason: String| SpanError::Argument {
            argument: "bytes",
            reason,
        };
        if let Body::File { is_range: true, .. } = self.entries[entry].body {
            return Err(refuse(format!("entry {entry} is a range of a file")));
        }
        if bytes > file.declared_bytes() {
            let declared = file.declared_bytes();
            return Err(refuse(format!("{bytes}, where {declared} are declared")));
        }
        Ok(file.set_len(bytes)?)
    }

    /// Reserves storage for a range, whatever the options say, without changing the length of any file.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`]; `StorageFull`, with what the files before have reserved; those of opening the files.
    pub fn reserve(&self, range: impl RangeBounds<u64>) -> Result<(), SpanError> {
        self.each(&range, |file, part| file.reserve(part))
    }

    /// Makes a range zeros and gives its storage back where the filesystem can. Lengths stay: where a file ends before,
    /// it still does.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`]; `Busy` beside a span; `ReadOnly`; those of the files.
    pub fn discard(&self, range: impl RangeBounds<u64>) -> Result<(), SpanError> {
        let range = self.layout.resolve(range)?;
        let _claims = self.claim_for_writing(range.clone())?;
        self.each(&range, |file, part| file.discard_locked(part))
    }

    /// The first run in a range that may hold anything but zeros: no padding, no hole. Bytes that a file does not
    /// have count as something. One run ends with its file.
    ///
    /// # Errors
    ///
    /// [`SpanError::Range`]; those of opening the files.
    pub fn next_data(&self, range: impl RangeBounds<u64>) -> Result<Option<Range<u64>>, SpanError> {
        for extent in self.layout.extents(range)? {
            let Some((file, part)) = self.entries[extent.entry].place(extent) else {
                continue;
            };
            if let Some(run) = file.next_data(part.start, part.end)? {
                let start = self.layout.range_of(extent.entry).start + extent.offset;
                let shift = |at: u64| start + (at - part.start);
                return Ok(Some(shift(run.start)..shift(run.end)));
            }
        }
        Ok(None)
    }

    /// What is read next of the files comes from the disk; see [`CachedFile::forget_cached`]. Files that are missing
    /// are left out.
    ///
    /// # Errors
    ///
    /// `WindowPinned`; those of opening the files. Then some of them may be in memory still.
    pub fn forget_cached(&self) -> Result<(), SpanError> {
        use crate::mapping_cache::MappingError;
        for file in self.entries.iter().filter_map(Entry::file) {
            match file.forget_cached() {
                Ok(()) | Err(MappingError::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A descriptor of the file of an entry, for reading.
    ///
    /// # Errors
    ///
    /// [`SpanError::NoSuchFile`]; those of opening the file.
    pub fn open_file(&self, entry: usize) -> Result<File, SpanError> {
        Ok(self.file_of(entry)?.open_for_reading()?)
    }

    fn file_of(&self, entry: usize) -> Result<&CachedFile, SpanError> {
        let file = self.entries.get(entry).and_then(Entry::file);
        file.ok_or_else(|| self.no_such_file(entry))
    }
}
