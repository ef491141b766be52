//! Unmapping the windows of a file.

use std::ops::Range;
use std::sync::Arc;

use super::cached_file::CachedFile;
use super::file_state::FileState;
use crate::mapping_cache::error::MappingError;

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
        let windows = self.resources.windows;
        let touched = windows.of(range.start)..=windows.of(range.end - 1);
        state.evict_windows(touched).0
    }

    /// Unmaps all windows that extend past a new end. Must not be called under the length lock, for
    /// which a thread that maps a window may wait.
    pub(super) fn unmap_past(&self, state: &FileState, bytes: u64) -> Result<(), MappingError> {
        if bytes >= state.known_bytes() {
            return Ok(());
        }
        let first = self.resources.windows.of(bytes);
        match state.evict_windows(first..=u64::MAX).1 {
            None => Ok(()),
            Some(window) => Err(self.window_pinned_error(window)),
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
