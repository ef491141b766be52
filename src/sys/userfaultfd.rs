//! Write tracking by userfaultfd, without a thread that handles faults.
//!
//! Only asynchronous write protection is used: the kernel removes the protection of a page at its
//! first store and records that. It reports no fault, no thread waits, and no content changes.
//!
//! See [`userfaultfd(2)`](https://man7.org/linux/man-pages/man2/userfaultfd.2.html) and
//! [`ioctl_userfaultfd(2)`](https://man7.org/linux/man-pages/man2/ioctl_userfaultfd.2.html).
//!
//! # Safety
//!
//! The structs are those of `linux/userfaultfd.h`. Their sizes are asserted, and each ioctl number
//! contains the size. Ranges are inside a [`AddressReservation`], which owns them.
#![expect(unsafe_code, reason = "userfaultfd and its ioctls")]

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::{UserfaultfdFlags, userfaultfd};

use super::address_space::AddressReservation;

/// Only faults of user-mode instructions, which needs no privilege (Linux 5.11). Asynchronous write
/// protection also records stores by the kernel, since it reports no fault.
const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);

const API: u64 = 0xAA;
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const FEATURES: u64 = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED | FEATURE_WP_HUGETLBFS_SHMEM;
/// Registers for write protection only, which every kind of mapping supports.
const REGISTER_MODE_WP: u64 = 1 << 1;
/// Adds the protection instead of removing it.
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

/// Ranges whose pages are write-protected until their next store.
///
/// Dropping it ends the tracking of all ranges without an error.
#[derive(Debug)]
pub(crate) struct WriteTracking(OwnedFd);

impl WriteTracking {
    /// Opens a userfaultfd. Fails with `EINVAL` before Linux 6.7, and with `ENOSYS` if the kernel
    /// has no userfaultfd.
    pub(crate) fn open() -> io::Result<Self> {
        let tracking = Self(open()?);
        let mut api = UffdioApi {
            api: API,
            features: FEATURES,
            ioctls: 0,
        };
        // SAFETY: the call expects this struct.
        unsafe { tracking.call::<UFFDIO_API, _>(&mut api)? };
        if api.features & FEATURES != FEATURES {
            return Err(Errno::INVAL.into());
        }
        Ok(tracking)
    }

    /// Registers and write-protects a range. The first store to each page is recorded afterwards.
    pub(crate) fn arm(&self, memory: &AddressReservation, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let range = addresses(memory, range);
        let mut register = UffdioRegister {
            range,
            mode: REGISTER_MODE_WP,
            ioctls: 0,
        };
        // SAFETY: the call expects this struct.
        unsafe { self.call::<UFFDIO_REGISTER, _>(&mut register)? };
        let mut protect = UffdioWriteprotect {
            range,
            mode: WRITEPROTECT_MODE_WP,
        };
        // SAFETY: the call expects this struct.
        unsafe { self.call::<UFFDIO_WRITEPROTECT, _>(&mut protect) }
    }

    /// Unregisters a range and removes its protection.
    pub(crate) fn disarm(
        &self,
        memory: &AddressReservation,
        range: Range<usize>,
    ) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut range = addresses(memory, range);
        // SAFETY: the call expects this struct.
        unsafe { self.call::<UFFDIO_UNREGISTER, _>(&mut range) }
    }

    /// Makes an ioctl call. Retries `EAGAIN`, which it returns while the process forks or maps
    /// memory.
    ///
    /// # Safety
    ///
    /// `T` is the struct that `CALL` expects.
    unsafe fn call<const CALL: Opcode, T>(&self, argument: &mut T) -> io::Result<()> {
        loop {
            let done = retry_on_intr(|| {
                // SAFETY: the caller guarantees the type of the argument.
                let call = unsafe { Updater::<CALL, T>::new(&mut *argument) };
                // SAFETY: the calls of this file write only to their argument.
                unsafe { ioctl(&self.0, call) }
            });
            match done {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                done => return Ok(done?),
            }
        }
    }
}

/// Tries to open a userfaultfd: for all faults, which needs a privilege or a permissive system, or
/// for user-mode faults only.
pub(crate) fn try_open(user_mode_only: bool) -> io::Result<()> {
    let mut flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    if user_mode_only {
        flags |= USER_MODE_ONLY;
    }
    // SAFETY: the descriptor is closed immediately.
    unsafe { userfaultfd(flags)? };
    Ok(())
}

fn open() -> io::Result<OwnedFd> {
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    // SAFETY: the calls of this file change no content of memory.
    match unsafe { userfaultfd(flags) } {
        // SAFETY: as above.
        Err(Errno::PERM) => Ok(unsafe { userfaultfd(flags | USER_MODE_ONLY)? }),
        opened => Ok(opened?),
    }
}

fn addresses(memory: &AddressReservation, range: Range<usize>) -> UffdioRange {
    debug_assert!(range.end <= memory.bytes());
    UffdioRange {
        start: (memory.start().addr().get() + range.start) as u64,
        len: range.len() as u64,
    }
}

/// For unit tests: [`WriteTracking::open`], or a visible skip unless `FLATSPAN_REQUIRE` names
/// `uffd`.
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
    // Bypasses the output capture of libtest.
    drop(writeln!(io::stderr(), "SKIPPED {test}: {error} (uffd)"));
    None
}
