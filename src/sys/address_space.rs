//! Address space reserved in one piece, and memory mapped into parts of it.
//! See [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html) and
//! [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html).
//!
//! # Safety
//!
//! A [`Reservation`] owns its addresses from the call that reserved them to its end (docs/unsafe.md, U9): nothing
//! else is mapped there, and what is mapped by `MAP_FIXED` lies inside, which every function checks. Its memory is
//! reached by system calls, which check every page, and through the raw pointer that [`Reservation::start`] gives out;
//! whoever uses that pointer answers for it (U10). So the functions here are safe to call.
#![expect(unsafe_code, reason = "mmap, munmap and madvise take raw addresses")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::process_vm::{PARTS_MAX, gather_mapped, read_mapped, write_mapped};
use super::rlimits::page_bytes;
use super::sigbus::{self, Watch};

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// Who sees what is stored into a mapped file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// The file and all its other mappings.
    Shared,
    /// Nobody else: the page is copied at its first store.
    Private,
}

/// A range of addresses that is ours until this is dropped. Nothing can be loaded or stored where nothing was mapped.
#[derive(Debug)]
pub(crate) struct Reservation {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns a range of addresses, which mean the same in every thread, and reaches them by system calls only.
unsafe impl Send for Reservation {}
// SAFETY: as above; the kernel orders the calls of several threads.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves addresses, at `address` if one is given: then `EEXIST` if something lies there.
    pub(crate) fn new(bytes: usize, address: Option<usize>) -> io::Result<Self> {
        let mut flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        if address.is_some() {
            flags |= MapFlags::FIXED_NOREPLACE;
        }
        let wish = ptr::without_provenance_mut(address.unwrap_or(0));
        // SAFETY: without MAP_FIXED nothing is replaced, and the range is new to everybody.
        let start = unsafe { mmap_anonymous(wish, bytes, ProtFlags::empty(), flags)? };
        let reserved = Self {
            start: NonNull::new(start.cast()).ok_or(Errno::FAULT)?,
            bytes,
        };
        // A kernel before 4.17 takes the flag for a hint and may choose another place.
        if address.is_some_and(|address| address != reserved.start.addr().get()) {
            return Err(Errno::EXIST.into());
        }
        Ok(reserved)
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Maps zeros for reading and writing over what is there. `charged`: the kernel refuses what memory and swap could
    /// never hold (as it counts; see `vm.overcommit_memory`).
    pub(crate) fn map_zeros(&self, range: Range<usize>, charged: bool) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut flags = MapFlags::PRIVATE | MapFlags::FIXED;
        if !charged {
            flags |= MapFlags::NORESERVE;
        }
        let place = self.place(&range);
        // SAFETY: the range is ours, checked by `place` (U9).
        unsafe { mmap_anonymous(place, range.len(), READ_WRITE, flags)? };
        Ok(())
    }

    /// Maps a part of a file over what is there, for reading and writing.
    pub(crate) fn map_file(
        &self,
        range: Range<usize>,
        file: &File,
        offset: u64,
        sharing: Sharing,
    ) -> io::Result<()> {
        let flags = match sharing {
            Sharing::Shared => MapFlags::SHARED,
            Sharing::Private => MapFlags::PRIVATE | MapFlags::NORESERVE,
        };
        let place = self.place(&range);
        // SAFETY: the range is ours, checked by `place` (U9).
        unsafe {
            mmap(
                place,
                range.len(),
                READ_WRITE,
                flags | MapFlags::FIXED,
                file,
                offset,
            )?
        };
        Ok(())
    }

    /// Gives back the memory of a range; the addresses stay ours.
    pub(crate) fn unmap(&self, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        let place = self.place(&range);
        // SAFETY: the range is ours, checked by `place` (U9).
        unsafe { mmap_anonymous(place, range.len(), ProtFlags::empty(), flags)? };
        Ok(())
    }

