//! Room on a filesystem. See [`statvfs(3)`](https://man7.org/linux/man-pages/man3/statvfs.3.html).

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// Bytes that this user may still take where the path lies.
pub(crate) fn available_bytes(path: &Path) -> io::Result<u64> {
    let found = statvfs(path)?;
    // One that is just being filled may count below zero, where a product would overflow.
    if found.f_bavail > found.f_blocks {
        return Ok(0);
    }
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
