//! Copying from file to file inside the kernel: by sharing storage where the filesystem can, else byte by byte.
//! See [`ioctl_ficlonerange(2)`](https://man7.org/linux/man-pages/man2/ioctl_ficlonerange.2.html) and
//! [`copy_file_range(2)`](https://man7.org/linux/man-pages/man2/copy_file_range.2.html).
//!
//! # Safety
//!
//! The ioctl takes two descriptors and three numbers in a struct of ours that it only reads; it is `unsafe`
//! because `libc` declares every ioctl so.
#![expect(unsafe_code, reason = "rustix does not wrap FICLONERANGE")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::fs::copy_file_range;
use rustix::io::retry_on_intr;

/// What [`clone`] takes must lie on multiples of this, at least; some filesystems want more.
pub(crate) const ALIGNMENT: u64 = 4096;

/// Makes a range of `to` share the storage of one of `from`, holes included. Any error means that the bytes have to
/// be copied: which of them a filesystem gives for what it cannot share differs from one to the next.
pub(crate) fn clone(from: &File, offset: u64, to: &File, at: u64, len: u64) -> io::Result<()> {
    let request = libc::file_clone_range {
        src_fd: from.as_raw_fd().into(),
        src_offset: offset,
        src_length: len,
        dest_offset: at,
    };
    // SAFETY: both descriptors are open, as the files are borrowed; the kernel reads `request`, which outlives the
    // call, and writes nothing of ours.
    let done = unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONERANGE, &raw const request) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Copies some bytes; says how many, which is none for files that the kernel cannot do it for.
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
