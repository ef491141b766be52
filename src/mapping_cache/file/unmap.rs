//! Unmapping the windows of a file.

use std::ops::Range;
use std::sync::Arc;

use super::cached_file::CachedFile;
use super::file_state::FileState;
use super::lock::MAX_FILE_BYTES;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::range_lock::{RangeLock, Sharing};

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

    /// Locks all bytes from `offset` on and unmaps their windows. The caller holds no range lock
    /// [I38] and not the length lock, for which a thread that maps a window may wait.
    ///
    /// Waits for copies, also of the bytes before `offset` in its window.
    pub(super) fn lock_and_unmap_from(
        &self,
        offset: u64,
    ) -> Result<Option<RangeLock<'_>>, MappingError> {
        let Some(lock) = self.lock_from(offset)? else {
            return Ok(None);
        };
        let state = self.state()?;
        // Extending a file unmaps nothing.
        if offset >= state.storage.known_bytes().max(self.actual_bytes()?) {
            return Ok(Some(lock));
        }
        let first = self.resources.windows.of(offset);
        let Some(pinned) = state.evict_windows(first..=u64::MAX).1 else {
            return Ok(Some(lock));
        };
        drop(lock);
        self.lock_and_unmap_pinned(state, first, pinned)
    }

    /// Unmaps all of the file and closes its idle descriptors. The caller holds no range lock.
    pub(super) fn unmap_and_close_idle(&self) -> Result<(), MappingError> {
        let Some(state) = self.opened_state() else {
            return Ok(());
        };
        self.unlock_pages_with_last_handle();
        self.unmap_all(state)?;
        self.resources.fd_pool.close_idle(state.id);
        Ok(())
    }

    /// Unlocks the pages that are locked in memory, unless another handle uses the file.
    pub(super) fn unlock_pages_with_last_handle(&self) {
        if let Some(state) = self.opened_state()
            && Arc::strong_count(state) == 1
        {
            state.unpin_all_locked();
        }
    }

    /// Unmaps all of the file. The caller holds no range lock.
    pub(super) fn unmap_all(&self, state: &FileState) -> Result<(), MappingError> {
        if let Some(pinned) = state.evict_windows(0..=u64::MAX).1 {
            drop(self.lock_and_unmap_pinned(state, 0, pinned)?);
        }
        Ok(())
    }

    /// Unmaps the windows from `first` on, after the window `pinned` was found pinned. Waits for
    /// the copies that pin them. A span is an error: its owner may keep it for any time.
    fn lock_and_unmap_pinned(
        &self,
        state: &FileState,
        first: u64,
        pinned: u64,
    ) -> Result<Option<RangeLock<'_>>, MappingError> {
        let lock = match self.lock_from(self.resources.windows.start(first)) {
            Err(MappingError::RangeLocked { .. }) => return Err(self.window_pinned_error(pinned)),
            lock => lock?,
        };
        match state.evict_windows_patiently(first..=u64::MAX) {
            None => Ok(lock),
            Some(window) => Err(self.window_pinned_error(window)),
        }
    }

    fn lock_from(&self, offset: u64) -> Result<Option<RangeLock<'_>>, MappingError> {
        self.lock_for_copy(offset..MAX_FILE_BYTES, Sharing::Exclusive)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs::File;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::mapping_cache::options::Access;
    use crate::mapping_cache::{CacheOptions, FileOptions, Location, MappingCache};

    const WINDOW: u64 = 1 << 16;

    fn two_handles() -> (tempfile::TempDir, [CachedFile; 2]) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = File::create(directory.path().join("a")).expect("a file");
        file.set_len(2 * WINDOW).expect("a length");
        let options = CacheOptions::default().window_bytes(1 << 16);
        let cache = MappingCache::new(options).expect("a cache");
        let handles = [0, 1].map(|_| {
            let location = Location::beneath(directory.path().into(), "a".into());
            let options = FileOptions::default().access(Access::ReadWrite);
            cache.file(location.expect("a name"), 2 * WINDOW, options)
        });
        (directory, handles)
    }

    /// Calls `change` while a copy from the first page of the file pins its window.
    fn beside_a_copy(change: impl Fn(&mut CachedFile) -> Result<(), MappingError> + Sync) {
        let (_directory, [copied, mut changed]) = two_handles();
        changed.state().expect("the file is opened");
        let lock = copied.lock_for_copy(0..4096, Sharing::Shared);
        let lock = lock.expect("no span exists");
        let pin = copied.pin(0, Access::ReadOnly).expect("a pin");
        thread::scope(|scope| {
            let changing = scope.spawn(|| change(&mut changed));
            // Longer than a pin without a lock is waited for.
            thread::sleep(Duration::from_millis(300));
            drop(pin);
            drop(lock);
            let result = changing.join().expect("no panic");
            result.expect("the copy is waited for");
        });
    }

    #[test]
    fn set_len_waits_for_a_copy_in_the_window_of_the_new_end() {
        beside_a_copy(|file| file.set_len(4096));
    }

    #[test]
    fn closing_waits_for_copies_through_other_handles() {
        beside_a_copy(CachedFile::close);
        beside_a_copy(CachedFile::close_without_sync);
        beside_a_copy(|file| file.drop_page_cache());
    }

    #[test]
    fn a_span_in_the_window_of_the_new_end_is_not_waited_for() {
        let (_directory, [held, mut changed]) = two_handles();
        let span = held.pinned_range(0..4096, Access::ReadOnly);
        let span = span.expect("the range is free");
        let is_pinned =
            |result| matches!(result, Err(MappingError::WindowPinned { offset: 0, .. }));
        changed.state().expect("the file is opened");
        assert!(is_pinned(changed.set_len(4096)));
        assert!(is_pinned(changed.close()));
        assert!(is_pinned(changed.drop_page_cache()));
        drop(span);
        changed.set_len(4096).expect("no pin is left");
    }
}
