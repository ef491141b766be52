//! Unmapping the windows of a file.

use std::ops::Range;
use std::sync::Arc;

use super::cached_file::CachedFile;
use super::file_state::FileState;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::options::Access;

impl CachedFile {
    /// Unmaps the windows that overlap the range and are not pinned. Returns how many bytes were
    /// unmapped. A file that was never opened has no mapped windows.
    ///
    /// # Errors
    ///
    /// Returns no error in this version.
    pub fn evict(&self, range: Range<u64>) -> Result<u64, MappingError> {
        let Some(state) = self.opened_state() else {
            return Ok(0);
        };
        Ok(self.evict_range(state, &range))
    }

    fn evict_range(&self, state: &FileState, range: &Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let resources = &*self.resources;
        let windows = resources.windows;
        let touched = windows.of(range.start)..=windows.of(range.end - 1);
        let mut bytes = 0;
        for (window, slots) in state.slots.iter() {
            if !touched.contains(&window) {
                continue;
            }
            for access in [Access::ReadOnly, Access::ReadWrite] {
                let key = state.key(window, access);
                let slot = slots.slot(access);
                let unmapped = resources.budget.evict(key, slot, &resources.wait_table);
                bytes += unmapped.unwrap_or(0);
            }
        }
        bytes
    }

    /// Unmaps all windows that extend past a new end. Must not be called under the length lock, for
    /// which a thread that maps a window may wait.
    pub(super) fn unmap_past(&self, state: &FileState, bytes: u64) -> Result<(), MappingError> {
        if bytes >= state.storage.known_bytes() {
            return Ok(());
        }
        self.evict_range(state, &(bytes..u64::MAX));
        let windows = self.resources.windows;
        let pinned = state.slots.iter().find(|(window, slots)| {
            let pins = |access| slots.slot(access).pins();
            *window >= windows.of(bytes) && pins(Access::ReadOnly) + pins(Access::ReadWrite) > 0
        });
        match pinned {
            None => Ok(()),
            Some((window, _)) => Err(self.window_pinned_error(window)),
        }
    }

    /// Unmaps all of the file and closes its idle descriptors.
    pub(super) fn unmap_and_close_idle(&self) -> Result<(), MappingError> {
        let Some(state) = self.opened_state() else {
            return Ok(());
        };
        if Arc::strong_count(state) == 1 {
            state.unpin_all_locked();
        }
        let (_, all) = state.evict_all();
        if !all {
            return Err(self.window_pinned_error(0));
        }
        self.resources.fd_pool.close_idle(state.id);
        Ok(())
    }
}
