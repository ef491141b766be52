//! Regions of memfds that somebody else has made, or has too.
//!
//! A memfd is sealed against shrinking once what it holds is complete (hazard 25): without that seal it is to be restored into,
//! with it it is live.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use super::error::RegionError;
use super::make::{finish, map_shared, prepare};
use super::memory::{Backing, Region, Shape};
use super::options::{RegionOptions, whole_pages};
use crate::sys::memfd::{self, Seals};
use crate::sys::{fallocate, statx};

impl Region {
    /// Makes a region of a memfd that is not sealed yet: all it holds is thrown away, and it begins as zeros. Once
    /// what belongs there is there, [`seal`](Self::seal) says so. Needs a descriptor for reading and writing.
    ///
    /// # Errors
    ///
    /// [`Memfd`](RegionError::Memfd) for one that is sealed, or is no memfd; otherwise as
    /// [`anonymous`](Self::anonymous), and [`Unmappable`](RegionError::Unmappable).
    pub fn adopted(
        memfd: impl Into<OwnedFd>,
        len: usize,
        options: RegionOptions,
    ) -> Result<Self, RegionError> {
        let file = File::from(memfd.into());
        let seals = writable(&file)?;
        if seals.shrink {
            let reason = "is sealed against shrinking: its content is live and would be lost";
            return Err(RegionError::Memfd { reason });
        }
        if seals.seal {
            let reason = "takes no more seals, so it can never be said to be complete";
            return Err(RegionError::Memfd { reason });
        }
        let (len, memory) = prepare(len, options)?;
        let present = length(&file)?;
        if present > 0 {
            fallocate::punch(&file, 0, present).map_err(RegionError::io("empty a memfd"))?;
        }
        if present < len as u64 {
            let longer = RegionError::io("make a memfd longer");
            file.set_len(len as u64).map_err(longer)?;
        }
        if len > 0 {
            map_shared(&memory, 0..len, &file, 0, 0)?;
        }
        let backing = Backing::Memfd(file);
        Ok(finish(memory, len, backing, Shape::default(), options))
    }

    /// Makes a region of all of a memfd that is sealed against shrinking, with what it holds. Where it ends within a page the
    /// region has the rest of that page too, zeros that nobody may store to. Needs a descriptor for reading and writing.
    ///
    /// # Errors
    ///
    /// [`Memfd`](RegionError::Memfd) for one that is not sealed, or is no memfd; otherwise as
    /// [`anonymous`](Self::anonymous), and [`Unmappable`](RegionError::Unmappable).
    pub fn live(memfd: impl Into<OwnedFd>, options: RegionOptions) -> Result<Self, RegionError> {
        let file = File::from(memfd.into());
        if !writable(&file)?.shrink {
            let reason = "is not sealed against shrinking: nobody has completed its content";
            return Err(RegionError::Memfd { reason });
        }
        let (len, memory) = prepare(length_in_memory(&file)?, options)?;
        if len > 0 {
            map_shared(&memory, 0..len, &file, 0, 0)?;
        }
        let backing = Backing::Memfd(file);
        Ok(finish(memory, len, backing, Shape::default(), options))
    }

    /// Makes a region of a memfd as long as that has become, by others: what they have put there stays. Other kinds, and a
    /// region that is as long already, stay as they are. A tracker must be told
    /// ([`DirtyTracker::grown`](crate::snapshot::DirtyTracker::grown)).
    ///
    /// # Errors
    ///
    /// [`ReserveExceeded`](RegionError::ReserveExceeded), and as [`live`](Self::live). The length stays then.
    pub fn follow(&self) -> Result<(), RegionError> {
        let Backing::Memfd(file) = &self.backing else {
            return Ok(());
        };
        let _shape = self.shape();
        let old = self.len();
        let len = self.within_reserve(whole_pages(length_in_memory(file)?)?)?;
        if len > old {
            map_shared(&self.memory, old..len, file, old, 0)?;
            self.finish_growth(old, len);
        }
        Ok(())
    }

    /// Says that what is in the memfd is complete: seals it against shrinking. Nothing for other kinds.
    ///
    /// # Errors
    ///
    /// [`Io`](RegionError::Io) where it takes no seals.
    pub fn seal(&self) -> Result<(), RegionError> {
        match &self.backing {
            Backing::Memfd(file) => {
                memfd::seal_shrink(file).map_err(RegionError::io("seal a memfd"))
            }
            _ => Ok(()),
        }
    }
}

fn writable(file: &File) -> Result<Seals, RegionError> {
    let seals = memfd::seals(file).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => RegionError::Memfd {
            reason: "is no memfd",
        },
        _ => RegionError::io("ask for the seals of a memfd")(source),
    })?;
    if seals.write {
        let reason = "is sealed against writing";
        return Err(RegionError::Memfd { reason });
    }
    Ok(seals)
}

fn length_in_memory(file: &File) -> Result<usize, RegionError> {
    let reason = "is longer than the address space";
    usize::try_from(length(file)?).map_err(|_| RegionError::Memfd { reason })
}

fn length(file: &File) -> Result<u64, RegionError> {
    statx::len(file).map_err(RegionError::io("ask for the length of a memfd"))
}
