//! Pins, which keep a window mapped at its address.
//!
//! # Safety
//!
//! A [`Pin`] is created from a pin block that holds the address of a mapping. It keeps the pin
//! count of the block above zero, so that the mapping is not unmapped (docs/unsafe.md, U1). The
//! kernel makes the copies, at addresses inside that mapping. This layer creates no references to
//! mapped memory.
#![expect(
    unsafe_code,
    reason = "copies into and out of mapped memory by raw address"
)]

use std::io;

use crate::mapping_cache::file::{FileState, Resources};
use crate::mapping_cache::range_lock::{RangeLock, Sharing};
use crate::mapping_cache::stripe::Stripe;
use crate::mapping_cache::window::{Address, PinBlock};
use crate::sys::{madvise, process_vm, rlimits};

/// A window of a file that stays mapped until this is dropped.
///
/// A plain load or store raises SIGBUS on a page past the present end of the file, and on a page
/// for which the disk has no space. Call [`populate`](Self::populate) first, or copy with
/// [`read_at`](Self::read_at) and [`write_at`](Self::write_at), which return an error instead.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use flatspan::mapping_cache::{Access, CacheOptions, FileOptions, Location, MappingCache};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let directory = std::env::temp_dir();
/// let name = format!("flatspan-pin-{}", std::process::id());
/// std::fs::write(directory.join(&name), b"hello")?;
///
/// let cache = MappingCache::new(CacheOptions::default())?;
/// let location = Location::beneath(Arc::from(directory.as_path()), name.clone().into())?;
/// let file = cache.file(location, 5, FileOptions::default());
/// let pin = file.pin(0, Access::ReadOnly)?;
/// pin.populate(0, 5)?;
/// assert!(pin.len() >= 5);
/// assert_eq!(cache.stats().mappings, 1);
/// # std::fs::remove_file(directory.join(&name))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the window is unpinned when this is dropped"]
pub struct Pin<'a> {
    pub(super) resources: &'a Resources,
    pub(super) at: Pinned<'a>,
}

/// The content of a [`Pin`], without its `Drop`.
///
/// The slow path returns this type. A value with `Drop` that a call returns is stored in memory,
/// also on the fast path, and later loads wait for those stores (docs/benchmarks.md).
#[derive(Clone, Copy, Debug)]
pub(super) struct Pinned<'a> {
    pub(super) file: &'a FileState,
    pub(super) window: u64,
    /// The pins of the mapping. A pin for reading may pin the writable mapping.
    pub(super) block: &'a PinBlock,
    pub(super) stripe: Stripe,
    pub(super) address: Address,
    /// Set for a pin for writing, which counts as a write in progress.
    pub(super) writing: Option<&'a FileState>,
}

// SAFETY: a pin is a count in a block and an address. Any thread may decrement the count, in the
// stripe in which it was incremented. The code that dereferences the address proves its use (U3).
// All borrowed values are `Sync`.
unsafe impl Send for Pin<'_> {}
// SAFETY: as above. A shared pin permits reading of its fields, and copies by the kernel.
unsafe impl Sync for Pin<'_> {}

impl Drop for Pin<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.at.writing.is_some() {
            return self.unpin_written();
        }
        self.at.block.unpin(self.at.stripe);
        if self.resources.budget.needs_attention() {
            self.after_unpin();
        }
    }
}

impl Pin<'_> {
    /// Ends the write of a pin for writing. If a page was lost, its stores may be lost too.
    #[inline(never)]
    fn unpin_written(&self) {
        // Read while the window is pinned: a new mapping starts without the flag.
        let poisoned = self.is_poisoned();
        self.at.block.unpin(self.at.stripe);
        if let Some(file) = self.at.writing {
            if poisoned {
                file.dirty.note_lost_stores();
            }
            file.dirty.end();
        }
        if self.resources.budget.needs_attention() {
            self.after_unpin();
        }
    }

    #[cold]
    #[inline(never)]
    fn after_unpin(&self) {
        let Resources {
            budget, wait_table, ..
        } = self.resources;
        budget.after_unpin(self.at.block, wait_table);
    }
}

