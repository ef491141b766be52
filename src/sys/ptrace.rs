//! Stopping threads of other processes. See [`ptrace(2)`](https://man7.org/linux/man-pages/man2/ptrace.2.html).
//!
//! Everything here must be called by the thread that seized: the kernel knows a tracer as a thread. When that thread ends,
//! however it does, all that it has seized goes on.
//!
//! # Safety
//!
//! The requests used take no address of ours, and change no memory of the traced thread: they stop it and let it go on.
#![expect(unsafe_code, reason = "ptrace and waitid with __WALL")]

use std::io;
use std::ptr;

/// Begins to trace a thread, which runs on, and whose end and whose signals are not changed by that.
pub(crate) fn seize(thread: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, thread, 0)
}

/// Has it stop soon.
pub(crate) fn interrupt(thread: i32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, thread, 0)
}

/// Ends tracing a thread that stands; it goes on, and gets the signal that it was stopped on the way to, or none (0).
pub(crate) fn detach(thread: i32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_DETACH, thread, signal)
}

/// What has become of a traced thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// It stands, on the way to this signal or (0) at no signal.
    Stopped {
        signal: i32,
    },
    /// It is not traced any more, or has ended.
    Gone,
}

/// Looks, without taking anything away from others who wait for the same process.
pub(crate) fn state(thread: i32) -> io::Result<State> {
    let Ok(id) = libc::id_t::try_from(thread) else {
        return Ok(State::Gone);
    };
    // Ended ones are left for their parent, which may be another thread of this process (WNOWAIT).
    let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: a struct of numbers, for which zeros are valid.
    let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `found` is such a struct, borrowed for the call.
    if unsafe { libc::waitid(libc::P_PID, id, &raw mut found, flags) } != 0 {
        return match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(State::Gone),
            error => Err(error),
        };
    }
    // SAFETY: waitid has filled the fields for a child, or left zeros.
    let (pid, status) = unsafe { (found.si_pid(), found.si_status()) };
    Ok(match found.si_code {
        _ if pid == 0 => State::Running,
        libc::CLD_TRAPPED | libc::CLD_STOPPED if status >> 8 == libc::PTRACE_EVENT_STOP => {
            State::Stopped { signal: 0 }
        }
        libc::CLD_TRAPPED | libc::CLD_STOPPED => State::Stopped {
            signal: status & 0xFF,
        },
        _ => State::Gone,
    })
}

fn request(request: libc::c_uint, thread: i32, data: i32) -> io::Result<()> {
    let data = ptr::without_provenance_mut::<libc::c_void>(data as usize);
    // SAFETY: the requests of this file take no address (module documentation).
    match unsafe { libc::ptrace(request, thread, ptr::null_mut::<libc::c_void>(), data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
