//! Ranges of a file that are locked and pinned, from which spans are built.

use std::io;
use std::ops::Range;

use super::pin::Pin;
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::file::{CachedFile, FileState};
use crate::mapping_cache::options::{Access, Preallocation, PreallocationStatus};
use crate::mapping_cache::range_lock::{LockKind, RangeLock, RangeLockError, Sharing, Ticket};
use crate::mapping_cache::stripe::Stripe;
use crate::mapping_cache::window::Step;
use crate::sys::statx;

/// A range within one window of a file, locked and pinned.
///
/// It is unpinned before it is unlocked, so that the next owner of the lock finds all stores done.
#[derive(Debug)]
pub(crate) struct PinnedRange<'a> {
    // Dropped before the lock.
    pin: Pin<'a>,
    /// Offset in the window.
    within: usize,
    len: usize,
    lock: RangeLock<'a>,
}

/// A range within one window that is locked as by a copy, and not pinned yet.
#[derive(Debug)]
pub(crate) struct LockedRange<'a> {
    lock: RangeLock<'a>,
    step: Step,
}

impl PinnedRange<'_> {
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.pin.as_ptr().wrapping_add(self.within)
    }

    /// Returns the address for stores, or `None` for a range that is pinned for reading.
    #[inline(always)]
    pub(crate) fn as_mut_ptr(&self) -> Option<*mut u8> {
        Some(self.pin.as_mut_ptr()?.wrapping_add(self.within))
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Ends the time in which copies wait for the lock of this range. They fail from now on.
    pub(crate) fn make_guard(&self) {
        self.lock.make_guard();
    }

    /// Populates the pages for reading. Returns an error if the file no longer has one of them.
    pub(crate) fn populate(&self) -> io::Result<()> {
        self.pin.populate(self.within, self.len)
    }

    /// Returns whether all pages are in the page cache.
    pub(crate) fn is_resident(&self) -> bool {
        self.pin.is_resident(self.within, self.len).unwrap_or(true)
    }

    /// Returns whether a page of the window was lost. Data that was read may then be zeros, and
    /// stores may be lost.
    #[inline(always)]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.pin.is_poisoned()
    }
}

impl CachedFile {
    /// Locks and pins a range for reading if it is in one mapped window and no lock conflicts.
    /// [`lock_window_range`](Self::lock_window_range) returns the reason if not.
    #[inline(always)]
    pub(crate) fn pinned_range_if_mapped(
        &self,
        offset: u64,
        len: usize,
    ) -> Option<PinnedRange<'_>> {
        let (window, within) = self.resources.windows.only(offset, len)?;
        let opened = self.opened()?;
        let end = offset + len as u64;
        let stripe = Stripe::mine();
        let locks = &opened.registered.locks;
        // That of a copy until the window is pinned: a copy waits for an attempt that may fail.
        let (stay, later) = (LockKind::Copy, LockKind::Guard);
        let token = locks.try_lock_shared(offset..end, stay, later, stripe)?;
        // Under the lock, which excludes a truncation of the range.
        let pin = if end <= opened.storage.known_bytes() {
            self.pin_opened(opened, stripe, window, within + len)
        } else {
            None
        };
        let Some(pin) = pin else {
            locks.undo(token);
            return None;
        };
        locks.make_guard(token);
        // Built last: a value that may have to be dropped earlier is stored in memory
        // (docs/benchmarks.md).
        let lock = RangeLock::new(locks, token);
        Some(PinnedRange {
            pin,
            within,
            len,
            lock,
        })
    }

    /// Locks and pins the first part of a range, up to the end of its window. Returns the pinned
    /// range and its end.
    pub(crate) fn pinned_range(
        &self,
        range: Range<u64>,
        access: Access,
    ) -> Result<(PinnedRange<'_>, u64), RangeLockError<'_>> {
        let (locked, end) = self.lock_window_range(range, access, Ticket::NEW)?;
        let pinned = self.pin_locked_range(locked, access)?;
        pinned.make_guard();
        Ok((pinned, end))
    }

    /// Locks the first part of a range as a copy does, up to the end of its window. Returns the
    /// lock and the end of the locked part.
    pub(crate) fn lock_window_range(
        &self,
        range: Range<u64>,
        access: Access,
        ticket: Ticket,
    ) -> Result<(LockedRange<'_>, u64), RangeLockError<'_>> {
        let sharing = match access {
            Access::ReadOnly => Sharing::Shared,
            Access::ReadWrite => Sharing::Exclusive,
        };
        let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let step = self.resources.windows.step(range.start, left);
        let end = range.start + step.len as u64;
        let lock = self.lock_range(range.start..end, sharing, LockKind::Copy, ticket)?;
        Ok((LockedRange { lock, step }, end))
    }

    /// Pins a locked range. The caller [makes it a guard](PinnedRange::make_guard).
    pub(crate) fn pin_locked_range<'a>(
        &'a self,
        locked: LockedRange<'a>,
        access: Access,
    ) -> Result<PinnedRange<'a>, MappingError> {
        let LockedRange { lock, step } = locked;
        let start = self.resources.windows.start(step.window) + step.within as u64;
        let end = start + step.len as u64;
        let state = self.state()?;
        if access == Access::ReadOnly && end > state.storage.known_bytes() {
            self.check_end(state, end)?;
        }
        let pin = self.pin_covering(step.window, step.end(), access)?;
        if access == Access::ReadWrite && !self.has_storage_for_stores(state) {
            // Stores to pages without storage raise SIGBUS [I35], so it is requested now.
            let populated = pin.populate_for_stores(step.within, step.len);
            populated.map_err(|error| self.page_error(start..end, access, error))?;
        }
        Ok(PinnedRange {
            pin,
            within: step.within,
            len: step.len,
            lock,
        })
    }

    /// Returns an error if the file is shorter than `end` bytes. The rest of its last page reads as
    /// zeros, but is not part of it.
    fn check_end(&self, state: &FileState, end: u64) -> Result<(), MappingError> {
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        // Under the length lock, so that growth that a failed write will undo is not recorded. A
        // recorded length is never undone.
        let _length = state.lock_length();
        let present =
            statx::len(&file).map_err(|error| self.io_error("query its length", error))?;
        if end > present {
            return Err(self.too_short_error(end, present));
        }
        state.storage.note_len(present);
        Ok(())
    }

    /// Returns whether every store into the declared length has storage. Only a preallocation of
    /// the whole length counts, since another handle may have mapped a window without one.
    fn has_storage_for_stores(&self, state: &FileState) -> bool {
        self.options.preallocation == Preallocation::Full
            && self.is_preallocated(state)
            && state.storage.preallocation_status() == PreallocationStatus::Reserved
    }
}
