//! What to tell and ask the kernel about mapped pages.
//! See [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html).
//!
//! # Safety
//!
//! Every function takes a range of addresses that the caller proves to lie in one mapping of a file
//! that stays mapped for the call (docs/unsafe.md, U1). None of the advice used here changes what the
//! pages of a shared file mapping contain.
#![expect(unsafe_code, reason = "madvise, mincore and mlock take raw addresses")]

use std::io;

use libc::c_void;
use rustix::mm::{Advice, madvise, mlock, munlock};

use super::rlimits::page_bytes;

/// Brings the pages in for reading. A page without storage behind it is `EFAULT`, never a signal.
///
/// # Safety
///
/// The range lies in one mapping that outlives the call.
pub(crate) unsafe fn populate_read(start: *const u8, len: usize) -> io::Result<()> {
    // SAFETY: the caller vouches for the range; populating changes no content.
    unsafe { advise(start, len, Advice::LinuxPopulateRead) }
}

/// Brings the pages in for writing and makes them dirty. A page that gets no storage is `EFAULT`, never a
/// signal.
///
/// # Safety
///
/// The range lies in one writable mapping that outlives the call.
pub(crate) unsafe fn populate_write(start: *const u8, len: usize) -> io::Result<()> {
    // SAFETY: the caller vouches for the range; populating changes no content.
    unsafe { advise(start, len, Advice::LinuxPopulateWrite) }
}

/// Gives `advice` for the range, widened to whole pages.
///
/// # Safety
///
/// The range lies in one mapping of a shared file that outlives the call, and `advice` does not free
/// or unmap anything but clean page-table entries.
pub(crate) unsafe fn advise(start: *const u8, len: usize, advice: Advice) -> io::Result<()> {
    let (start, len) = whole_pages(start, len);
    // SAFETY: forwarded to the caller; mappings start at a page, so widening stays inside.
    unsafe { madvise(start.cast_mut().cast(), len, advice)? };
    Ok(())
}

/// Locks the pages of the range in memory.
///
/// # Safety
///
/// The range lies in one mapping that outlives the call.
pub(crate) unsafe fn lock(start: *const u8, len: usize) -> io::Result<()> {
    let (start, len) = whole_pages(start, len);
    // SAFETY: the caller vouches for the range; locking changes no content.
    unsafe { mlock(start.cast_mut().cast(), len)? };
    Ok(())
}

/// Undoes [`lock`].
///
/// # Safety
///
/// The range lies in one mapping that outlives the call.
pub(crate) unsafe fn unlock(start: *const u8, len: usize) -> io::Result<()> {
    let (start, len) = whole_pages(start, len);
    // SAFETY: the caller vouches for the range; unlocking changes no content.
    unsafe { munlock(start.cast_mut().cast(), len)? };
    Ok(())
}

/// Are all pages of the range in the page cache? The kernel answers yes for files that this user
/// could neither write nor owns. See [`mincore(2)`](https://man7.org/linux/man-pages/man2/mincore.2.html).
///
/// # Safety
///
/// The range lies in one mapping that outlives the call.
pub(crate) unsafe fn is_resident(start: *const u8, len: usize) -> io::Result<bool> {
    let (start, len) = whole_pages(start, len);
    let mut pages = vec![0u8; len / page_bytes()];
    // SAFETY: the caller vouches for the range; `pages` has one byte for each page of it.
    let answer =
        unsafe { libc::mincore(start.cast_mut().cast::<c_void>(), len, pages.as_mut_ptr()) };
    if answer == 0 {
        Ok(pages.iter().all(|page| page & 1 == 1))
    } else {
        Err(io::Error::last_os_error())
    }
}

fn whole_pages(start: *const u8, len: usize) -> (*const u8, usize) {
    let page = page_bytes();
    let skipped = start.addr() % page;
    let len = (len + skipped).next_multiple_of(page);
    (start.map_addr(|address| address - skipped), len)
}
