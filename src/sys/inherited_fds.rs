//! Descriptors that the parent process passed, known by number only.
//!
//! See [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html).
//!
//! # Safety
//!
//! A number becomes an [`OwnedFd`] here, which is sound if no other code of this process owns it.
//! [`take`] ensures that:
//!
//! 1. It returns descriptors once per process (`IS_TAKEN`), so never one twice.
//! 2. It refuses close-on-exec descriptors. A descriptor that came through the exec of this program
//!    is never close-on-exec. Files that the standard library and this crate open are close-on-exec
//!    from the start. Only descriptors that foreign code opened without `O_CLOEXEC` remain. A
//!    parent that announces such numbers breaks the protocol, which this module trusts as
//!    `sd_listen_fds(3)` does.
#![expect(
    unsafe_code,
    reason = "a descriptor that the parent passed is only a number"
)]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Reason why no descriptor was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The number is not open.
    Closed(RawFd),
    /// This process opened the descriptor.
    OpenedHere(RawFd),
    /// The descriptors were taken before.
    AlreadyTaken,
}

/// Takes `count` descriptors from `first` on, all or none, once per process.
///
/// The check ends at the first invalid number, however large `count` is.
pub(crate) fn take(first: RawFd, count: u32) -> Result<Vec<OwnedFd>, Refusal> {
    if count > 0 && IS_TAKEN.load(Ordering::Acquire) {
        return Err(Refusal::AlreadyTaken);
    }
    // Saturated numbers are not open.
    let numbers = (0..count).map(|index| first.saturating_add_unsigned(index));
    numbers.clone().try_for_each(check)?;
    if count > 0 && IS_TAKEN.swap(true, Ordering::AcqRel) {
        return Err(Refusal::AlreadyTaken);
    }
    Ok(numbers
        // SAFETY: the number was open a moment ago, has no owner in this process (2), and is taken
        // only once (1).
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect())
}

fn check(number: RawFd) -> Result<(), Refusal> {
    match flags(number) {
        Err(_) => Err(Refusal::Closed(number)),
        Ok(flags) if flags & libc::FD_CLOEXEC != 0 => Err(Refusal::OpenedHere(number)),
        Ok(_) => Ok(()),
    }
}

fn flags(number: RawFd) -> io::Result<i32> {
    // SAFETY: F_GETFD only reads flags. The number may be closed.
    match unsafe { libc::fcntl(number, libc::F_GETFD) } {
        -1 => Err(io::Error::last_os_error()),
        flags => Ok(flags),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    use super::*;

    // Success is possible once per process, so tests/shm tests it in child processes.

    #[test]
    fn closed_and_own_descriptors_are_refused() {
        let file = File::open("/dev/null").expect("a file");
        let number = file.as_raw_fd();
        assert_eq!(take(number, 1).err(), Some(Refusal::OpenedHere(number)));
        let far = RawFd::MAX - 2;
        assert_eq!(take(far, 1).err(), Some(Refusal::Closed(far)));
        assert_eq!(take(far, u32::MAX).err(), Some(Refusal::Closed(far)));
        assert_eq!(take(far, 0).map(|taken| taken.len()), Ok(0));
    }
}