    /// Forgets private pages: they are zeros again, or what the file beneath them holds.
    pub(crate) fn forget(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::LinuxDontNeed)
    }

    /// Asks for huge pages. A kernel without them says `EINVAL`.
    pub(crate) fn prefer_huge_pages(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::LinuxHugepage)
    }

    /// Does as if each page was stored to, and changes nothing. A page that gets no storage is `EFAULT`.
    pub(crate) fn populate_write(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::LinuxPopulateWrite)
    }

    /// Stores a byte, by an instruction. A page that cannot be read is an error.
    pub(crate) fn store(&mut self, at: usize, byte: u8) -> io::Result<()> {
        let page = at - at % page_bytes();
        self.advise(page..page + page_bytes(), Advice::LinuxPopulateRead)?;
        let place = self.place(&(at..at + 1)).cast::<u8>();
        // SAFETY: the page is mapped, as the call before has found, and all mappings of a reservation that can be read
        // can be written; `&mut self` keeps it mapped. Others may use the byte through the pointer of `start` only by
        // their own promise (U10), or through another mapping of its file: hence an atomic.
        unsafe { AtomicU8::from_ptr(place) }.store(byte, Ordering::Relaxed);
        Ok(())
    }

    fn advise(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let place = self.place(&range);
        // SAFETY: the range is ours, checked by `place` (U9).
        unsafe { madvise(place, range.len(), advice)? };
        Ok(())
    }

    /// Copies out by the kernel. Returns how much arrived: less than asked means a page that cannot be read.
    pub(crate) fn read(&self, at: usize, buf: &mut [u8]) -> io::Result<usize> {
        let place = self.place(&(at..at + buf.len())).cast::<u8>();
        let mut done = 0;
        // A call copies 2 GiB at most.
        while done < buf.len() {
            // SAFETY: the range stays ours while `self` is borrowed (U9); who made a `&mut` to it has promised that
            // nobody reads meanwhile (U10).
            match unsafe { read_mapped(place.wrapping_add(done), &mut buf[done..], None)? } {
                0 => break,
                copied => done += copied,
            }
        }
        Ok(done)
    }

    /// Copies ranges out by the kernel, one behind the other: `buf` is as long as they are together. Returns how much
    /// arrived: less than asked means a page that cannot be read.
    pub(crate) fn gather(&self, ranges: &[Range<usize>], buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        for ranges in ranges.chunks(PARTS_MAX) {
            let wanted: usize = ranges.iter().map(ExactSizeIterator::len).sum();
            let sources = ranges.iter().map(|range| {
                let place = self.place(range).cast::<u8>().cast_const();
                (place, range.len())
            });
            // SAFETY: the ranges stay ours while `self` is borrowed (U9); who made a `&mut` to them has promised that
            // nobody reads meanwhile (U10).
            let copied = unsafe { gather_mapped(sources, &mut buf[done..done + wanted])? };
            done += copied;
            if copied < wanted {
                break;
            }
        }
        Ok(done)
    }

    /// Copies in by the kernel. Returns how much arrived: less than asked means a page that cannot be written.
    pub(crate) fn write(&self, at: usize, buf: &[u8]) -> io::Result<usize> {
        let place = self.place(&(at..at + buf.len())).cast::<u8>();
        let mut done = 0;
        while done < buf.len() {
            // SAFETY: the range stays ours while `self` is borrowed (U9); who made a reference to it has promised that
            // nobody writes meanwhile (U10).
            match unsafe { write_mapped(place.wrapping_add(done), &buf[done..])? } {
                0 => break,
                copied => done += copied,
            }
        }
        Ok(done)
    }

    /// Watches the range for pages without storage, which set `flag` ([`sigbus::watch`]).
    ///
    /// # Safety
    ///
    /// `flag` stays where it is until the watch is dropped, and the watch is dropped before the reservation.
    pub(crate) unsafe fn watch(&self, flag: *const AtomicBool) -> Watch {
        // SAFETY: the caller vouches for the flag. The range is ours until after the watch (U9); where it is mapped
        // anew meanwhile, a thread that faults there breaks U10, and gets a page of zeros inside the range.
        unsafe { sigbus::watch(self.start.as_ptr(), self.bytes, flag) }
    }

    /// # Panics
    ///
    /// When the range leaves the reservation.
    fn place(&self, range: &Range<usize>) -> *mut c_void {
        assert!(
            range.start <= range.end && range.end <= self.bytes,
            "{range:?} leaves {} reserved bytes",
            self.bytes
        );
        self.start.as_ptr().wrapping_add(range.start).cast()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and nothing that borrows from it is left (U9).
        // Nothing can be done about a failure (too many mappings); the addresses stay taken then.
        let _best_effort = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_reserved_cannot_be_read_or_written() {
        let memory = Reservation::new(4 * page_bytes(), None).expect("addresses");
        assert_eq!(memory.read(0, &mut [0; 8]).expect("no page"), 0);
        assert_eq!(memory.write(0, &[1; 8]).expect("no page"), 0);
        memory
            .map_zeros(page_bytes()..2 * page_bytes(), true)
            .expect("memory");
        let mut buf = vec![7; 2 * page_bytes()];
        let read = memory.read(page_bytes(), &mut buf).expect("one page");
        assert_eq!(read, page_bytes());
        assert!(buf[..read].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_taken_address_is_refused_and_a_free_one_is_used() {
        let memory = Reservation::new(16 * page_bytes(), None).expect("addresses");
        let address = memory.start().addr().get();
        let refused = Reservation::new(page_bytes(), Some(address + 4 * page_bytes()));
        assert_eq!(
            refused.map(|_| ()).map_err(|error| error.kind()),
            Err(io::ErrorKind::AlreadyExists)
        );
        // Far from where the kernel places what other threads map.
        let address = 0x1234_5600_0000;
        let memory = Reservation::new(page_bytes(), Some(address)).expect("addresses");
        assert_eq!(memory.start().addr().get(), address);
    }

    #[test]
    #[should_panic(expected = "leaves")]
    fn nothing_is_mapped_outside() {
        let memory = Reservation::new(4 * page_bytes(), None).expect("addresses");
        let _unreachable = memory.map_zeros(0..5 * page_bytes(), true);
    }
}
