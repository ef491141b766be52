//! Copies into and out of mapped files, done by the kernel.
//!
//! A load or store of a page that has no storage behind it (the file was cut, the disk is full)
//! raises SIGBUS; the same copy done by a system call comes back short or with `EFAULT`. So the safe
//! doors copy with [`process_vm_readv(2)`](https://man7.org/linux/man-pages/man2/process_vm_readv.2.html)
//! on ourselves: no reference to memory that others may write is ever made, and no signal is raised.
//!
//! # Safety
//!
//! Both functions hand raw addresses to the kernel. The caller proves that the range lies in a
//! mapping that stays mapped for the call, and that no Rust reference covers it (docs/unsafe.md, U1).
#![expect(
    unsafe_code,
    reason = "rustix does not wrap process_vm_readv and _writev"
)]

use std::io;
use std::ptr;

use libc::{c_void, iovec};

/// Copies from mapped memory into `buf`, and one byte from `probe` if it is given. Returns how many
/// bytes arrived, the probed one included: fewer than asked means that a page was bad.
///
/// # Safety
///
/// `source..source + buf.len()` and `probe` lie in a mapping that outlives the call, and no `&mut`
/// covers them.
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
    // SAFETY: `local` names memory we borrow exclusively; `remote` is only read, and the caller
    // vouches for it. The kernel checks every address and answers EFAULT instead of faulting.
    let copied = unsafe {
        libc::process_vm_readv(
            libc::getpid(),
            local.as_ptr(),
            parts,
            remote.as_ptr(),
            parts,
            0,
        )
    };
    count(copied)
}

/// So many parts the kernel takes in one call (`IOV_MAX`).
pub(crate) const PARTS_MAX: usize = 1024;

/// Copies parts of mapped memory, no more than [`PARTS_MAX`], one behind the other into `buf`. Returns how many bytes
/// arrived: fewer than asked means that a page was bad.
///
/// # Safety
///
/// Each `(start, bytes)` lies in a mapping that outlives the call, and no `&mut` covers it.
pub(crate) unsafe fn gather_mapped(
    sources: impl Iterator<Item = (*const u8, usize)>,
    buf: &mut [u8],
) -> io::Result<usize> {
    let local = part(buf.as_mut_ptr(), buf.len());
    let remote: Vec<_> = sources
        .map(|(start, bytes)| part(start.cast_mut(), bytes))
        .collect();
    // SAFETY: `local` names memory we borrow exclusively, and no more than `buf.len()` bytes go there; `remote` is only
    // read, and the caller vouches for it. The kernel checks every address, and the number of parts.
    let copied = unsafe {
        libc::process_vm_readv(
            libc::getpid(),
            &raw const local,
            1,
            remote.as_ptr(),
            remote.len() as libc::c_ulong,
            0,
        )
    };
    count(copied)
}

/// Copies `buf` into mapped memory. Returns how many bytes arrived.
///
/// # Safety
///
/// `target..target + buf.len()` lies in a writable mapping that outlives the call, and no Rust
/// reference covers it.
pub(crate) unsafe fn write_mapped(target: *mut u8, buf: &[u8]) -> io::Result<usize> {
    let local = [part(buf.as_ptr().cast_mut(), buf.len())];
    let remote = [part(target, buf.len())];
    // SAFETY: `local` is only read and borrowed for the call; the caller vouches for `remote`.
    let copied = unsafe {
        libc::process_vm_writev(libc::getpid(), local.as_ptr(), 1, remote.as_ptr(), 1, 0)
    };
    count(copied)
}

fn part(base: *mut u8, len: usize) -> iovec {
    iovec {
        iov_base: base.cast::<c_void>(),
        iov_len: len,
    }
}

/// A bad page at the very start is `EFAULT`: nothing arrived, which is what the caller must know.
fn count(copied: isize) -> io::Result<usize> {
    match usize::try_from(copied) {
        Ok(copied) => Ok(copied),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EFAULT) => Ok(0),
            error => Err(error),
        },
    }
}
