//! Address reservations, and memory mapped into parts of them.
//!
//! See [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html) and
//! [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html).
//!
//! # Safety
//!
//! A [`AddressReservation`] owns its addresses from its creation until it is dropped
//! (docs/unsafe.md, U9). No other code maps anything there, and every function checks that
//! `MAP_FIXED` stays inside. The memory is accessed by system calls, which check every page, and
//! through the raw pointer of [`AddressReservation::start`], for which its user is responsible
//! (U10). The functions are therefore safe.
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

/// Visibility of stores to a mapped file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// The file and all its mappings have them.
    Shared,
    /// Only this mapping has them: the first store copies the page.
    Private,
}

/// A range of addresses that is reserved until this is dropped. Unmapped parts cannot be accessed.
#[derive(Debug)]
pub(crate) struct AddressReservation {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the addresses are valid in every thread, and are accessed by system calls only.
unsafe impl Send for AddressReservation {}
// SAFETY: as above. The kernel orders the calls of several threads.
unsafe impl Sync for AddressReservation {}

impl AddressReservation {
    /// Reserves addresses, at `address` if one is given. Fails with `EEXIST` if it is in use.
    pub(crate) fn new(bytes: usize, address: Option<usize>) -> io::Result<Self> {
        let mut flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        if address.is_some() {
            flags |= MapFlags::FIXED_NOREPLACE;
        }
        let hint = ptr::without_provenance_mut(address.unwrap_or(0));
        // SAFETY: without MAP_FIXED no mapping is replaced, so no other code uses the range.
        let start = unsafe { mmap_anonymous(hint, bytes, ProtFlags::empty(), flags)? };
        let reserved = Self {
            start: NonNull::new(start.cast()).ok_or(Errno::FAULT)?,
            bytes,
        };
        // Before Linux 4.17 the address is only a hint.
        if address.is_some_and(|address| address != reserved.start.addr().get()) {
            return Err(Errno::EXIST.into());
        }
        Ok(reserved)
    }

    /// Returns the first address.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns the length in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Maps zeros for reading and writing, and replaces existing mappings.
    ///
    /// With `charged` the kernel counts the memory as committed and may refuse it
    /// (`vm.overcommit_memory`).
    pub(crate) fn map_zeros(&self, range: Range<usize>, charged: bool) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut flags = MapFlags::PRIVATE | MapFlags::FIXED;
        if !charged {
            flags |= MapFlags::NORESERVE;
        }
        let address = self.address_of(&range);
        // SAFETY: the range is reserved, as `address_of` has checked (U9).
        unsafe { mmap_anonymous(address, range.len(), READ_WRITE, flags)? };
        Ok(())
    }

