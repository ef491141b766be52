//! What the page tables of this process say of a range.
//! See [`PAGEMAP_SCAN`](https://man7.org/linux/man-pages/man2/PAGEMAP_SCAN.2const.html) (Linux 6.7).
//!
//! # Safety
//!
//! The structs below are those of `linux/fs.h`, with their sizes asserted, and the number of the call is made from
//! those sizes. The kernel writes to the array it is given, which is borrowed for the call, and nowhere else.
#![expect(unsafe_code, reason = "an ioctl")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::io::retry_on_intr;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

use super::address_space::Reservation;

const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// Protect again what was found written.
const PM_SCAN_WP_MATCHING: u64 = 1 << 0;
/// Fail where writes are not tracked, instead of finding nothing there (hazard 14).
const PM_SCAN_CHECK_WPASYNC: u64 = 1 << 1;

/// A run of pages that the kernel found.
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

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// Pages written since they were write-protected; they are protected again, each in one step with being found.
    /// `EPERM` where writes are not tracked. What an error leaves unreported is lost.
    TakeWritten,
    /// Pages of the process's own: in memory or swap, and not those of a file. In a private mapping of a file, the
    /// pages that were stored to.
    Private,
}

impl Query {
    fn arguments(self) -> PmScanArg {
        let any = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            ..PmScanArg::default()
        };
        match self {
            Self::TakeWritten => PmScanArg {
                flags: PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
                category_mask: PAGE_IS_WRITTEN,
                return_mask: PAGE_IS_WRITTEN,
                ..any
            },
            Self::Private => PmScanArg {
                category_inverted: PAGE_IS_FILE,
                category_mask: PAGE_IS_FILE,
                category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                ..any
            },
        }
    }
}

/// The page tables of the process that opened this, also where a child inherits it.
#[derive(Debug)]
pub(crate) struct Pagemap(File);

impl Pagemap {
    /// Opens it. `EACCES` in a process that changed its user without an exec.
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// Gives each run of pages that the query finds to `found`, as offsets in `memory`, through the array `runs`.
    /// Those found before an error were given.
    pub(crate) fn scan(
        &self,
        query: Query,
        memory: &Reservation,
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
            // SAFETY: `Scan` says what this call is; it changes no content of memory but the struct and the array.
            let (count, walk_end) = retry_on_intr(|| unsafe { ioctl(&self.0, scan.again()) })?;
            for run in &runs[..count] {
                // Lossless: offsets in memory that is reserved.
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
    fn again(&mut self) -> Scan<'_> {
        Scan {
            argument: self.argument,
            runs: self.runs,
        }
    }
}

// SAFETY: PAGEMAP_SCAN takes a `pm_scan_arg` of the size it names, writes to it and to the array it names, which is
// borrowed exclusively, and returns how many entries it filled.
unsafe impl Ioctl for Scan<'_> {
    /// Entries filled, and the address up to which pages were looked at.
    type Output = (usize, u64);

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        const { opcode::read_write::<PmScanArg>(b'f', 16) }
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.argument).cast()
    }

    unsafe fn output_from_ptr(
        filled: IoctlOutput,
        argument: *mut c_void,
    ) -> rustix::io::Result<Self::Output> {
        // SAFETY: the pointer that `as_ptr` gave.
        let walk_end = unsafe { (*argument.cast::<PmScanArg>()).walk_end };
        Ok((usize::try_from(filled).unwrap_or(0), walk_end))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::rlimits::page_bytes;
    use crate::sys::userfaultfd::open_or_skip;

    const PAGES: usize = 64;

    fn memory() -> Reservation {
        let memory = Reservation::new(PAGES * page_bytes(), None).expect("addresses");
        memory
            .map_zeros(0..memory.bytes(), true)
            .expect("some memory");
        memory
    }

    fn written(memory: &Reservation, runs: &mut [PageRegion]) -> io::Result<Vec<Range<usize>>> {
        let mut found = Vec::new();
        let pagemap = Pagemap::open()?;
        let all = 0..memory.bytes();
        pagemap.scan(Query::TakeWritten, memory, all, runs, |run| found.push(run))?;
        Ok(found)
    }

    #[test]
    fn what_is_written_is_found_once_also_when_the_array_is_short() {
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
        memory.read(0, &mut buf).expect("reads do not count");
        let found = written(&memory, &mut runs).expect("a scan");
        assert_eq!(found.len(), PAGES / 2);
        assert!(found.iter().all(|run| run.len() == page_bytes()));
        assert_eq!(written(&memory, &mut runs).expect("a scan"), []);
    }

    #[test]
    fn h14_untracked_memory_is_an_error_and_not_unwritten() {
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
        assert_eq!(written(&memory, &mut runs).expect("a scan"), []);
        tracking.disarm(&memory, half..2 * half).expect("disarmed");
        refused(written(&memory, &mut runs));
        drop(tracking);
        refused(written(&memory, &mut runs));
    }

    #[test]
    fn a_child_after_a_fork_tracks_nothing() {
        let Some(tracking) = open_or_skip() else {
            return;
        };
        let memory = memory();
        tracking.arm(&memory, 0..memory.bytes()).expect("armed");
        let mut runs = [PageRegion::default(); 8];
        // SAFETY: the child makes system calls, allocates nothing, and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let all = 0..memory.bytes();
            let scan = |pagemap: Pagemap| {
                pagemap.scan(Query::TakeWritten, &memory, all, &mut runs, |_| ())
            };
            let error = Pagemap::open().and_then(scan).err();
            let code = error.and_then(|error| error.raw_os_error()).unwrap_or(0);
            // SAFETY: ends the child, and nothing of its parent.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: a child of ours, and a status of our own.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status));
        assert_eq!(libc::WEXITSTATUS(status), libc::EPERM);
    }
}
