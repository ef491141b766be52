//! Available space of a filesystem.
//!
//! See [`statvfs(3)`](https://man7.org/linux/man-pages/man3/statvfs.3.html).

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// Returns the number of bytes that this user may still allocate on the filesystem of the path.
pub(crate) fn available_bytes(path: &Path) -> io::Result<u64> {
    let found = statvfs(path)?;
    // A filesystem that is being filled may report a negative count as a huge one.
    if found.f_bavail > found.f_blocks {
        return Ok(0);
    }
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