    /// Maps a range of a file for reading and writing, and replaces existing mappings.
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
        let address = self.address_of(&range);
        // SAFETY: the range is reserved, as `address_of` has checked (U9).
        unsafe {
            mmap(
                address,
                range.len(),
                READ_WRITE,
                flags | MapFlags::FIXED,
                file,
                offset,
            )?
        };
        Ok(())
    }

    /// Unmaps the memory of a range. The addresses stay reserved.
    pub(crate) fn unmap(&self, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        let address = self.address_of(&range);
        // SAFETY: the range is reserved, as `address_of` has checked (U9).
        unsafe { mmap_anonymous(address, range.len(), ProtFlags::empty(), flags)? };
        Ok(())
    }

    /// Drops private pages. They then read as zeros, or as the mapped file.
    pub(crate) fn drop_private_pages(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::LinuxDontNeed)
    }

    /// Requests huge pages. Fails with `EINVAL` if the kernel lacks them.
    pub(crate) fn prefer_huge_pages(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::LinuxHugepage)
    }

    /// Populates the pages for writing without changing them. A page without storage is `EFAULT`.
    pub(crate) fn populate_write(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, Advice::LinuxPopulateWrite)
    }

    /// Stores a byte by an instruction of this process. Fails if the page cannot be read.
    pub(crate) fn store(&mut self, at: usize, byte: u8) -> io::Result<()> {
        let page = at - at % page_bytes();
        self.advise(page..page + page_bytes(), Advice::LinuxPopulateRead)?;
        let address = self.address_of(&(at..at + 1)).cast::<u8>();
        // SAFETY: the previous call has shown that the page is mapped. Every readable mapping of a
        // reservation is writable, and `&mut self` keeps it mapped. Other users of the byte are
        // responsible for their pointer (U10) or use another mapping of the file, hence an atomic.
        unsafe { AtomicU8::from_ptr(address) }.store(byte, Ordering::Relaxed);
        Ok(())
    }

    fn advise(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let address = self.address_of(&range);
        // SAFETY: the range is reserved, as `address_of` has checked (U9).
        unsafe { madvise(address, range.len(), advice)? };
        Ok(())
    }

    /// Copies bytes out by the kernel. Returns the number of copied bytes, which is less than
    /// requested if a page cannot be read.
    pub(crate) fn read(&self, at: usize, buf: &mut [u8]) -> io::Result<usize> {
        let address = self.address_of(&(at..at + buf.len())).cast::<u8>();
        let mut done = 0;
        // A call copies at most 2 GiB.
        while done < buf.len() {
            // SAFETY: the range stays reserved while `self` is borrowed (U9). A caller with a
            // `&mut` to it has promised that no thread reads it (U10).
            match unsafe { read_mapped(address.wrapping_add(done), &mut buf[done..], None)? } {
                0 => break,
                copied => done += copied,
            }
        }
        Ok(done)
    }

    /// Copies ranges out by the kernel, one after the other. `buf` has their total length. Returns
    /// the number of copied bytes, which is less than requested if a page cannot be read.
    pub(crate) fn gather(&self, ranges: &[Range<usize>], buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        for ranges in ranges.chunks(PARTS_MAX) {
            let wanted: usize = ranges.iter().map(ExactSizeIterator::len).sum();
            let sources = ranges.iter().map(|range| {
                let address = self.address_of(range).cast::<u8>().cast_const();
                (address, range.len())
            });
            // SAFETY: the ranges stay reserved while `self` is borrowed (U9). A caller with a
            // `&mut` to them has promised that no thread reads them (U10).
            let copied = unsafe { gather_mapped(sources, &mut buf[done..done + wanted])? };
            done += copied;
            if copied < wanted {
                break;
            }
        }
        Ok(done)
    }

    /// Copies bytes in by the kernel. Returns the number of copied bytes, which is less than
    /// requested if a page cannot be written.
    pub(crate) fn write(&self, at: usize, buf: &[u8]) -> io::Result<usize> {
        let address = self.address_of(&(at..at + buf.len())).cast::<u8>();
        let mut done = 0;
        while done < buf.len() {
            // SAFETY: the range stays reserved while `self` is borrowed (U9). A caller with a
            // reference to it has promised that no thread writes it (U10).
            match unsafe { write_mapped(address.wrapping_add(done), &buf[done..])? } {
                0 => break,
                copied => done += copied,
            }
        }
        Ok(done)
    }

    /// Watches the range for pages without storage, which set `flag` (see [`sigbus::watch`]).
    ///
    /// # Safety
    ///
    /// `flag` stays where it is until the watch is dropped, and the watch is dropped before the
    /// reservation.
    pub(crate) unsafe fn watch(&self, flag: *const AtomicBool) -> Watch {
        // SAFETY: the caller guarantees the flag. The range is reserved until after the watch (U9).
        // If it is remapped in between, a thread that faults there violates U10 and gets a page of
        // zeros inside the range.
        unsafe { sigbus::watch(self.start.as_ptr(), self.bytes, flag) }
    }

    /// Returns the address of a range.
    ///
    /// # Panics
    ///
    /// Panics if the range exceeds the reservation.
    fn address_of(&self, range: &Range<usize>) -> *mut c_void {
        assert!(
            range.start <= range.end && range.end <= self.bytes,
            "{range:?} exceeds {} reserved bytes",
            self.bytes
        );
        self.start.as_ptr().wrapping_add(range.start).cast()
    }
}

impl Drop for AddressReservation {
    fn drop(&mut self) {
        // With too many mappings the call fails, and the addresses stay in use.
        // SAFETY: the range is reserved, and no borrow of it is left (U9).
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn unmapped_addresses_cannot_be_read_or_written() {
        let memory = AddressReservation::new(4 * page_bytes(), None).expect("addresses");
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
    fn fixed_address_must_be_free() {
        let memory = AddressReservation::new(16 * page_bytes(), None).expect("addresses");
        let address = memory.start().addr().get();
        let refused = AddressReservation::new(page_bytes(), Some(address + 4 * page_bytes()));
        assert_eq!(
            refused.map(|_| ()).map_err(|error| error.kind()),
            Err(io::ErrorKind::AlreadyExists)
        );
        // Far from the addresses that the kernel chooses for other threads.
        let address = 0x1234_5600_0000;
        let memory = AddressReservation::new(page_bytes(), Some(address)).expect("addresses");
        assert_eq!(memory.start().addr().get(), address);
    }

    #[test]
    #[should_panic(expected = "exceeds")]
    fn mapping_outside_panics() {
        let memory = AddressReservation::new(4 * page_bytes(), None).expect("addresses");
        drop(memory.map_zeros(0..5 * page_bytes(), true));
    }
}
