//! Page tables of this process.
//!
//! See [`PAGEMAP_SCAN(2const)`](https://man7.org/linux/man-pages/man2/PAGEMAP_SCAN.2const.html)
//! (Linux 6.7).
//!
//! # Safety
//!
//! The structs are those of `linux/fs.h`. Their sizes are asserted, and the ioctl number contains
//! the size. The kernel writes only to the given array, which is borrowed for the call.
#![expect(unsafe_code, reason = "an ioctl")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::io::retry_on_intr;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

use super::address_space::AddressReservation;

const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// Write-protects the pages that were found written.
const PM_SCAN_WP_MATCHING: u64 = 1 << 0;
/// Fails if writes are not tracked, instead of finding nothing [I14].
const PM_SCAN_CHECK_WPASYNC: u64 = 1 << 1;

/// A run of matching pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<PageRegion>() == 24);
const _: () = assert!(size_of::<PmScanArg>() == 96);

/// Pages to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// Pages that were written since they were write-protected.
    ///
    /// Each page is found and protected again in one atomic step. Pages that an error leaves
    /// unreported are lost. Fails with `EPERM` if writes are not tracked.
    TakeWritten,
    /// Anonymous pages in memory or swap. In a private mapping of a file, the pages that were
    /// written.
    Private,
}

impl Query {
    fn arguments(self) -> PmScanArg {
        let base = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            ..PmScanArg::default()
        };
        match self {
            Self::TakeWritten => PmScanArg {
                flags: PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
                category_mask: PAGE_IS_WRITTEN,
                return_mask: PAGE_IS_WRITTEN,
                ..base
            },
            Self::Private => PmScanArg {
                category_inverted: PAGE_IS_FILE,
                category_mask: PAGE_IS_FILE,
                category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                ..base
            },
        }
    }
}

/// Page tables of the process that opened this. A child that inherits it sees those of its parent.
#[derive(Debug)]
pub(crate) struct Pagemap(File);

impl Pagemap {
    /// Opens `/proc/self/pagemap`. Fails with `EACCES` in a process that changed its user without
    /// an exec.
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// Calls `found` with each run of matching pages, as offsets in `memory`. `runs` is a buffer.
    ///
    /// On error the runs found so far were passed to `found`.
    pub(crate) fn scan(
        &self,
        query: Query,
        memory: &AddressReservation,
        range: Range<usize>,
        runs: &mut [PageRegion],
        mut found: impl FnMut(Range<usize>),
    ) -> io::Result<()> {
        debug_assert!(range.end <= memory.bytes());
        let base = memory.start().addr().get() as u64;
        let end = base + range.end as u64;
        let mut start = base + range.start as u64;
        while start < end {
            let mut scan = Scan {
                argument: PmScanArg {
                    start,
                    end,
                    ..query.arguments()
                },
                runs,
            };
            scan.argument.vec = scan.runs.as_mut_ptr().expose_provenance() as u64;
            scan.argument.vec_len = scan.runs.len() as u64;
            // SAFETY: `Scan` describes the call, which writes only to the struct and the array.
            let (count, walk_end) = retry_on_intr(|| unsafe { ioctl(&self.0, scan.reborrow()) })?;
            for run in &runs[..count] {
                // Lossless: offsets in reserved memory.
                found((run.start - base) as usize..(run.end - base) as usize);
            }
            start = walk_end;
        }
        Ok(())
    }
}

struct Scan<'a> {
    argument: PmScanArg,
    runs: &'a mut [PageRegion],
}

impl Scan<'_> {
    fn reborrow(&mut self) -> Scan<'_> {
        Scan {
            argument: self.argument,
            runs: self.runs,
        }
    }
}

