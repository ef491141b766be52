//! Regions over a memfd that another component has created or also uses.
//!
//! A memfd gets the shrink seal once its content is complete [I25]. Without that seal a state is
//! restored into it; with it, its content is live.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use super::constructors::{finish, map_shared, prepare};
use super::error::RegionError;
use super::memory::{Backing, Region, Shape};
use super::options::{RegionOptions, whole_pages};
use crate::sys::memfd::{self, Seals};
use crate::sys::{fallocate, statx};

impl Region {
    /// Creates a region of zeros over a memfd without the shrink seal. The content of the memfd is
    /// discarded.
    ///
    /// Call [`seal_shrink`](Self::seal_shrink) when the new content is complete. The descriptor
    /// must be open for reading and writing.
    ///
    /// # Errors
    ///
    /// - [`RegionError::InvalidMemfd`] if the file is no memfd, has the shrink seal, or allows no
    ///   more seals.
    /// - [`RegionError::NotMappable`] if the memfd cannot be mapped.
    /// - Any error of [`new_anonymous`](Self::new_anonymous).
    pub fn reset_memfd(
        memfd: impl Into<OwnedFd>,
        len: usize,
        options: RegionOptions,
    ) -> Result<Self, RegionError> {
        let file = File::from(memfd.into());
        let seals = writable(&file)?;
        if seals.shrink {
            let reason = "has the shrink seal: its content is live and would be lost";
            return Err(RegionError::InvalidMemfd { reason });
        }
        if seals.seal {
            let reason = "allows no more seals, so its content cannot be marked as complete";
            return Err(RegionError::InvalidMemfd { reason });
        }
        let (len, memory) = prepare(len, options)?;
        let present = length(&file)?;
        if present > 0 {
            fallocate::punch(&file, 0, present)
                .map_err(RegionError::io("discard the content of the memfd"))?;
        }
        if present < len as u64 {
            let longer = RegionError::io("extend the memfd");
            file.set_len(len as u64).map_err(longer)?;
        }
        if len > 0 {
            map_shared(&memory, 0..len, &file, 0, 0)?;
        }
        let backing = Backing::Memfd(file);
        Ok(finish(memory, len, backing, Shape::default(), options))
    }

    /// Creates a region over all of a memfd with the shrink seal, and keeps its content.
    ///
    /// If the memfd ends within a page, the rest of that page belongs to the region. It is zero,
    /// and must not be stored to. The descriptor must be open for reading and writing.
    ///
    /// # Errors
    ///
    /// - [`RegionError::InvalidMemfd`] if the file is no memfd, or lacks the shrink seal.
    /// - [`RegionError::NotMappable`] if the memfd cannot be mapped.
    /// - Any error of [`new_anonymous`](Self::new_anonymous).
    pub fn attach_memfd(
        memfd: impl Into<OwnedFd>,
        options: RegionOptions,
    ) -> Result<Self, RegionError> {
        let file = File::from(memfd.into());
        if !writable(&file)?.shrink {
            let reason = "lacks the shrink seal: its content is not complete";
            return Err(RegionError::InvalidMemfd { reason });
        }
        let (len, memory) = prepare(length_in_memory(&file)?, options)?;
        if len > 0 {
            map_shared(&memory, 0..len, &file, 0, 0)?;
        }
        let backing = Backing::Memfd(file);
        Ok(finish(memory, len, backing, Shape::default(), options))
    }

    /// Grows the region to the length of its memfd, which another process may have extended. The
    /// new bytes keep their content.
    ///
    /// Regions of other kinds, and those that are as long already, do not change. Report the growth
    /// to the tracker ([`DirtyTracker::note_grown`](crate::snapshot::DirtyTracker::note_grown)).
    ///
    /// # Errors
    ///
    /// The length does not change on errors.
    ///
    /// - [`RegionError::ReserveExceeded`] if the memfd is longer than the reserved addresses.
    /// - Any error of [`attach_memfd`](Self::attach_memfd).
    pub fn grow_to_memfd(&self) -> Result<(), RegionError> {
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

    /// Adds the shrink seal to the memfd, which marks its content as complete. Regions of other
    /// kinds do not change.
    ///
    /// # Errors
    ///
    /// - [`RegionError::Io`] if the memfd allows no more seals.
    pub fn seal_shrink(&self) -> Result<(), RegionError> {
        match &self.backing {
            Backing::Memfd(file) => memfd::seal_shrink(file)
                .map_err(RegionError::io("add the shrink seal to the memfd")),
            _ => Ok(()),
        }
    }
}

fn writable(file: &File) -> Result<Seals, RegionError> {
    let seals = memfd::seals(file).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => RegionError::InvalidMemfd {
            reason: "is not a memfd",
        },
        _ => RegionError::io("read the seals of the memfd")(source),
    })?;
    if seals.write {
        let reason = "is sealed against writing";
        return Err(RegionError::InvalidMemfd { reason });
    }
    Ok(seals)
}

fn length_in_memory(file: &File) -> Result<usize, RegionError> {
    let reason = "is longer than the address space";
    let len = usize::try_from(length(file)?).ok();
    len.ok_or(RegionError::InvalidMemfd { reason })
}

fn length(file: &File) -> Result<u64, RegionError> {
    statx::len(file).map_err(RegionError::io("read the length of the memfd"))
}
