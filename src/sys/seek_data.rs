//! Holes of files.
//!
//! The functions move the position of the open file description. All other I/O of this crate is
//! positioned and ignores it. See [`lseek(2)`](https://man7.org/linux/man-pages/man2/lseek.2.html).

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Returns the first run of data at or after `offset`, `None` if only a hole follows.
pub(crate) fn next_data(file: &File, offset: u64) -> io::Result<Option<Range<u64>>> {
    let Some(start) = next_byte(file, offset)? else {
        return Ok(None);
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some(start..end.max(start)))
}

/// Returns the start of that run. Its end may take long to find, since the kernel searches the run.
pub(crate) fn next_byte(file: &File, offset: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
