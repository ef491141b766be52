//! Memfds and their seals.
//!
//! See [`memfd_create(2)`](https://man7.org/linux/man-pages/man2/memfd_create.2.html) and
//! [`F_GET_SEALS(2const)`](https://man7.org/linux/man-pages/man2/F_GET_SEALS.2const.html).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstatfs, memfd_create};

// From linux/magic.h.
const HUGETLBFS_MAGIC: u64 = 0x9584_58F6;

/// Creates an empty memfd that can be sealed. The name is only for display in `/proc`.
pub(crate) fn create(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(memfd_create(name, flags)?.into())
}

/// Adds `F_SEAL_SHRINK`: no process can truncate the memfd, so no mapped page loses its storage.
pub(crate) fn seal_shrink(file: &File) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SealFlags::SHRINK)?)
}

/// Adds `F_SEAL_GROW`: no process can extend the memfd.
pub(crate) fn seal_grow(file: &File) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SealFlags::GROW)?)
}

/// Seals of a memfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seals {
    pub(crate) shrink: bool,
    pub(crate) write: bool,
    pub(crate) seal: bool,
}

/// Returns the seals of a memfd. Fails with `InvalidInput` for other files.
pub(crate) fn seals(file: &File) -> io::Result<Seals> {
    let seals = fcntl_get_seals(file)?;
    Ok(Seals {
        shrink: seals.contains(SealFlags::SHRINK),
        write: seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE),
        seal: seals.contains(SealFlags::SEAL),
    })
}

/// Opens a new open file description, with its own position and locks. Requires `/proc`.
pub(crate) fn reopen(file: &File, writable: bool) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(writable).open(path)
}

/// Returns whether the memfd has huge pages. All its lengths and offsets are then multiples of
/// them.
pub(crate) fn is_huge(file: &File) -> io::Result<bool> {
    Ok(u64::try_from(fstatfs(file)?.f_type).unwrap_or(0) == HUGETLBFS_MAGIC)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn shrink_seal_permits_growth_only() {
        let file = create("flatspan-test").expect("a memfd");
        file.set_len(8192).expect("longer");
        seal_shrink(&file).expect("a seal");
        file.set_len(16384).expect("longer still");
        let refused = file.set_len(8192).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::PermissionDenied));
        let found = seals(&file).expect("seals");
        assert!(found.shrink && !found.write && !found.seal, "{found:?}");
        let other = File::open("/proc/self/exe").expect("a file");
        let refused = seals(&other).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::InvalidInput));
    }
}
