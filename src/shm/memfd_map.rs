//! Shared memory, mapped.
//!
//! # Safety
//!
//! Other processes write the memory at any time. So there are no references to it but to atomics, whose loads and stores are
//! defined whoever else writes, and raw pointers, whose user answers for himself. Both end with the mapping: it is
//! unmapped when it is dropped, and references borrow from it. Mappings begin with a page, so words are aligned.
//!
//! A file that is made shorter takes the memory behind its new end away: a load or store there raises SIGBUS, which ends the
//! process; it gives no wrong value. A [restored](super::SharedFile::is_restored) file cannot be made shorter.
#![expect(unsafe_code, reason = "atomics in mapped memory")]

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

const WORD: usize = size_of::<AtomicU64>();

/// A range of a [`SharedFile`](super::SharedFile), mapped for reading.
#[derive(Debug)]
pub struct SharedMap {
    memory: MmapRaw,
}

/// A range of a [`SharedFile`](super::SharedFile), mapped for reading and writing.
#[derive(Debug)]
pub struct SharedMapMut {
    memory: MmapRaw,
}

impl SharedMap {
    pub(super) fn new(file: &File, start: u64, len: usize) -> io::Result<Self> {
        let memory = MmapOptions::new()
            .offset(start)
            .len(len)
            .map_raw_read_only(file)?;
        Ok(Self { memory })
    }

    /// Where it begins, at a page, for as long as it lives.
    ///
    /// # Safety
    ///
    /// Using the pointer is `unsafe`: only the [`len`](Self::len) bytes from it on may be read, and none written. Other
    /// processes write them meanwhile, so they are read by atomics, or copied by the kernel; a reference to them is
    /// undefined behaviour. Unless the file is restored, memory may be gone (SIGBUS).
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    /// Its length in bytes, never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// The word of this number, counted in words of 8 bytes, read relaxed; `None` behind the last whole one. An acquiring read
    /// is this and `fence(Acquire)`.
    #[must_use]
    pub fn load(&self, word: usize) -> Option<u64> {
        if word >= self.len() / WORD {
            return None;
        }
        let place = self.memory.as_ptr().wrapping_add(word * WORD);
        // SAFETY: the word lies in the mapping, as was just checked, and is aligned; the mapping outlives the load. Nothing
        // but a relaxed load of a word is done, which is defined for memory that can only be read.
        let word = unsafe { AtomicU64::from_ptr(place.cast_mut().cast()) };
        Some(word.load(Ordering::Relaxed))
    }

    /// Its whole words, to be loaded: whoever stored one would end the process.
    pub(super) fn words_to_load(&self) -> &[AtomicU64] {
        words_at(&self.memory)
    }
}

impl SharedMapMut {
    pub(super) fn new(file: &File, start: u64, len: usize) -> io::Result<Self> {
        let memory = MmapOptions::new().offset(start).len(len).map_raw(file)?;
        Ok(Self { memory })
    }

    /// Where it begins, at a page, for as long as it lives.
    ///
    /// # Safety
    ///
    /// Using the pointer is `unsafe`: only the [`len`](Self::len) bytes from it on may be used. Other processes read and
    /// write them meanwhile, as do users of [`words`](Self::words), so they are used by atomics, or copied by the kernel;
    /// a reference to them is undefined behaviour, but to atomics. Unless the file is restored, memory may be gone (SIGBUS).
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.as_mut_ptr()
    }

    /// Its length in bytes, never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Its whole words of 8 bytes. What lies behind the last one has no word.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        words_at(&self.memory)
    }
}

fn words_at(memory: &MmapRaw) -> &[AtomicU64] {
    let words = memory.as_ptr().cast::<AtomicU64>();
    // SAFETY: so many whole words lie in the mapping, which begins with a page and lives as long as the borrow.
    // Atomics may be changed by others. In a mapping for reading they are only loaded, relaxed or acquiring, which is defined for
    // words of 64 bits in memory that can only be read.
    unsafe { std::slice::from_raw_parts(words, memory.len() / WORD) }
}
