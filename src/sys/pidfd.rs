//! Process identity that is never reused.
//!
//! See [`pidfd_open(2)`](https://man7.org/linux/man-pages/man2/pidfd_open.2.html).

use std::io;

use rustix::fs::{fstat, fstatfs};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

// From linux/magic.h.
const PID_FS_MAGIC: u64 = 0x5049_4446;

/// Returns the inode number of a pidfd of this process. Returns `None` before Linux 6.9, where all
/// pidfds share one inode.
pub(crate) fn own_id() -> io::Result<Option<u64>> {
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty())?;
    let magic = u64::try_from(fstatfs(&pidfd)?.f_type).unwrap_or(0);
    if magic != PID_FS_MAGIC {
        return Ok(None);
    }
    Ok(Some(fstat(&pidfd)?.st_ino))
}
