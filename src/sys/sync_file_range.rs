//! Writeback without waiting, and page-cache hints.
//!
//! See [`sync_file_range(2)`](https://man7.org/linux/man-pages/man2/sync_file_range.2.html),
//! [`posix_fadvise(2)`](https://man7.org/linux/man-pages/man2/posix_fadvise.2.html) and
//! [`preadv2(2)`](https://man7.org/linux/man-pages/man2/preadv2.2.html).
//!
//! # Safety
//!
//! `sync_file_range(2)` takes a descriptor and three numbers, and accesses no memory. It is
//! `unsafe` because `libc` declares it as such.
#![expect(unsafe_code, reason = "rustix does not wrap sync_file_range")]

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd as _;

use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};

/// Starts writeback of the dirty pages of the range. They are not durable when it returns.
pub(crate) fn start(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let offset = i64::try_from(offset).map_err(invalid)?;
    let len = i64::try_from(len).map_err(invalid)?;
    // SAFETY: `file` is borrowed, so its descriptor is open. No memory is passed.
    let done = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Starts reading the range into the page cache.
pub(crate) fn read_ahead(file: &File, offset: u64, len: u64) -> io::Result<()> {
    Ok(fadvise(
        file,
        offset,
        NonZeroU64::new(len),
        Advice::WillNeed,
    )?)
}

/// Drops the clean pages of the range from the page cache.
pub(crate) fn drop_cached(file: &File, offset: u64, len: u64) -> io::Result<()> {
    Ok(fadvise(
        file,
        offset,
        NonZeroU64::new(len),
        Advice::DontNeed,
    )?)
}

/// Reads from the page cache, up to the first page that is not in it.
pub(crate) fn read_cached(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut buffers = [io::IoSliceMut::new(buf)];
    Ok(preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT)?)
}