// SAFETY: PAGEMAP_SCAN takes a `pm_scan_arg` that states its own size. It writes to the struct and
// to the array it names, which is borrowed exclusively, and returns the number of filled entries.
unsafe impl Ioctl for Scan<'_> {
    /// Number of filled entries, and the address at which the scan ended.
    type Output = (usize, u64);

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        const { opcode::read_write::<PmScanArg>(b'f', 16) }
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.argument).cast()
    }

    unsafe fn output_from_ptr(
        out: IoctlOutput,
        extract_output: *mut c_void,
    ) -> rustix::io::Result<Self::Output> {
        // SAFETY: the pointer that `as_ptr` returned.
        let walk_end = unsafe { (*extract_output.cast::<PmScanArg>()).walk_end };
        Ok((usize::try_from(out).unwrap_or(0), walk_end))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::rlimits::page_bytes;
    use crate::sys::userfaultfd::open_or_skip;

    const PAGES: usize = 64;

    fn memory() -> AddressReservation {
        let memory = AddressReservation::new(PAGES * page_bytes(), None).expect("addresses");
        memory
            .map_zeros(0..memory.bytes(), true)
            .expect("some memory");
        memory
    }

    fn written(
        memory: &AddressReservation,
        runs: &mut [PageRegion],
    ) -> io::Result<Vec<Range<usize>>> {
        let mut found = Vec::new();
        let pagemap = Pagemap::open()?;
        let all = 0..memory.bytes();
        pagemap.scan(Query::TakeWritten, memory, all, runs, |run| found.push(run))?;
        Ok(found)
    }

    #[test]
    fn written_pages_are_found_once_with_a_short_array() {
        let Some(tracking) = open_or_skip() else {
            return;
        };
        let memory = memory();
        tracking.arm(&memory, 0..memory.bytes()).expect("armed");
        let mut runs = [PageRegion::default(); 2];
        for page in (0..PAGES).step_by(2) {
            memory.write(page * page_bytes(), b"x").expect("a page");
        }
        let mut buf = vec![0; memory.bytes()];
        memory.read(0, &mut buf).expect("reads are not writes");
        let found = written(&memory, &mut runs).expect("a scan");
        assert_eq!(found.len(), PAGES / 2);
        assert!(found.iter().all(|run| run.len() == page_bytes()));
        assert!(written(&memory, &mut runs).expect("a scan").is_empty());
    }

    #[test]
    fn i14_untracked_memory_is_an_error() {
        let Some(tracking) = open_or_skip() else {
            return;
        };
        let memory = memory();
        let mut runs = [PageRegion::default(); 8];
        let refused = |result: io::Result<_>| {
            let error = result
                .map(|_: Vec<Range<usize>>| ())
                .expect_err("untracked");
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        };
        refused(written(&memory, &mut runs));
        let half = memory.bytes() / 2;
        tracking.arm(&memory, 0..half).expect("armed");
        refused(written(&memory, &mut runs));
        tracking.arm(&memory, half..2 * half).expect("armed");
        assert!(written(&memory, &mut runs).expect("a scan").is_empty());
        tracking.disarm(&memory, half..2 * half).expect("disarmed");
        refused(written(&memory, &mut runs));
        drop(tracking);
        refused(written(&memory, &mut runs));
    }

    #[test]
    fn i14_a_forked_child_tracks_no_writes() {
        let Some(tracking) = open_or_skip() else {
            return;
        };
        let memory = memory();
        tracking.arm(&memory, 0..memory.bytes()).expect("armed");
        let mut runs = [PageRegion::default(); 8];
        // SAFETY: the child only makes system calls, allocates nothing, and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let all = 0..memory.bytes();
            let scan = |pagemap: Pagemap| {
                pagemap.scan(Query::TakeWritten, &memory, all, &mut runs, |_| ())
            };
            let error = Pagemap::open().and_then(scan).err();
            let code = error.and_then(|error| error.raw_os_error()).unwrap_or(0);
            // SAFETY: `_exit` ends only the child.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: the child exists, and `status` is borrowed for the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status));
        assert_eq!(libc::WEXITSTATUS(status), libc::EPERM);
    }
}
