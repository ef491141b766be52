//! Copies from file to file that do not pass the bytes through the process if possible.
//!
//! Three methods are tried in this order, each if the one before is refused:
//!
//! 1. sharing storage (`FICLONERANGE` of `ioctl_ficlonerange(2)`),
//! 2. copying in the kernel (`copy_file_range(2)`),
//! 3. reading and writing.
//!
//! Holes are preserved.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::file::{CachedFile, WriteGuard};
use crate::mapping_cache::options::Access;
use crate::sys::{reflink, statx};

/// Bytes that are read and written at once if the kernel cannot copy.
const BLOCK_BYTES: usize = 256 << 10;

/// Bytes that the kernel copies at once: few enough to be interrupted.
const RUN_BYTES: usize = 64 << 20;

impl CachedFile {
    /// Copies a range to offset `at` of another file. The caller has locked both ranges.
    ///
    /// # Errors
    ///
    /// - [`MappingError::FileTooShort`] if one of the files is too short.
    /// - [`MappingError::ReadOnly`] if the target is opened for reading only.
    /// - [`MappingError::StorageFull`] if the filesystem is full.
    /// - [`MappingError::Io`] if copying fails.
    ///
    /// Part of the range may be copied on error.
    pub(crate) fn copy_range_locked(
        &self,
        range: Range<u64>,
        to: &Self,
        at: u64,
    ) -> Result<(), MappingError> {
        let (source, source_state) = self.descriptor(Access::ReadOnly)?;
        let writing = to.begin_write()?;
        let WriteGuard { state, file } = &writing;
        let len = range.end - range.start;
        self.must_reach(range.end)?;
        to.must_reach(at + len)?;
        // A later write to shared storage needs new storage, in either file. So nothing is
        // preallocated any more.
        source_state.storage.note_storage_freed(0);
        state.storage.note_storage_freed(0);
        let shared = share_inside(&source, range.clone(), file, at);
        for rest in rests(&range, &shared) {
            let at = at + (rest.start - range.start);
            self.copy_runs(&source, rest, to, file, at)?;
        }
        Ok(())
    }

    /// Copies the data of a range and makes holes in the target where the source has holes.
    fn copy_runs(
        &self,
        source: &File,
        range: Range<u64>,
        to: &Self,
        target: &File,
        at: u64,
    ) -> Result<(), MappingError> {
        let shift = |offset: u64| at + (offset - range.start);
        let mut done = range.start;
        while done < range.end {
            let run = self.next_data(done, range.end)?;
            let run = run.unwrap_or(range.end..range.end);
            if run.start > done {
                to.discard_locked(shift(done)..shift(run.start))?;
            }
            copy(source, run.clone(), target, shift(run.start))
                .map_err(|error| to.storage_error("copy into it", run.end - run.start, error))?;
            done = run.end;
        }
        Ok(())
    }
}

/// Shares the whole blocks of a range. Returns the shared range, which is empty if sharing failed.
fn share_inside(source: &File, range: Range<u64>, target: &File, at: u64) -> Range<u64> {
    let none = range.end..range.end;
    if range.start % reflink::ALIGNMENT != at % reflink::ALIGNMENT {
        return none;
    }
    let start = range.start.next_multiple_of(reflink::ALIGNMENT);
    let end = range.end - range.end % reflink::ALIGNMENT;
    if start >= end {
        return none;
    }
    let at = at + (start - range.start);
    match reflink::clone(source, start, target, at, end - start) {
        Ok(()) => start..end,
        // If the files are at fault, copying reports the error.
        Err(_) => none,
    }
}

/// Returns the parts of a range before and after `part`.
fn rests(range: &Range<u64>, part: &Range<u64>) -> [Range<u64>; 2] {
    [range.start..part.start, part.end..range.end]
}

fn copy(source: &File, run: Range<u64>, target: &File, at: u64) -> io::Result<()> {
    let mut done = run.start;
    while done < run.end {
        let left = usize::try_from(run.end - done).unwrap_or(usize::MAX);
        let at = at + (done - run.start);
        let copied = match reflink::copy(source, done, target, at, left.min(RUN_BYTES)) {
            Ok(0) | Err(_) => copy_block(source, done, target, at, left)?,
            Ok(copied) => copied,
        };
        done += copied as u64;
    }
    Ok(())
}

/// Reads and writes one block. Its error is more exact than that of the kernel's copy.
fn copy_block(source: &File, from: u64, target: &File, at: u64, left: usize) -> io::Result<usize> {
    let mut buf = vec![0; left.min(BLOCK_BYTES)];
    source.read_exact_at(&mut buf, from)?;
    target.write_all_at(&buf, at)?;
    // A page that is truncated while the kernel copies it may be read as zeros.
    if statx::len(source)? < from + buf.len() as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(buf.len())
}
