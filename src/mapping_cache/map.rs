//! Making a mapping: opening, checking, charging the budget, asking the kernel.

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

use super::entry::FileEntry;
use super::error::MappingError;
use super::file::CachedFile;
use super::ledger::Charge;
use super::options::Access;
use crate::sys::{rlimits, statx};

impl CachedFile {
    /// Maps a window, `needed` bytes of it at least; says how many may be used. The caller has the duty
    /// to do so.
    pub(super) fn map(
        &self,
        entry: &FileEntry,
        window: u64,
        needed: usize,
        access: Access,
    ) -> Result<(Charge<'_>, MmapRaw, usize), MappingError> {
        let windows = self.core.windows;
        let start = windows.start(window);
        // The path is asked anew for each mapping, so that a replaced file is noticed (hazard 39).
        let (file, _) = self.open(access)?;
        let end = match access {
            Access::ReadOnly => statx::len(&file).map_err(|e| self.io("ask its length", e))?,
            Access::ReadWrite => self.make_storable(entry, &file, window)?,
        };
        let len = end.saturating_sub(start).min(windows.bytes() as u64);
        // Lossless: at most a window, whose size is a usize.
        let reach = len as usize;
        let len = reach.next_multiple_of(rlimits::page_bytes());
        // Stores may go as far as the file does; loads see zeros behind it, to the end of the page.
        let usable = match access {
            Access::ReadOnly => len,
            Access::ReadWrite => reach,
        };
        if usable < needed {
            return Err(self.short(start + needed as u64, end));
        }
        let ledger = &self.core.ledger;
        let charge = ledger.reserve(len as u64, &self.core.parking)?;
        let map = match map_raw(&file, start, len, access) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                ledger.evict_half(&self.core.parking);
                map_raw(&file, start, len, access)
            }
            mapped => mapped,
        };
        let map = map.map_err(|error| self.map_error(entry, error))?;
        Ok((charge, map, usable))
    }

    fn map_error(&self, entry: &FileEntry, source: io::Error) -> MappingError {
        let path = self.path();
        match source.raw_os_error() {
            Some(libc::ENOMEM) => MappingError::MapLimit {
                path,
                max_map_count: rlimits::max_map_count(),
            },
            Some(libc::ENODEV | libc::EACCES | libc::EINVAL) => {
                entry.note_unmappable();
                MappingError::Unmappable { path }
            }
            _ => self.io("map it", source),
        }
    }
}

fn map_raw(file: &File, start: u64, len: usize, access: Access) -> io::Result<MmapRaw> {
    let mut options = MmapOptions::new();
    options.offset(start).len(len);
    match access {
        Access::ReadOnly => options.map_raw_read_only(file),
        Access::ReadWrite => options.map_raw(file),
    }
}
