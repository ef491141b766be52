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

/// Of the calling thread, as `/proc` names a tracer.
pub(crate) fn own_thread_id() -> i32 {
    // SAFETY: without arguments, and it cannot fail.
    unsafe { libc::gettid() }
}

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

/// Takes away a thread that has ended, but not the first of its process, whose status is its parent's. Until then a thread of that process
/// that is in `execve` waits for it, and with it who seizes another one (both hold `cred_guard_mutex`). May be
/// called by any thread of this process. True if it was taken away, or is none of ours.
pub(crate) fn reap(pid: i32, thread: i32) -> bool {
    // That a traced thread stands is told, and taken away, whatever is asked for. So it is looked first; what has ended stays so.
    match wait(thread, libc::WNOWAIT) {
        Ok(Some(found)) if thread != pid && found.has_ended() => wait(thread, 0).is_ok(),
        Ok(_) => false,
        Err(error) => error.raw_os_error() == Some(libc::ECHILD),
    }
}

/// Looks, without taking anything away from others who wait for the same process.
pub(crate) fn state(thread: i32) -> io::Result<State> {
    // Ended ones are left for their parent, which may be another thread of this process, or for `reap`.
    let found = match wait(thread, libc::WNOWAIT) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(State::Gone),
        found => found?,
    };
    Ok(match found {
        None => State::Running,
        Some(found) if found.has_ended() => State::Gone,
        Some(found) if found.status >> 8 == libc::PTRACE_EVENT_STOP => State::Stopped { signal: 0 },
        Some(found) => State::Stopped {
            signal: found.status & 0xFF,
        },
    })
}

/// What is to be told of a thread.
struct Found {
    code: i32,
    status: i32,
}

impl Found {
    fn has_ended(&self) -> bool {
        !matches!(self.code, libc::CLD_TRAPPED | libc::CLD_STOPPED)
    }
}

/// `None` while it runs.
fn wait(thread: i32, flags: i32) -> io::Result<Option<Found>> {
    let id = libc::id_t::try_from(thread);
    let id = id.map_err(|_| io::Error::from_raw_os_error(libc::ECHILD))?;
    let flags = flags | libc::WSTOPPED | libc::WEXITED | libc::WNOHANG | libc::__WALL;
    // SAFETY: a struct of numbers, for which zeros are valid.
    let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `found` is such a struct, borrowed for the call.
    if unsafe { libc::waitid(libc::P_PID, id, &raw mut found, flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid has filled the fields for a child, or left zeros.
    let (pid, status) = unsafe { (found.si_pid(), found.si_status()) };
    let code = found.si_code;
    Ok((pid != 0).then_some(Found { code, status }))
}

fn request(request: libc::c_uint, thread: i32, data: i32) -> io::Result<()> {
    let data = ptr::without_provenance_mut::<libc::c_void>(data as usize);
    // SAFETY: the requests of this file take no address (module documentation).
    match unsafe { libc::ptrace(request, thread, ptr::null_mut::<libc::c_void>(), data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
