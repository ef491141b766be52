//! The file of shared memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::error::ShmError;
use super::memfd_map::{SharedMap, SharedMapMut};
use crate::sys::rlimits::page_bytes;
use crate::sys::{fallocate, fcntl, memfd, statx};

/// A file of memory (a memfd) that processes share. Which of them made it makes no difference.
///
/// It begins without any seal. Until it is [restored](Self::mark_restored) anybody who has it can make it shorter, and
/// touching memory behind the new end is SIGBUS.
#[derive(Debug)]
pub struct SharedFile {
    file: File,
}

impl SharedFile {
    /// Makes one of zeros. The name is for people who look in `/proc`; it may have 249 bytes.
    ///
    /// # Errors
    ///
    /// [`Create`](ShmError::Create).
    pub fn create(name: &str, len_bytes: u64) -> Result<Self, ShmError> {
        let make = || {
            let file = memfd::create(name)?;
            file.set_len(len_bytes)?;
            Ok(file)
        };
        let failed = |source| ShmError::Create {
            name: name.to_owned(),
            len_bytes,
            source,
        };
        Ok(Self {
            file: make().map_err(failed)?,
        })
    }

    /// Takes one that another process made.
    ///
    /// # Errors
    ///
    /// Refused is what is [not a memfd](ShmError::NotAMemfd), is one of [huge pages](ShmError::HugePages), cannot be
    /// [written](ShmError::NotWritable) through this descriptor, or has not and can never get the seal that marks a
    /// restored one ([`Unsealable`](ShmError::Unsealable)).
    pub fn adopt(fd: impl Into<OwnedFd>) -> Result<Self, ShmError> {
        let shared = Self {
            file: File::from(fd.into()),
        };
        shared.check()?;
        Ok(shared)
    }

    fn check(&self) -> Result<(), ShmError> {
        let (fd, what) = (self.number(), || fcntl::target_of(&self.file));
        let refuse = |why| ShmError::NotWritable {
            fd,
            what: what(),
            why,
        };
        let is_read_write =
            fcntl::is_read_write(&self.file).map_err(self.io("ask how it was opened"))?;
        let seals = match memfd::seals(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(ShmError::NotAMemfd { fd, what: what() });
            }
            // Of a path only (`O_PATH`) nothing can be asked.
            Err(_) if !is_read_write => return Err(refuse("it is open for neither")),
            seals => seals.map_err(self.io("ask for its seals"))?,
        };
        if memfd::is_huge(&self.file).map_err(self.io("ask for its filesystem"))? {
            return Err(ShmError::HugePages { fd, what: what() });
        }
        if seals.seal && !seals.shrink {
            return Err(ShmError::Unsealable { fd, what: what() });
        }
        if seals.write {
            return Err(refuse("it is sealed against writing"));
        }
        match is_read_write {
            true => Ok(()),
            false => Err(refuse("it is not open for reading and writing")),
        }
    }

    /// Present length. Others may make it longer at any time, and shorter as long as it is not
    /// [restored](Self::is_restored).
    ///
    /// # Errors
    ///
    /// [`Io`](ShmError::Io).
    pub fn len(&self) -> Result<u64, ShmError> {
        statx::len(&self.file).map_err(self.io("ask for its length"))
    }

    /// Has it no bytes at present?
    ///
    /// # Errors
    ///
    /// [`Io`](ShmError::Io).
    pub fn is_empty(&self) -> Result<bool, ShmError> {
        Ok(self.len()? == 0)
    }

    /// Makes it at least so long, with zeros; never shorter, whoever else makes it longer at the same time. Mappings stay as
    /// long as they are.
    ///
    /// # Errors
    ///
    /// [`Io`](ShmError::Io): no memory, or it is [sealed](Self::seal_length).
    pub fn grow(&self, len_bytes: u64) -> Result<(), ShmError> {
        if self.len()? >= len_bytes {
            return Ok(());
        }
        fallocate::extend(&self.file, len_bytes).map_err(self.io("make it longer"))
    }

    /// Nobody can make it longer any more.
    ///
    /// # Errors
    ///
    /// [`Io`](ShmError::Io).
    pub fn seal_length(&self) -> Result<(), ShmError> {
        memfd::seal_against_growing(&self.file).map_err(self.io("seal it against growing"))
    }

    /// Has a state been restored into it, all of it? Then it is live: it is never restored again. A program that died while
    /// it restored leaves one that is not (hazard 25).
    ///
    /// # Errors
    ///
    /// [`Io`](ShmError::Io).
    pub fn is_restored(&self) -> Result<bool, ShmError> {
        let seals = memfd::seals(&self.file).map_err(self.io("ask for its seals"))?;
        Ok(seals.shrink)
    }

    /// Says that it is restored, for good, by the seal against shrinking: nobody can make it shorter any more. The last step
    /// of restoring.
    ///
    /// # Errors
    ///
    /// [`Io`](ShmError::Io).
    pub fn mark_restored(&self) -> Result<(), ShmError> {
        if self.is_restored()? {
            return Ok(());
        }
        let failed = self.io("seal it against shrinking");
        memfd::seal_against_shrinking(&self.file).map_err(failed)
    }

    /// Maps a range of it for reading.
    ///
    /// # Errors
    ///
    /// [`Short`](ShmError::Short) when it ends before, as touching what is behind the end is SIGBUS;
    /// [`Range`](ShmError::Range) for one that is empty or does not begin with a page; [`Io`](ShmError::Io).
    pub fn map(&self, range: Range<u64>) -> Result<SharedMap, ShmError> {
        let len = self.check_range(&range)?;
        SharedMap::new(&self.file, range.start, len).map_err(self.io("map it for reading"))
    }

    /// Maps a range of it for reading and writing.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub fn map_mut(&self, range: Range<u64>) -> Result<SharedMapMut, ShmError> {
        let len = self.check_range(&range)?;
        SharedMapMut::new(&self.file, range.start, len).map_err(self.io("map it for writing"))
    }

    /// Another descriptor of it, which an exec closes.
    ///
    /// # Errors
    ///
    /// [`Io`](ShmError::Io).
    pub fn try_clone(&self) -> Result<Self, ShmError> {
        let file = self.file.try_clone();
        Ok(Self {
            file: file.map_err(self.io("duplicate it"))?,
        })
    }

    /// The length of a range that can be mapped.
    fn check_range(&self, range: &Range<u64>) -> Result<usize, ShmError> {
        let refuse = |reason| ShmError::Range {
            fd: self.number(),
            start: range.start,
            end: range.end,
            reason,
        };
        if range.is_empty() {
            return Err(refuse("it is empty"));
        }
        if !range.start.is_multiple_of(page_bytes() as u64) {
            return Err(refuse("it does not begin with a page"));
        }
        let len = isize::try_from(range.end - range.start);
        let len = len.map_err(|_| refuse("it does not fit into the address space"))?;
        let present_bytes = self.len()?;
        if present_bytes < range.end {
            return Err(ShmError::Short {
                fd: self.number(),
                needed_bytes: range.end,
                present_bytes,
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

impl AsFd for SharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<SharedFile> for OwnedFd {
    fn from(shared: SharedFile) -> Self {
        shared.file.into()
    }
}
