//! Words of a memfd that other processes have too.
//! See [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html).
//!
//! # Safety
//!
//! What is mapped is given out as `&[AtomicU64]` and in no other way (docs/unsafe.md, U13): other processes write it, which is
//! no race for atomics. Every page has its storage: the memfd is sealed against shrinking, which is checked, and reaches to
//! the end of the mapping, which is checked after the seal.
#![expect(unsafe_code, reason = "mmap, and slices of what it maps")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::limits::page_bytes;
use super::{identity, memfd};

const WORD_BYTES: usize = size_of::<AtomicU64>();

/// A mapping of some pages of a memfd.
#[derive(Debug)]
pub(crate) struct SharedWords {
    start: NonNull<u8>,
    bytes: usize,
    writable: bool,
}

// SAFETY: a range of addresses of its own, given out as atomics.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps a range of whole pages. `PermissionDenied` unless the memfd is sealed against shrinking; `UnexpectedEof` when it does not reach
    /// so far.
    pub(crate) fn map(file: &File, range: Range<usize>, writable: bool) -> io::Result<Self> {
        let page = page_bytes();
        if range.is_empty() || !range.start.is_multiple_of(page) || !range.end.is_multiple_of(page)
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if !memfd::seals(file)?.shrink {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if identity::len(file)? < range.end as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut access = ProtFlags::READ;
        access.set(ProtFlags::WRITE, writable);
        // SAFETY: without an address nothing is replaced; the kernel checks the rest.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                range.len(),
                access,
                MapFlags::SHARED,
                file,
                range.start as u64,
            )?
        };
        Ok(Self {
            start: NonNull::new(start.cast()).ok_or(Errno::FAULT)?,
            bytes: range.len(),
            writable,
        })
    }

    /// All words, to be loaded; to be stored to only if it was mapped for that, which the caller sees to by
    /// [`is_writable`](Self::is_writable).
    pub(crate) fn words(&self) -> &[AtomicU64] {
        let start = self.start.as_ptr().cast::<AtomicU64>();
        // SAFETY: the mapping has so many words from its start, which is aligned to a page, and every bit pattern is one. It lives as
        // long as the slice, and each page has its storage (module documentation). Nobody of this process makes another kind of
        // reference to it (U13).
        unsafe { std::slice::from_raw_parts(start, self.bytes / WORD_BYTES) }
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and no slice of it is left.
        // Nothing can be done about a failure; the addresses stay taken then.
        let _best_effort = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn two_mappings_show_the_same_words_and_a_memfd_that_may_shrink_is_refused() {
        let file = memfd::create("flatspan-test").expect("a memfd");
        let page = page_bytes();
        file.set_len(2 * page as u64).expect("longer");
        let refused = SharedWords::map(&file, 0..page, true).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(io::ErrorKind::PermissionDenied));
        memfd::seal_against_shrinking(&file).expect("a seal");
        let refused = SharedWords::map(&file, 0..3 * page, true).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(io::ErrorKind::UnexpectedEof));
        let writer = SharedWords::map(&file, page..2 * page, true).expect("a mapping");
        let reader = SharedWords::map(&file, 0..2 * page, false).expect("a mapping");
        assert!(writer.is_writable() && !reader.is_writable());
        writer.words()[3].store(7, Ordering::Relaxed);
        let at = page / WORD_BYTES + 3;
        assert_eq!(reader.words()[at].load(Ordering::Relaxed), 7);
    }
}
