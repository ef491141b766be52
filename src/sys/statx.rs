//! Which file is it? Device, inode and birth time, so that a reused inode number does not pass for
//! the file that had it before. See [`statx(2)`](https://man7.org/linux/man-pages/man2/statx.2.html).

use std::fs::File;
use std::io;

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};

/// The identity of a file as the kernel tells it. Two paths with one identity are one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileIdentity {
    device: (u32, u32),
    inode: u64,
    /// Seconds and nanoseconds; zero where the filesystem keeps no birth time.
    birth: (i64, u32),
}

impl FileIdentity {
    /// Number of the file on its device, which may be another's once it is gone.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// Major and minor number of the device the file lies on.
    pub(crate) fn device(&self) -> (u32, u32) {
        self.device
    }
}

/// What one `statx` of an open descriptor tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) identity: FileIdentity,
    pub(crate) kind: FileType,
    pub(crate) len: u64,
    /// Bytes of storage; less than `len` where the file has holes.
    pub(crate) allocated_bytes: u64,
}

/// Status of an open file.
pub(crate) fn status(file: &File) -> io::Result<Status> {
    let wanted = StatxFlags::TYPE
        | StatxFlags::INO
        | StatxFlags::SIZE
        | StatxFlags::BLOCKS
        | StatxFlags::BTIME;
    let stat = statx(file, c"", AtFlags::EMPTY_PATH, wanted)?;
    let birth = if StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME) {
        (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
    } else {
        (0, 0)
    };
    Ok(Status {
        identity: FileIdentity {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            birth,
        },
        kind: FileType::from_raw_mode(stat.stx_mode.into()),
        len: stat.stx_size,
        allocated_bytes: stat.stx_blocks.saturating_mul(512),
    })
}

/// Present length of an open file: the cheapest question there is.
pub(crate) fn len(file: &File) -> io::Result<u64> {
    let stat = rustix::fs::fstat(file)?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}
