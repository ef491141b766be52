//! Files that are memory. See [`memfd_create(2)`](https://man7.org/linux/man-pages/man2/memfd_create.2.html).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstatfs, memfd_create};

// From linux/magic.h.
const HUGETLBFS_MAGIC: u64 = 0x9584_58F6;

/// An empty one that can be sealed. The name is for `/proc` only.
pub(crate) fn create(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(memfd_create(name, flags)?.into())
}

/// Nobody can make it shorter any more, so no page of it that is mapped loses its storage.
pub(crate) fn seal_shrink(file: &File) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SealFlags::SHRINK)?)
}

/// Nobody can make it longer any more.
pub(crate) fn seal_grow(file: &File) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SealFlags::GROW)?)
}

/// What may not be done to a memfd any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seals {
    pub(crate) shrink: bool,
    pub(crate) write: bool,
    pub(crate) seal: bool,
}

/// `InvalidInput` for a file that is none.
pub(crate) fn seals(file: &File) -> io::Result<Seals> {
    let seals = fcntl_get_seals(file)?;
    Ok(Seals {
        shrink: seals.contains(SealFlags::SHRINK),
        write: seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE),
        seal: seals.contains(SealFlags::SEAL),
    })
}

/// Another description of the same memfd: with a position and locks of its own. Needs `/proc`.
pub(crate) fn reopen(file: &File, write: bool) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(write).open(path)
}

/// Is it made of huge pages? Its length, its mappings and its offsets are multiples of these then.
pub(crate) fn is_huge(file: &File) -> io::Result<bool> {
    Ok(u64::try_from(fstatfs(file)?.f_type).unwrap_or(0) == HUGETLBFS_MAGIC)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_one_grows_and_does_not_shrink() {
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
