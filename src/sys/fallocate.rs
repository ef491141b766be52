//! Preallocation, so that a full disk is an error at a known point.
//!
//! See [`fallocate(2)`](https://man7.org/linux/man-pages/man2/fallocate.2.html).

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{FallocateFlags, IFlags, fallocate, fstatfs, ioctl_getflags};
use rustix::io::{Errno, retry_on_intr};

// From linux/magic.h.
const EXT4_SUPER_MAGIC: u64 = 0xEF53;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const XFS_SUPER_MAGIC: u64 = 0x5846_5342;
const BTRFS_SUPER_MAGIC: u64 = 0x9123_683E;

/// Writes that a preallocation covers on its filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// Every later write to the range has storage.
    EveryWrite,
    /// The first write has storage. A rewrite may need more and fail (btrfs copy-on-write). Also
    /// assumed of every filesystem of which the contrary is not known.
    FirstWrite,
}

/// Preallocates `len` bytes from `offset`, including holes. The length of the file stays.
///
/// ext4, tmpfs and xfs are known to keep preallocated storage for every write. An overlay, a
/// network filesystem or FUSE may forward the request to a filesystem that copies on write.
pub(crate) fn preallocate(file: &File, offset: u64, len: u64) -> io::Result<Coverage> {
    retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, offset, len))?;
    match u64::try_from(fstatfs(file)?.f_type).unwrap_or(0) & 0xFFFF_FFFF {
        XFS_SUPER_MAGIC => {
            // Reflinked extents count as allocated, but the next store would copy them.
            let flags = FallocateFlags::UNSHARE_RANGE | FallocateFlags::KEEP_SIZE;
            match retry_on_intr(|| fallocate(file, flags, offset, len)) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(Coverage::EveryWrite),
                Err(error) => Err(error.into()),
            }
        }
        BTRFS_SUPER_MAGIC => Ok(match ioctl_getflags(file.as_fd()) {
            Ok(flags) if flags.contains(IFlags::NOCOW) => Coverage::EveryWrite,
            _ => Coverage::FirstWrite,
        }),
        EXT4_SUPER_MAGIC | TMPFS_MAGIC => Ok(Coverage::EveryWrite),
        _ => Ok(Coverage::FirstWrite),
    }
}

/// Extends the file to at least `end` bytes, with storage for its last byte.
///
/// Unlike `ftruncate` it cannot shorten a file that another process extends at the same time.
pub(crate) fn extend(file: &File, end: u64) -> io::Result<()> {
    let Some(last) = end.checked_sub(1) else {
        return Ok(());
    };
    Ok(retry_on_intr(|| {
        fallocate(file, FallocateFlags::empty(), last, 1)
    })?)
}

/// Deallocates a range, which then reads as zeros. The length of the file stays.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(retry_on_intr(|| fallocate(file, flags, offset, len))?)
}

/// Zeros a range and keeps storage for it. The length of the file stays.
pub(crate) fn zero(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    match retry_on_intr(|| fallocate(file, flags, offset, len)) {
        Err(Errno::OPNOTSUPP) => {
            punch(file, offset, len)?;
            preallocate(file, offset, len).map(|_| ())
        }
        result => Ok(result?),
    }
}

/// Returns whether the error of [`preallocate`] or [`punch`] means that the filesystem does not
/// support it.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::OPNOTSUPP | Errno::NOSYS)
    )
}
