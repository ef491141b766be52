//! Memfd with a state, shared between processes.
//!
//! See [`memfd_create(2)`](https://man7.org/linux/man-pages/man2/memfd_create.2.html).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use super::error::ShmError;
use super::memfd_map::{MemfdMap, MemfdMapMut};
use crate::sys::rlimits::page_bytes;
use crate::sys::{fallocate, fcntl, memfd, statx};

/// A memfd, whose memory processes share.
///
/// A new memfd has no seals. Until it has the shrink seal
/// ([`seal_restored`](Self::seal_restored)), each process that has a descriptor can truncate it.
/// Access past the new end raises SIGBUS.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::Ordering;
///
/// use flatspan::shm::Memfd;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memfd = Memfd::create("counters", 4096)?;
/// memfd.seal_restored()?;
/// let map = memfd.map_mut(0..4096)?;
/// map.words()[0].fetch_add(1, Ordering::Relaxed);
/// assert_eq!(memfd.map(0..4096)?.load(0), Some(1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Memfd {
    file: File,
}

impl Memfd {
    /// Creates a memfd of zeros.
    ///
    /// The name is only for display in `/proc` and has at most 249 bytes.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::CreateMemfd`] if `memfd_create(2)` or `ftruncate(2)` fails.
    pub fn create(name: &str, len_bytes: u64) -> Result<Self, ShmError> {
        let create = || {
            let file = memfd::create(name)?;
            file.set_len(len_bytes)?;
            Ok(file)
        };
        let failed = |source| ShmError::CreateMemfd {
            name: name.to_owned(),
            len_bytes,
            source,
        };
        Ok(Self {
            file: create().map_err(failed)?,
        })
    }

