//! Starting writeback without waiting for it, and read-ahead hints.
//!
//! # Safety
//!
//! `sync_file_range(2)` takes a descriptor and three numbers and touches no memory of ours; it is
//! `unsafe` only because `libc` declares it so.
#![expect(unsafe_code, reason = "rustix does not wrap sync_file_range")]

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;

use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};

/// Starts writing the dirty pages of the range; says nothing about when they are durable.
pub(crate) fn start(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let offset = i64::try_from(offset).map_err(invalid)?;
    let len = i64::try_from(len).map_err(invalid)?;
    // SAFETY: the descriptor is open, as `file` is borrowed; no memory is passed.
    let done = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Asks the kernel to read the range soon.
pub(crate) fn read_ahead(file: &File, offset: u64, len: u64) -> io::Result<()> {
    Ok(fadvise(
        file,
        offset,
        NonZeroU64::new(len),
        Advice::WillNeed,
    )?)
}

/// Lets the kernel drop the clean pages of the range.
pub(crate) fn drop_cached(file: &File, offset: u64, len: u64) -> io::Result<()> {
    Ok(fadvise(
        file,
        offset,
        NonZeroU64::new(len),
        Advice::DontNeed,
    )?)
}

/// Reads what is in the page cache and stops where the disk would be asked.
pub(crate) fn read_cached(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut buffers = [io::IoSliceMut::new(buf)];
    Ok(preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT)?)
}
