//! Small regions of the same kind as another one, for testing trackers.

use std::fs::File;

use super::error::RegionError;
use super::memory::{Backing, Region, Shape};
use super::options::{FilePart, PrivateFilePart, RegionOptions};
use crate::snapshot::format::PAGE_BYTES;
use crate::sys::address_space::{AddressReservation, Sharing};

const PROBE_PAGES: usize = 4;

impl Region {
    /// Region of a few pages that no other code uses. For files it maps the start of the first file
    /// again without changing it, since the filesystem may decide what can be tracked.
    pub(in crate::snapshot) fn probe_pages(&self) -> Result<Self, RegionError> {
        let bytes = PROBE_PAGES * PAGE_BYTES;
        let options = RegionOptions::default();
        match &self.backing {
            Backing::Anonymous => Self::new_anonymous(bytes, options),
            Backing::Memfd(_) => Self::new_memfd(bytes, options),
            Backing::Restored(probe) => {
                let parts = match probe {
                    Some((file, offset)) => vec![PrivateFilePart {
                        file: duplicate(file)?,
                        offset: *offset,
                        bytes: PAGE_BYTES,
                    }],
                    None => Vec::new(),
                };
                Self::map_private_files(parts, bytes, options)
            }
            Backing::Files => match self.shape().files.first() {
                Some(first) if first.bytes > 0 => second_mapping(first, bytes.min(first.bytes)),
                _ => Self::new_memfd(bytes, options),
            },
        }
    }

    /// Stores to a page by an instruction. In files the kernel only prepares the store, so that no
    /// byte changes.
    pub(in crate::snapshot) fn store_in_probe(&mut self, page: usize) -> std::io::Result<()> {
        let at = page * PAGE_BYTES;
        match self.backing {
            Backing::Files => self.memory.populate_write(at..at + PAGE_BYTES),
            _ => self.memory.store(at, 1),
        }
    }
}

fn second_mapping(part: &FilePart, bytes: usize) -> Result<Region, RegionError> {
    let file = duplicate(&part.file)?;
    let failed = RegionError::io("map a page for testing a tracker");
    let memory = AddressReservation::new(bytes, None).map_err(&failed)?;
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
