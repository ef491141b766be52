//! Mapped memfds.
//!
//! See [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html).
//!
//! # Safety
//!
//! Other processes write the memory at any time. The only references to it are therefore to
//! atomics, whose loads and stores are defined with any other writer. Raw pointers are the
//! responsibility of their user. References borrow from the mapping, which is unmapped when it is
//! dropped. A mapping starts at a page, so words are aligned.
//!
//! Truncating the memfd removes the memory past its new end. A load or store there raises SIGBUS,
//! which ends the process, but never returns a wrong value. A
//! [restored](super::Memfd::is_restored) memfd cannot be truncated.
#![expect(unsafe_code, reason = "atomics in mapped memory")]

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

const WORD: usize = size_of::<AtomicU64>();

/// A range of a [`Memfd`](super::Memfd) that is mapped for reading.
#[derive(Debug)]
pub struct MemfdMap {
    memory: MmapRaw,
}

/// A range of a [`Memfd`](super::Memfd) that is mapped for reading and writing.
#[derive(Debug)]
pub struct MemfdMapMut {
    memory: MmapRaw,
}

impl MemfdMap {
    pub(super) fn new(file: &File, start: u64, len: usize) -> io::Result<Self> {
        let memory = MmapOptions::new()
            .offset(start)
            .len(len)
            .map_raw_read_only(file)?;
        Ok(Self { memory })
    }

    /// Returns the page-aligned start of the mapping. The pointer is valid until this is dropped.
    ///
    /// Only the [`len`](Self::len) bytes from it on may be read, and none written. Other processes
    /// write them concurrently, so they must be read by atomics or copied by the kernel. A
    /// reference to them is undefined behaviour. A read may raise SIGBUS unless the memfd is
    /// [restored](super::Memfd::is_restored).
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    /// Returns the length in bytes, which is never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Returns the 8-byte word with this index by a relaxed load, `None` past the last whole word.
    ///
    /// A following `fence(Acquire)` makes it an acquire load.
    #[must_use]
    pub fn load(&self, word: usize) -> Option<u64> {
        if word >= self.len() / WORD {
            return None;
        }
        let address = self.memory.as_ptr().wrapping_add(word * WORD);
        // SAFETY: the word is inside the mapping (checked above) and aligned, and the mapping
        // outlives the load. A relaxed load is defined for read-only memory.
        let word = unsafe { AtomicU64::from_ptr(address.cast_mut().cast()) };
        Some(word.load(Ordering::Relaxed))
    }

    /// The whole words. They must only be loaded: a store to the read-only mapping raises SIGSEGV.
    pub(super) fn words_to_load(&self) -> &[AtomicU64] {
        words_at(&self.memory)
    }
}

impl MemfdMapMut {
    pub(super) fn new(file: &File, start: u64, len: usize) -> io::Result<Self> {
        let memory = MmapOptions::new().offset(start).len(len).map_raw(file)?;
        Ok(Self { memory })
    }

    /// Returns the page-aligned start of the mapping. The pointer is valid until this is dropped.
    ///
    /// Only the [`len`](Self::len) bytes from it on may be accessed. Other processes and users of
    /// [`words`](Self::words) access them concurrently, so they must be accessed by atomics or
    /// copied by the kernel. A reference to them is undefined behaviour, except to atomics. An
    /// access may raise SIGBUS unless the memfd is [restored](super::Memfd::is_restored).
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.as_mut_ptr()
    }

    /// Returns the length in bytes, which is never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Returns the whole 8-byte words of the mapping.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        words_at(&self.memory)
    }
}

fn words_at(memory: &MmapRaw) -> &[AtomicU64] {
    let words = memory.as_ptr().cast::<AtomicU64>();
    // SAFETY: the words are inside the mapping, which starts at a page and outlives the borrow.
    // Other writers may change atomics. In a read-only mapping they are only loaded, relaxed or
    // acquire, which is defined for 64-bit words of read-only memory.
    unsafe { std::slice::from_raw_parts(words, memory.len() / WORD) }
}
