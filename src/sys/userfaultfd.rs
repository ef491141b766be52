//! Write tracking by userfaultfd, without a thread that handles faults.
//! See [`userfaultfd(2)`](https://man7.org/linux/man-pages/man2/userfaultfd.2.html) and
//! [`ioctl_userfaultfd(2)`](https://man7.org/linux/man-pages/man2/UFFDIO_API.2const.html).
//!
//! Only write protection in its asynchronous form is used: the kernel lifts the protection of a page at its first
//! store and notes that. No fault is ever reported, no thread ever waits, and no content changes.
//!
//! # Safety
//!
//! The structs below are those of `linux/userfaultfd.h`, with their sizes asserted, and the numbers of the calls are
//! made from those sizes. Ranges come from a [`Reservation`], which owns them.
#![expect(unsafe_code, reason = "userfaultfd and its ioctls")]

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::{UserfaultfdFlags, userfaultfd};

use super::address_space::Reservation;

/// Faults of this process's own instructions only: all that ordinary users may have (Linux 5.11). Stores that the
/// kernel does for us are noted all the same, since nobody has to be asked.
const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);

const API: u64 = 0xAA;
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const FEATURES: u64 = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED | FEATURE_WP_HUGETLBFS_SHMEM;
/// Of registering: nothing but write protection, so that every kind of mapping is taken.
const REGISTER_MODE_WP: u64 = 1 << 1;
/// Of write-protecting: to protect, not to lift it.
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct UffdioRange {
    start: u64,
    len: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct UffdioRegister {
    range: UffdioRange,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct UffdioWriteprotect {
    range: UffdioRange,
    mode: u64,
}

const _: () = assert!(size_of::<UffdioApi>() == 24);
const _: () = assert!(size_of::<UffdioRange>() == 16);
const _: () = assert!(size_of::<UffdioRegister>() == 32);
const _: () = assert!(size_of::<UffdioWriteprotect>() == 24);

const UFFDIO_API: Opcode = opcode::read_write::<UffdioApi>(0xAA, 0x3F);
const UFFDIO_REGISTER: Opcode = opcode::read_write::<UffdioRegister>(0xAA, 0x00);
const UFFDIO_UNREGISTER: Opcode = opcode::read::<UffdioRange>(0xAA, 0x01);
const UFFDIO_WRITEPROTECT: Opcode = opcode::read_write::<UffdioWriteprotect>(0xAA, 0x06);

/// Ranges whose pages are write-protected until their next store. Closing it ends the tracking of all of them, silently.
#[derive(Debug)]
pub(crate) struct WriteTracking(OwnedFd);

impl WriteTracking {
    /// Opens one. `EINVAL`: this kernel cannot do it (it takes Linux 6.7). `ENOSYS`: it has no userfaultfd.
    pub(crate) fn open() -> io::Result<Self> {
        let tracking = Self(open()?);
        let mut api = UffdioApi {
            api: API,
            features: FEATURES,
            ioctls: 0,
        };
        // SAFETY: the struct that this call expects.
        unsafe { tracking.call::<UFFDIO_API, _>(&mut api)? };
        if api.features & FEATURES != FEATURES {
            return Err(Errno::INVAL.into());
        }
        Ok(tracking)
    }

    /// Takes a range in and write-protects it: from now on its first store to each page is noted.
    pub(crate) fn arm(&self, memory: &Reservation, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let range = addresses(memory, range);
        let mut register = UffdioRegister {
            range,
            mode: REGISTER_MODE_WP,
            ioctls: 0,
        };
        // SAFETY: the struct that this call expects.
        unsafe { self.call::<UFFDIO_REGISTER, _>(&mut register)? };
        let mut protect = UffdioWriteprotect {
            range,
            mode: WRITEPROTECT_MODE_WP,
        };
        // SAFETY: the struct that this call expects.
        unsafe { self.call::<UFFDIO_WRITEPROTECT, _>(&mut protect) }
    }

    /// Ends the tracking of a range and lifts its protection.
    pub(crate) fn disarm(&self, memory: &Reservation, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut range = addresses(memory, range);
        // SAFETY: the struct that this call expects.
        unsafe { self.call::<UFFDIO_UNREGISTER, _>(&mut range) }
    }

    /// The calls say `EAGAIN` while the process forks or maps.
    ///
    /// # Safety
    ///
    /// `T` is the struct that `CALL` expects.
    unsafe fn call<const CALL: Opcode, T>(&self, argument: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: the caller vouches for the type; none of the calls of this file changes the content of memory,
            // or any memory but the struct.
            let done = retry_on_intr(|| unsafe {
                ioctl(&self.0, Updater::<CALL, T>::new(&mut *argument))
            });
            match done {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                done => return Ok(done?),
            }
        }
    }
}

/// Can one be opened, for faults of all kinds (which takes a privilege, or a system that gives it to all), or for those of this
/// process's own instructions only?
pub(crate) fn try_open(user_mode_only: bool) -> io::Result<()> {
    let mut flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    if user_mode_only {
        flags |= USER_MODE_ONLY;
    }
    // SAFETY: it is closed at once.
    unsafe { userfaultfd(flags)? };
    Ok(())
}

fn open() -> io::Result<OwnedFd> {
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    // SAFETY: what is done with it is in this file, and changes no content of memory.
    match unsafe { userfaultfd(flags) } {
        // SAFETY: as above.
        Err(Errno::PERM) => Ok(unsafe { userfaultfd(flags | USER_MODE_ONLY)? }),
        opened => Ok(opened?),
    }
}

fn addresses(memory: &Reservation, range: Range<usize>) -> UffdioRange {
    debug_assert!(range.end <= memory.bytes());
    UffdioRange {
        start: (memory.start().addr().get() + range.start) as u64,
        len: range.len() as u64,
    }
}

/// For unit tests: as [`WriteTracking::open`], or a skip that is seen, unless `FLATSPAN_REQUIRE` names `uffd`.
#[cfg(all(test, not(loom)))]
pub(crate) fn open_or_skip() -> Option<WriteTracking> {
    use std::io::Write as _;
    let error = match WriteTracking::open() {
        Ok(tracking) => return Some(tracking),
        Err(error) => error,
    };
    let is_required = std::env::var("FLATSPAN_REQUIRE").is_ok_and(|list| list.contains("uffd"));
    assert!(!is_required, "FLATSPAN_REQUIRE names uffd, but {error}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    // Past libtest's capture.
    let _best_effort = writeln!(io::stderr(), "SKIPPED {test}: {error} (uffd)");
    None
}
