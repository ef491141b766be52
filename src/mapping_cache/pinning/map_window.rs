//! Mapping a window: opens and checks the file, charges the budget, calls `mmap(2)`, publishes.
//!
//! # Safety
//!
//! The mapping is watched for SIGBUS. The watch sets a flag in the pin block of the mapping, which
//! the owner of the mapping keeps alive until the watch is dropped (docs/unsafe.md, U1).
#![expect(unsafe_code, reason = "watches a mapping for SIGBUS")]

use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use super::pin_window::Request;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::file::{CachedFile, FileState};
use crate::mapping_cache::options::Access;
use crate::mapping_cache::stripe::Stripe;
use crate::mapping_cache::window::{Address, Charge, PinBlock, Slot, WaitTable, WindowMapping};
use crate::sys::{rlimits, sigbus, statx};

/// The obligation to map a window. Dropping it restores the slot.
struct MappingDuty<'a> {
    slot: &'a Slot,
    wait_table: &'a WaitTable,
}

impl Drop for MappingDuty<'_> {
    fn drop(&mut self) {
        self.slot.abort_mapping();
        self.slot.wake(self.wait_table);
    }
}

impl CachedFile {
    /// Maps a window after [`Slot::begin_mapping`] or [`Slot::begin_replacing`] succeeded, and
    /// publishes the mapping with one pin. Retires the mapping that it replaces.
    pub(super) fn map_and_publish<'a>(
        &self,
        state: &'a FileState,
        slot: &Slot,
        stripe: Stripe,
        request: Request,
    ) -> Result<(&'a PinBlock, Address), MappingError> {
        let wait_table = &self.resources.wait_table;
        let duty = MappingDuty { slot, wait_table };
        let (charge, map, len) = self.map(state, request)?;
        let address = Address {
            start: map.as_mut_ptr(),
            len,
        };
        let block = state.slots.pool().allocate(address);
        // SAFETY: the flag is in a block of the pool, which `mapping` keeps alive with the watch.
        // No code maps anything over this mapping before the watch is dropped (`Budget::unmap`).
        let watch = unsafe { sigbus::watch(map.as_ptr(), map.len(), block.poison_flag()) };
        let key = state.key(request.window, request.access);
        let slots = Arc::clone(&state.slots);
        let mapping = WindowMapping::new(key, block.id(), slots, watch, map);
        self.resources.budget.admit(charge, mapping);
        let replaced = slot.publish(block, stripe);
        std::mem::forget(duty);
        slot.wake(wait_table);
        if let Some(replaced) = replaced {
            self.resources.budget.retire(replaced, wait_table);
        }
        Ok((block, address))
    }

    /// Maps a window. Returns the mapping with its usable length.
    fn map(
        &self,
        state: &FileState,
        request: Request,
    ) -> Result<(Charge<'_>, MmapRaw, usize), MappingError> {
        let Request {
            window,
            needed,
            access,
        } = request;
        let windows = self.resources.windows;
        let start = windows.start(window);
        // Opened by path for each mapping, so that a replaced file is noticed [I39].
        let (file, _) = self.open(access)?;
        let end = match access {
            Access::ReadOnly => {
                statx::len(&file).map_err(|e| self.io_error("query its length", e))?
            }
            Access::ReadWrite => self.prepare_for_stores(state, &file, window)?,
        };
        let file_len = end.saturating_sub(start).min(windows.bytes() as u64);
        // Lossless: at most a window, whose size is a usize.
        let file_len = file_len as usize;
        let len = file_len.next_multiple_of(rlimits::page_bytes());
        // Stores must not exceed the file. Loads past its end read zeros up to the end of the page.
        let usable = match access {
            Access::ReadOnly => len,
            Access::ReadWrite => file_len,
        };
        if usable < needed {
            return Err(self.too_short_error(start + needed as u64, end));
        }
        let budget = &self.resources.budget;
        let charge = budget.charge(len as u64, &self.resources.wait_table)?;
        let map = match map_raw(&file, start, len, access) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                budget.evict_half(&self.resources.wait_table);
                map_raw(&file, start, len, access)
            }
            mapped => mapped,
        };
        let map = map.map_err(|error| self.map_error(state, error))?;
        Ok((charge, map, usable))
    }

    fn map_error(&self, state: &FileState, source: io::Error) -> MappingError {
        let path = self.path();
        match source.raw_os_error() {
            Some(libc::ENOMEM) => MappingError::TooManyMappings {
                path,
                max_map_count: rlimits::max_map_count(),
            },
            Some(libc::ENODEV | libc::EACCES | libc::EINVAL) => {
                state.note_unmappable();
                MappingError::NotMappable { path }
            }
            _ => self.io_error("map", source),
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