    /// Takes ownership of a memfd that any process created.
    ///
    /// # Errors
    ///
    /// - [`ShmError::NotAMemfd`] if the descriptor is another file.
    /// - [`ShmError::HugePagesUnsupported`] if the memfd has huge pages.
    /// - [`ShmError::NotWritable`] if it cannot be read and written through this descriptor.
    /// - [`ShmError::SealingNotAllowed`] if it lacks the shrink seal and can never get it.
    /// - [`ShmError::Io`] if a system call fails.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self, ShmError> {
        let memfd = Self {
            file: File::from(fd.into()),
        };
        memfd.check()?;
        Ok(memfd)
    }

    fn check(&self) -> Result<(), ShmError> {
        let (fd, what) = (self.number(), || fcntl::target_of(&self.file));
        let refuse = |why| ShmError::NotWritable {
            fd,
            what: what(),
            why,
        };
        let is_read_write =
            fcntl::is_read_write(&self.file).map_err(self.io("read the access mode"))?;
        let seals = match memfd::seals(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(ShmError::NotAMemfd { fd, what: what() });
            }
            // Queries fail with an `O_PATH` descriptor.
            Err(_) if !is_read_write => {
                return Err(refuse("it is open for neither reading nor writing"));
            }
            seals => seals.map_err(self.io("read the seals of the memfd"))?,
        };
        if memfd::is_huge(&self.file).map_err(self.io("read the filesystem type of the memfd"))? {
            return Err(ShmError::HugePagesUnsupported { fd, what: what() });
        }
        if seals.seal && !seals.shrink {
            return Err(ShmError::SealingNotAllowed { fd, what: what() });
        }
        if seals.write {
            return Err(refuse("it has a write seal"));
        }
        if !is_read_write {
            return Err(refuse("it is not open for reading and writing"));
        }
        Ok(())
    }

    /// Returns the current length.
    ///
    /// Other processes can extend the memfd at any time, and truncate it until it is
    /// [restored](Self::is_restored).
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::Io`] if fstat(2) fails.
    pub fn len(&self) -> Result<u64, ShmError> {
        statx::len(&self.file).map_err(self.io("read the length of the memfd"))
    }

    /// Returns whether the current length is 0.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::Io`] if fstat(2) fails.
    pub fn is_empty(&self) -> Result<bool, ShmError> {
        Ok(self.len()? == 0)
    }

    /// Extends the memfd with zeros to at least `len_bytes`.
    ///
    /// It never becomes shorter, even if another process extends it concurrently. Existing mappings
    /// keep their length.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::Io`] if no memory is left, or after [`seal_grow`](Self::seal_grow).
    pub fn grow_to(&self, len_bytes: u64) -> Result<(), ShmError> {
        if self.len()? >= len_bytes {
            return Ok(());
        }
        fallocate::extend(&self.file, len_bytes).map_err(self.io("extend the memfd"))
    }

    /// Adds `F_SEAL_GROW`: no process can extend the memfd afterwards.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::Io`] if fcntl(2) fails.
    pub fn seal_grow(&self) -> Result<(), ShmError> {
        memfd::seal_grow(&self.file).map_err(self.io("add F_SEAL_GROW to the memfd"))
    }

    /// Returns whether the memfd has the shrink seal: a state was restored completely.
    ///
    /// Such a memfd is live and never restored again. A process that died during a restore leaves
    /// one without the seal.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::Io`] if fcntl(2) fails.
    pub fn is_restored(&self) -> Result<bool, ShmError> {
        let seals = memfd::seals(&self.file).map_err(self.io("read the seals of the memfd"))?;
        Ok(seals.shrink)
    }

    /// Adds the shrink seal as the last step of a restore.
    ///
    /// No process can truncate the memfd or remove the seal afterwards.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::Io`] if fcntl(2) fails.
    pub fn seal_restored(&self) -> Result<(), ShmError> {
        if self.is_restored()? {
            return Ok(());
        }
        memfd::seal_shrink(&self.file).map_err(self.io("add F_SEAL_SHRINK to the memfd"))
    }

    /// Maps a range for reading.
    ///
    /// # Errors
    ///
    /// - [`ShmError::TooShort`] if the memfd ends before the range.
    /// - [`ShmError::InvalidRange`] if the range is empty or does not start at a page.
    /// - [`ShmError::Io`] if mmap(2) fails.
    pub fn map(&self, range: Range<u64>) -> Result<MemfdMap, ShmError> {
        let len = self.check_range(&range)?;
        MemfdMap::new(&self.file, range.start, len).map_err(self.io("map the memfd for reading"))
    }

    /// Maps a range for reading and writing.
    ///
    /// # Errors
    ///
    /// The errors of [`map`](Self::map).
    pub fn map_mut(&self, range: Range<u64>) -> Result<MemfdMapMut, ShmError> {
        let len = self.check_range(&range)?;
        MemfdMapMut::new(&self.file, range.start, len).map_err(self.io("map the memfd for writing"))
    }

    /// Duplicates the descriptor. The duplicate is close-on-exec.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::Io`] if fcntl(2) fails.
    pub fn try_clone(&self) -> Result<Self, ShmError> {
        let file = self.file.try_clone();
        Ok(Self {
            file: file.map_err(self.io("duplicate the descriptor"))?,
        })
    }

    /// The length of the range, if it can be mapped.
    fn check_range(&self, range: &Range<u64>) -> Result<usize, ShmError> {
        let refuse = |reason| ShmError::InvalidRange {
            fd: self.number(),
            start: range.start,
            end: range.end,
            reason,
        };
        if range.is_empty() {
            return Err(refuse("it is empty"));
        }
        if !range.start.is_multiple_of(page_bytes() as u64) {
            return Err(refuse("it does not start at a page"));
        }
        let Ok(len) = isize::try_from(range.end - range.start) else {
            return Err(refuse("it does not fit into the address space"));
        };
        let present_bytes = self.len()?;
        if present_bytes < range.end {
            return Err(ShmError::TooShort {
                fd: self.number(),
                required_bytes: range.end,
                actual_bytes: present_bytes,
            });
        }
        Ok(len.unsigned_abs())
    }

    fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    fn io(&self, operation: &'static str) -> impl FnOnce(io::Error) -> ShmError + use<> {
        ShmError::io(self.number(), operation)
    }
}

impl AsFd for Memfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<Memfd> for OwnedFd {
    fn from(memfd: Memfd) -> Self {
        memfd.file.into()
    }
}
