//! Copies between files by the kernel: by sharing storage if the filesystem supports it, otherwise
//! by copying bytes.
//!
//! See [`ioctl_ficlonerange(2)`](https://man7.org/linux/man-pages/man2/ioctl_ficlonerange.2.html)
//! and [`copy_file_range(2)`](https://man7.org/linux/man-pages/man2/copy_file_range.2.html).
//!
//! # Safety
//!
//! The ioctl takes two descriptors and a struct of numbers that it only reads. It is `unsafe`
//! because `libc` declares every ioctl as such.
#![expect(unsafe_code, reason = "rustix does not wrap FICLONERANGE")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use rustix::fs::copy_file_range;
use rustix::io::retry_on_intr;

/// Minimum alignment of the ranges of [`clone`]. Some filesystems require more.
pub(crate) const ALIGNMENT: u64 = 4096;

/// Makes a range of `to` share the storage of a range of `from`, including holes.
///
/// After any error the caller must copy the bytes. Filesystems differ in the error for a range that
/// they cannot share.
pub(crate) fn clone(from: &File, offset: u64, to: &File, at: u64, len: u64) -> io::Result<()> {
    let request = libc::file_clone_range {
        src_fd: from.as_raw_fd().into(),
        src_offset: offset,
        src_length: len,
        dest_offset: at,
    };
    // SAFETY: both files are borrowed, so their descriptors are open. The kernel only reads
    // `request`, which outlives the call.
    let done = unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONERANGE, &raw const request) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Copies up to `len` bytes. Returns the number of copied bytes, 0 for files that the kernel cannot
/// copy.
pub(crate) fn copy(
    from: &File,
    mut offset: u64,
    to: &File,
    mut at: u64,
    len: usize,
) -> io::Result<usize> {
    let copied =
        retry_on_intr(|| copy_file_range(from, Some(&mut offset), to, Some(&mut at), len))?;
    Ok(copied)
}
