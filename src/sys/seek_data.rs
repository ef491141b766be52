//! Holes of files. See [`lseek(2)`](https://man7.org/linux/man-pages/man2/lseek.2.html).
//!
//! The position of the descriptor moves; all our reads and writes are positioned and do not care.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The first run of data at or after `offset`, or `None` where only a hole follows.
pub(crate) fn next_data(file: &File, offset: u64) -> io::Result<Option<Range<u64>>> {
    let Some(start) = next_byte(file, offset)? else {
        return Ok(None);
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some(start..end.max(start)))
}

/// Where that run begins. Where it ends may take long to find: all of it is looked at.
pub(crate) fn next_byte(file: &File, offset: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
