//! A few pages of the same kind as a region, for a tracker to be tried on.

use std::fs::File;

use super::error::RegionError;
use super::memory::{Backing, Region, Shape};
use super::options::{FilePart, RegionOptions, RestoredPart};
use crate::snapshot::format::PAGE_BYTES;
use crate::sys::address_space::{Reservation, Sharing};

const SCRATCH_PAGES: usize = 4;

impl Region {
    /// Makes one that nobody else uses. Of files it maps the begin of the first once more, since what can be tracked may
    /// depend on the filesystem; nothing in it is changed.
    pub(in crate::snapshot) fn scratch(&self) -> Result<Self, RegionError> {
        let bytes = SCRATCH_PAGES * PAGE_BYTES;
        let options = RegionOptions::default();
        match &self.backing {
            Backing::Anonymous => Self::anonymous(bytes, options),
            Backing::Memfd(_) => Self::memfd(bytes, options),
            Backing::Restored(probe) => {
                let parts = match probe {
                    Some((file, offset)) => vec![RestoredPart {
                        file: duplicate(file)?,
                        offset: *offset,
                        bytes: PAGE_BYTES,
                    }],
                    None => Vec::new(),
                };
                Self::restored(parts, bytes, options)
            }
            Backing::Files => match self.shape().files.first() {
                Some(first) if first.bytes > 0 => second_mapping(first, bytes.min(first.bytes)),
                _ => Self::memfd(bytes, options),
            },
        }
    }

    /// A store to a page, by an instruction. In files the kernel only does as if, so that no byte changes.
    pub(in crate::snapshot) fn store_in_scratch(&mut self, page: usize) -> std::io::Result<()> {
        let at = page * PAGE_BYTES;
        match self.backing {
            Backing::Files => self.memory.populate_write(at..at + PAGE_BYTES),
            _ => self.memory.store(at, 1),
        }
    }
}

fn second_mapping(part: &FilePart, bytes: usize) -> Result<Region, RegionError> {
    let file = duplicate(&part.file)?;
    let failed = RegionError::io("map a page to test a tracker on");
    let memory = Reservation::new(bytes, None).map_err(&failed)?;
    memory
        .map_file(0..bytes, &file, 0, Sharing::Shared)
        .map_err(failed)?;
    let shape = Shape {
        files: vec![FilePart { file, bytes }],
        ..Shape::default()
    };
    Ok(Region::new(memory, bytes, Backing::Files, shape, false))
}

fn duplicate(file: &File) -> Result<File, RegionError> {
    file.try_clone()
        .map_err(RegionError::io("duplicate a descriptor"))
}
