//! Mappings that keep an open file description without a descriptor.
//!
//! A mapping keeps the open file description from which it was made after the descriptor is closed
//! (`mmap(2)`). `msync(2)` syncs the mapped range of the file, and returns a writeback error that
//! occurred since the description was opened, as `fdatasync(2)` of the closed descriptor would.
//!
//! The pages of these mappings are never accessed. They use no memory and are not part of the
//! budget.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::sys::statx;

/// Largest number of such mappings in the process: a quarter of the default of
/// `vm.max_map_count`. Windows use the others.
const MAPPINGS_MAX: usize = 16 << 10;

static MAPPINGS: AtomicUsize = AtomicUsize::new(0);

/// Mappings that together keep the error state and cover the data of unsynced writes.
///
/// The first one is the oldest, and so returns all errors. The last one is the longest, and so
/// covers all data that was written while its descriptor was open.
#[derive(Clone, Debug, Default)]
pub(super) struct UnsyncedMappings(Vec<Arc<CountedMapping>>);

#[derive(Debug)]
struct CountedMapping(MmapRaw);

impl Drop for CountedMapping {
    fn drop(&mut self) {
        MAPPINGS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl UnsyncedMappings {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the open file description of a descriptor, which the caller may then close.
    ///
    /// # Errors
    ///
    /// Any error of `mmap(2)`, for example if the filesystem does not support mappings.
    pub(super) fn add(&mut self, file: &File) -> io::Result<()> {
        // The kernel refuses a mapping of zero bytes, and accepts one past the end of the file.
        let bytes = statx::len(file)?.max(1);
        let Ok(bytes) = usize::try_from(bytes) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        if self.0.last().is_some_and(|last| last.0.len() >= bytes) {
            return Ok(());
        }
        if MAPPINGS.fetch_add(1, Ordering::Relaxed) >= MAPPINGS_MAX {
            MAPPINGS.fetch_sub(1, Ordering::Relaxed);
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let mapped = MmapOptions::new().len(bytes).map_raw_read_only(file);
        let mapped = mapped.inspect_err(|_| {
            MAPPINGS.fetch_sub(1, Ordering::Relaxed);
        })?;
        self.0.truncate(1);
        self.0.push(Arc::new(CountedMapping(mapped)));
        Ok(())
    }

    /// Returns after all data that was written through the descriptors is durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        // Every mapping is synced, so that each returns its error once.
        let synced: Vec<_> = self.0.iter().map(|mapping| mapping.0.flush()).collect();
        synced.into_iter().collect()
    }
}