impl<'a> Pin<'a> {
    /// Drops the guard without unpinning the window.
    pub(super) fn into_pinned(self) -> Pinned<'a> {
        let at = self.at;
        std::mem::forget(self);
        at
    }
}

impl Pin<'_> {
    /// Returns the address of the first byte of the window.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.at.address.start
    }

    /// Returns the address of the first byte of the window for stores, or `None` for a pin for
    /// reading.
    #[must_use]
    pub fn as_mut_ptr(&self) -> Option<*mut u8> {
        self.at.writing.map(|_| self.at.address.start)
    }

    /// Returns the usable bytes of the window. For writing, they end with the file. For reading,
    /// they are whole pages, and bytes past the end of the file are zeros.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at.address.len
    }

    /// Returns `false`, since an empty window is never mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at.address.len == 0
    }

    /// Populates pages for reading (`MADV_POPULATE_READ` of `madvise(2)`).
    ///
    /// # Errors
    ///
    /// - `InvalidInput` if the range is not inside the window.
    /// - `EFAULT` if the file no longer has the page.
    /// - Any other error of the system call.
    pub fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        self.check(offset, len)?;
        // SAFETY: inside the mapping (checked), which stays while pinned (U1).
        unsafe { madvise::populate_read(self.at.address.start.wrapping_add(offset), len) }
    }

    /// Populates pages for writing, so that they have storage. Returns `EFAULT` if a page has none.
    pub(in crate::mapping_cache) fn populate_for_stores(
        &self,
        offset: usize,
        len: usize,
    ) -> io::Result<()> {
        self.check(offset, len)?;
        // SAFETY: inside the mapping (checked), which stays while pinned (U1).
        unsafe { madvise::populate_write(self.at.address.start.wrapping_add(offset), len) }
    }

    /// Copies out of the window. Returns the copied bytes, which end at the first bad page, and
    /// whether the page after the range is good. If it is, the file does not end inside the range.
    pub(in crate::mapping_cache) fn copy_out(
        &self,
        offset: usize,
        buf: &mut [u8],
    ) -> io::Result<(usize, bool)> {
        self.check(offset, buf.len())?;
        let start = self.at.address.start.cast_const();
        let next_page = (offset + buf.len()).next_multiple_of(rlimits::page_bytes());
        let probe = (next_page < self.at.address.len).then(|| start.wrapping_add(next_page));
        // SAFETY: source and probe are inside the mapping (checked), which stays while pinned (U1).
        // This crate creates no references to it.
        let copied = unsafe { process_vm::read_mapped(start.wrapping_add(offset), buf, probe)? };
        Ok((copied.min(buf.len()), copied > buf.len()))
    }

    /// Copies bytes of the window to `buf`. Returns the number of copied bytes, which end at the
    /// first bad page. Waits for copies that write the range.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` if the range is not inside the window.
    /// - `ResourceBusy` if a span for writing holds part of the range.
    /// - Any other error of the system call.
    pub fn read_at(&self, offset: usize, buf: &mut [u8]) -> io::Result<usize> {
        let _lock = self.lock_range(offset, buf.len(), Sharing::Shared)?;
        Ok(self.copy_out(offset, buf)?.0)
    }

    /// Returns whether a page of the window was lost and replaced by zeros. This happens only if
    /// [`install_sigbus_handler`](crate::mapping_cache::install_sigbus_handler) was called, and is
    /// permanent.
    #[inline(always)]
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.at.block.is_poisoned()
    }

    fn lock_range(
        &self,
        offset: usize,
        len: usize,
        sharing: Sharing,
    ) -> io::Result<Option<RangeLock<'_>>> {
        self.check(offset, len)?;
        let start = self.resources.windows.start(self.at.window) + offset as u64;
        RangeLock::for_copy(&self.at.file.registered.locks, start, len, sharing)
    }

    /// Copies `buf` into the window. Returns the number of copied bytes, which end at the first bad
    /// page. Waits for other copies of the range.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` if the range is not inside the window.
    /// - `PermissionDenied` if this is a pin for reading.
    /// - `ResourceBusy` if a span holds part of the range.
    /// - Any other error of the system call.
    pub fn write_at(&self, offset: usize, buf: &[u8]) -> io::Result<usize> {
        if self.at.writing.is_none() {
            let message = "the window is pinned for reading only";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let _lock = self.lock_range(offset, buf.len(), Sharing::Exclusive)?;
        self.copy_in(offset, buf)
    }

    /// Does the same as [`write_at`](Self::write_at) for a caller that has locked the range.
    ///
    /// # Panics
    ///
    /// Panics if this is a pin for reading.
    pub(in crate::mapping_cache) fn copy_in(&self, offset: usize, buf: &[u8]) -> io::Result<usize> {
        self.check(offset, buf.len())?;
        let start = self.as_mut_ptr().expect("the window is pinned for writing");
        // SAFETY: the target is inside a writable mapping (checked), which stays while pinned (U1).
        // This crate creates no references to it.
        unsafe { process_vm::write_mapped(start.wrapping_add(offset), buf) }
    }

    /// Advises the kernel about a range of the window.
    pub(in crate::mapping_cache) fn advise(
        &self,
        offset: usize,
        len: usize,
        advice: rustix::mm::Advice,
    ) -> io::Result<()> {
        self.check(offset, len)?;
        let start = self.at.address.start.wrapping_add(offset);
        // SAFETY: inside the mapping (checked), which stays while pinned (U1). The callers pass
        // access patterns and huge pages only, which free no pages.
        unsafe { madvise::advise(start, len, advice) }
    }

    /// Advises the kernel about the whole window as its file remembers. Advice that the kernel does
    /// not support is ignored.
    pub(super) fn apply_patterns(&self) {
        for pattern in self.at.file.patterns() {
            drop(self.advise(0, self.len(), pattern));
        }
    }

    /// Returns whether all pages of the range are in the page cache.
    pub(in crate::mapping_cache) fn is_resident(
        &self,
        offset: usize,
        len: usize,
    ) -> io::Result<bool> {
        self.check(offset, len)?;
        // SAFETY: inside the mapping (checked), which stays while pinned (U1).
        unsafe { madvise::is_resident(self.at.address.start.wrapping_add(offset), len) }
    }

    /// Locks pages in memory. The window stays pinned for them.
    pub(in crate::mapping_cache) fn lock(
        self,
        file: &FileState,
        offset: usize,
        len: usize,
    ) -> io::Result<()> {
        self.check(offset, len)?;
        // SAFETY: inside the mapping (checked), which stays while pinned (U1).
        unsafe { madvise::lock(self.at.address.start.wrapping_add(offset), len)? };
        let Pinned { window, stripe, .. } = self.at;
        if file.note_locked(window, self.at.block.id(), stripe) {
            // `CachedFile::locked_pin` recreates the pin.
            self.into_pinned();
        }
        Ok(())
    }

    /// Unlocks the pages of the window.
    pub(in crate::mapping_cache) fn unlock(&self) -> io::Result<()> {
        // SAFETY: the whole mapping, which stays while pinned (U1).
        unsafe { madvise::unlock(self.at.address.start, self.at.address.len) }
    }

    fn check(&self, offset: usize, len: usize) -> io::Result<()> {
        let window_len = self.at.address.len;
        match offset.checked_add(len) {
            Some(end) if end <= window_len => Ok(()),
            _ => Err(out_of_window(offset, len, window_len)),
        }
    }
}

#[cold]
fn out_of_window(offset: usize, len: usize, window_len: usize) -> io::Error {
    let message = format!("bytes {offset} + {len} are not inside the {window_len} pinned bytes");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
