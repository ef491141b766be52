//! Descriptors that a parent left open for this program, known by number only.
//!
//! # Safety
//!
//! A number becomes an [`OwnedFd`] here, which is right when nobody else in this process owns it. [`take`] sees to that:
//!
//! 1. It gives out descriptors once in the life of a process (`TAKEN`), so never one twice.
//! 2. It refuses what would be closed by an exec. A descriptor that came through the exec of this program is not of that
//!    kind, as it would not be here; what the standard library and this crate open is, from the very call that opens it. What
//!    remains are descriptors that foreign code opened without `O_CLOEXEC`; who announces their numbers to a process lies
//!    about what it has left there, and the caller takes it at its word, as `sd_listen_fds(3)` does.
#![expect(
    unsafe_code,
    reason = "a descriptor that a parent left is only a number"
)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why descriptors were not taken. None was, then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// This number is not open.
    Closed(RawFd),
    /// This one was opened by this process.
    OpenedHere(RawFd),
    /// They were taken before.
    AlreadyTaken,
}

/// Takes `count` descriptors from `first` on, all or none, once in the life of a process. Looking ends at the first that
/// is not there, however many are announced.
pub(crate) fn take(first: RawFd, count: u32) -> Result<Vec<OwnedFd>, Refusal> {
    if count > 0 && TAKEN.load(Ordering::Acquire) {
        return Err(Refusal::AlreadyTaken);
    }
    // Numbers beyond the last possible one are not open.
    let numbers = (0..count).map(|place| first.saturating_add_unsigned(place));
    numbers.clone().try_for_each(look)?;
    if count > 0 && TAKEN.swap(true, Ordering::AcqRel) {
        return Err(Refusal::AlreadyTaken);
    }
    // SAFETY: each was open a moment ago and is of the kind that nobody here owns (2); nobody else takes them (1).
    Ok(numbers
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect())
}

fn look(number: RawFd) -> Result<(), Refusal> {
    match flags(number) {
        Err(_) => Err(Refusal::Closed(number)),
        Ok(flags) if flags & libc::FD_CLOEXEC != 0 => Err(Refusal::OpenedHere(number)),
        Ok(_) => Ok(()),
    }
}

fn flags(number: RawFd) -> io::Result<i32> {
    // SAFETY: asks for the flags of a number, open or not, and changes nothing.
    match unsafe { libc::fcntl(number, libc::F_GETFD) } {
        -1 => Err(io::Error::last_os_error()),
        flags => Ok(flags),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    // Taking itself is once in the life of a process: tests/shm has it in processes of its own.

    #[test]
    fn what_is_closed_or_opened_here_is_refused() {
        let file = File::open("/dev/null").expect("a file");
        let number = file.as_raw_fd();
        assert_eq!(take(number, 1).err(), Some(Refusal::OpenedHere(number)));
        let far = RawFd::MAX - 2;
        assert_eq!(take(far, 1).err(), Some(Refusal::Closed(far)));
        assert_eq!(take(far, u32::MAX).err(), Some(Refusal::Closed(far)));
        assert_eq!(take(far, 0).map(|taken| taken.len()), Ok(0));
    }
}
