//! Kernel copies from and to mapped memory of this process.
//!
//! A load or store of a page without storage (the file was truncated, the disk is full) raises
//! SIGBUS. The same copy by a system call is short or fails with `EFAULT`. The safe API therefore
//! copies with
//! [`process_vm_readv(2)`](https://man7.org/linux/man-pages/man2/process_vm_readv.2.html) on this
//! process. No reference is made to memory that other processes may write.
//!
//! # Safety
//!
//! All functions pass raw addresses to the kernel. The caller proves that each range is inside a
//! mapping that stays mapped during the call, and that no Rust reference conflicts with the copy
//! (docs/unsafe.md, U1).
#![expect(
    unsafe_code,
    reason = "rustix does not wrap process_vm_readv and _writev"
)]

use std::io;
use std::ptr;

use libc::{c_void, iovec};

/// Copies from mapped memory into `buf`, and one byte from `probe` if it is given.
///
/// Returns the number of copied bytes, including the probed one. Fewer than requested means that a
/// page is bad.
///
/// # Safety
///
/// `source..source + buf.len()` and `probe` are inside a mapping that outlives the call, and no
/// `&mut` covers them.
pub(crate) unsafe fn read_mapped(
    source: *const u8,
    buf: &mut [u8],
    probe: Option<*const u8>,
) -> io::Result<usize> {
    let mut probed = 0u8;
    let local = [
        part(buf.as_mut_ptr(), buf.len()),
        part(ptr::from_mut(&mut probed), 1),
    ];
    let remote = [
        part(source.cast_mut(), buf.len()),
        part(probe.unwrap_or(ptr::null()).cast_mut(), 1),
    ];
    let parts = if probe.is_some() { 2 } else { 1 };
    // SAFETY: `local` names memory that is borrowed exclusively. `remote` is only read, and the
    // caller guarantees it. The kernel checks every address and returns EFAULT instead of faulting.
    let copied = unsafe {
        libc::process_vm_readv(own_pid(), local.as_ptr(), parts, remote.as_ptr(), parts, 0)
    };
    count(copied)
}

/// Maximum number of parts in one call (`IOV_MAX`).
pub(crate) const PARTS_MAX: usize = 1024;

/// Copies up to [`PARTS_MAX`] parts of mapped memory into `buf`, one after the other.
///
/// Returns the number of copied bytes. Fewer than requested means that a page is bad.
///
/// # Safety
///
/// Each `(start, bytes)` is inside a mapping that outlives the call, and no `&mut` covers it.
pub(crate) unsafe fn gather_mapped(
    sources: impl Iterator<Item = (*const u8, usize)>,
    buf: &mut [u8],
) -> io::Result<usize> {
    let local = part(buf.as_mut_ptr(), buf.len());
    let remote: Vec<_> = sources
        .map(|(start, bytes)| part(start.cast_mut(), bytes))
        .collect();
    // SAFETY: `local` names memory that is borrowed exclusively and receives at most `buf.len()`
    // bytes. `remote` is only read, and the caller guarantees it. The kernel checks every address,
    // and the number of parts.
    let copied = unsafe {
        libc::process_vm_readv(
            own_pid(),
            &raw const local,
            1,
            remote.as_ptr(),
            remote.len() as libc::c_ulong,
            0,
        )
    };
    count(copied)
}

/// Copies `buf` into mapped memory. Returns the number of copied bytes.
///
/// # Safety
///
/// `target..target + buf.len()` is inside a writable mapping that outlives the call, and no Rust
/// reference covers it.
pub(crate) unsafe fn write_mapped(target: *mut u8, buf: &[u8]) -> io::Result<usize> {
    let local = [part(buf.as_ptr().cast_mut(), buf.len())];
    let remote = [part(target, buf.len())];
    // SAFETY: `local` is borrowed for the call and only read. The caller guarantees `remote`.
    let copied =
        unsafe { libc::process_vm_writev(own_pid(), local.as_ptr(), 1, remote.as_ptr(), 1, 0) };
    count(copied)
}

fn own_pid() -> libc::pid_t {
    std::process::id().cast_signed()
}

fn part(base: *mut u8, len: usize) -> iovec {
    iovec {
        iov_base: base.cast::<c_void>(),
        iov_len: len,
    }
}

/// Number of copied bytes. `EFAULT` means that the first page is bad, so 0 bytes were copied.
fn count(copied: isize) -> io::Result<usize> {
    match usize::try_from(copied) {
        Ok(copied) => Ok(copied),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EFAULT) => Ok(0),
            error => Err(error),
        },
    }
}
