//! Copying from file to file without passing the bytes through the process, where that can be done.
//!
//! Three ways, each where the one before is refused: sharing storage (reflink), copying in the kernel, reading and
//! writing. Holes stay holes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::error::MappingError;
use super::file::{CachedFile, Writing};
use super::options::Access;
use crate::sys::{reflink, statx};

/// Read and written at a time, where the kernel cannot copy.
const BLOCK_BYTES: usize = 256 << 10;

/// Copied by the kernel at a time: short enough to be interrupted.
const RUN_BYTES: usize = 64 << 20;

impl CachedFile {
    /// Copies a range to `at` of another file; both are claimed, and reach as far.
    ///
    /// # Errors
    ///
    /// [`MappingError::ShortFile`] of either; [`MappingError::ReadOnly`], [`MappingError::StorageFull`],
    /// [`MappingError::Io`]. Then some of it may be copied.
    pub(crate) fn clone_claimed(
        &self,
        range: Range<u64>,
        to: &Self,
        at: u64,
    ) -> Result<(), MappingError> {
        let (source, _) = self.descriptor(Access::ReadOnly)?;
        let writing = to.begin_write()?;
        let Writing { entry, file } = &writing;
        let len = range.end - range.start;
        self.must_reach(range.end)?;
        to.must_reach(at + len)?;
        // Storage that is shared is not reserved any more.
        entry
            .reserved_to
            .store(0, std::sync::atomic::Ordering::Relaxed);
        entry.note_holes();
        let shared = share_inside(&source, range.clone(), file, at);
        for rest in rests(&range, &shared) {
            let at = at + (rest.start - range.start);
            self.copy_runs(&source, rest, to, file, at)?;
        }
        Ok(())
    }

    /// Copies the data of a range and leaves holes where there are holes.
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
                to.discard_claimed(shift(done)..shift(run.start))?;
            }
            copy(source, run.clone(), target, shift(run.start))
                .map_err(|error| to.room_error("copy into it", run.end - run.start, error))?;
            done = run.end;
        }
        Ok(())
    }
}

/// Shares as much of a range as lies on whole blocks; says which part that was.
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
        // What is wrong with the files, copying will say.
        Err(_) => none,
    }
}

/// What of a range lies before and behind a part of it.
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

/// Reads and writes: its error says what is wrong.
fn copy_block(source: &File, from: u64, target: &File, at: u64, left: usize) -> io::Result<usize> {
    let mut buf = vec![0; left.min(BLOCK_BYTES)];
    source.read_exact_at(&mut buf, from)?;
    target.write_all_at(&buf, at)?;
    // A page that is cut while the kernel copies it may arrive as zeros.
    if statx::len(source)? < from + buf.len() as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(buf.len())
}
