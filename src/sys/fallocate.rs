//! Reserving storage before it is written, so that a full disk is an error at a known place.
//! See [`fallocate(2)`](https://man7.org/linux/man-pages/man2/fallocate.2.html).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, IFlags, fallocate, fstatfs, ioctl_getflags};
use rustix::io::{Errno, retry_on_intr};

// From linux/magic.h.
const XFS_SUPER_MAGIC: u64 = 0x5846_5342;
const BTRFS_SUPER_MAGIC: u64 = 0x9123_683E;

/// What a reservation is worth on the filesystem that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Every later write into the range finds its block.
    EveryWrite,
    /// The first write finds its block; rewriting copies and may not (btrfs with copy-on-write).
    FirstWrite,
}

/// Reserves `len` bytes from `offset`, holes included, without changing the file's length.
pub(crate) fn reserve(file: &File, offset: u64, len: u64) -> io::Result<Promise> {
    retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, offset, len))?;
    match u64::try_from(fstatfs(file)?.f_type).unwrap_or(0) & 0xFFFF_FFFF {
        XFS_SUPER_MAGIC => {
            // Extents shared by a reflink count as allocated and would be copied by the next store.
            let flags = FallocateFlags::UNSHARE_RANGE | FallocateFlags::KEEP_SIZE;
            match retry_on_intr(|| fallocate(file, flags, offset, len)) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(Promise::EveryWrite),
                Err(error) => Err(error.into()),
            }
        }
        BTRFS_SUPER_MAGIC => Ok(match ioctl_getflags(file.as_fd()) {
            Ok(flags) if flags.contains(IFlags::NOCOW) => Promise::EveryWrite,
            _ => Promise::FirstWrite,
        }),
        _ => Ok(Promise::EveryWrite),
    }
}

/// Makes the file at least `end` bytes long, with storage for its last byte. Unlike `ftruncate` it
/// cannot make it shorter, whoever else changes it at the same time.
pub(crate) fn extend(file: &File, end: u64) -> io::Result<()> {
    let Some(last) = end.checked_sub(1) else {
        return Ok(());
    };
    Ok(retry_on_intr(|| {
        fallocate(file, FallocateFlags::empty(), last, 1)
    })?)
}

/// Makes a range zeros by giving its storage back; the file stays as long as it is.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(retry_on_intr(|| fallocate(file, flags, offset, len))?)
}

/// Makes a range zeros and keeps storage for it. The length stays.
pub(crate) fn zero(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    match retry_on_intr(|| fallocate(file, flags, offset, len)) {
        Err(Errno::OPNOTSUPP) => {
            punch(file, offset, len)?;
            reserve(file, offset, len).map(|_| ())
        }
        result => Ok(result?),
    }
}

/// Says whether the error of [`reserve`] or [`punch`] means that this filesystem cannot do it at all.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::OPNOTSUPP | Errno::NOSYS)
    )
}
