//! Stopping threads of other processes.
//!
//! The kernel identifies a tracer by its thread, so the thread that seized must call these
//! functions. When it exits for any reason, all its traced threads continue.
//!
//! See [`ptrace(2)`](https://man7.org/linux/man-pages/man2/ptrace.2.html),
//! [`waitid(2)`](https://man7.org/linux/man-pages/man2/waitid.2.html) and
//! [`gettid(2)`](https://man7.org/linux/man-pages/man2/gettid.2.html).
//!
//! # Safety
//!
//! The requests used here take no address of this process and change no memory of the traced
//! thread. They only stop and resume it.
#![expect(unsafe_code, reason = "ptrace and waitid with __WALL")]

use std::io;
use std::ptr;

/// Returns the id of the calling thread, as `TracerPid` in `/proc` states it.
pub(crate) fn own_thread_id() -> i32 {
    // SAFETY: gettid takes no arguments and cannot fail.
    unsafe { libc::gettid() }
}

/// Starts tracing a thread, which continues to run and receives its signals.
pub(crate) fn seize(thread: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, thread, 0)
}

/// Requests that a traced thread stops.
pub(crate) fn interrupt(thread: i32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, thread, 0)
}

/// Stops tracing a stopped thread, which continues. `signal` is the signal that it was about to
/// receive, 0 for none.
pub(crate) fn detach(thread: i32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_DETACH, thread, signal)
}

/// State of a traced thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// It is stopped and receives this signal when it continues, 0 for none.
    Stopped {
        signal: i32,
    },
    /// It has exited or is no longer traced.
    Gone,
}

/// Reaps an exited thread, except for the first thread of a process, whose status belongs to its
/// parent. Returns `true` if it was reaped or is not traced by this process.
///
/// Until then a thread of that process that is in `execve` waits for it, and so does a thread that
/// seizes another one (both hold `cred_guard_mutex`). Any thread of this process may reap.
pub(crate) fn reap(pid: i32, thread: i32) -> bool {
    // waitid would also consume a stop of the thread. WNOWAIT checks first that it has exited,
    // which cannot change afterwards.
    match wait(thread, libc::WNOWAIT) {
        Ok(Some(found)) if thread != pid && found.has_exited() => wait(thread, 0).is_ok(),
        Ok(_) => false,
        Err(error) => error.raw_os_error() == Some(libc::ECHILD),
    }
}

/// Returns the state, without consuming it: other threads may wait for the same process.
pub(crate) fn state(thread: i32) -> io::Result<State> {
    // An exited thread is left for `reap`, or for its parent, which may be this process.
    let found = match wait(thread, libc::WNOWAIT) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(State::Gone),
        found => found?,
    };
    Ok(match found {
        None => State::Running,
        Some(found) if found.has_exited() => State::Gone,
        Some(found) if found.status >> 8 == libc::PTRACE_EVENT_STOP => State::Stopped { signal: 0 },
        Some(found) => State::Stopped {
            signal: found.status & 0xFF,
        },
    })
}

/// State change that waitid(2) reports.
struct Change {
    code: i32,
    status: i32,
}

impl Change {
    fn has_exited(&self) -> bool {
        !matches!(self.code, libc::CLD_TRAPPED | libc::CLD_STOPPED)
    }
}

/// Returns the next state change, `None` while the thread runs.
fn wait(thread: i32, flags: i32) -> io::Result<Option<Change>> {
    let Ok(id) = libc::id_t::try_from(thread) else {
        return Err(io::Error::from_raw_os_error(libc::ECHILD));
    };
    let flags = flags | libc::WSTOPPED | libc::WEXITED | libc::WNOHANG | libc::__WALL;
    // SAFETY: zeros are a valid `siginfo_t`.
    let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `found` is borrowed for the call.
    if unsafe { libc::waitid(libc::P_PID, id, &raw mut found, flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid has filled the fields of a child, or left zeros.
    let pid = unsafe { found.si_pid() };
    // SAFETY: as above.
    let status = unsafe { found.si_status() };
    let code = found.si_code;
    Ok((pid != 0).then_some(Change { code, status }))
}

fn request(request: libc::c_uint, thread: i32, data: i32) -> io::Result<()> {
    let data = ptr::without_provenance_mut::<libc::c_void>(data as usize);
    // SAFETY: the requests of this file take no address (module documentation).
    match unsafe { libc::ptrace(request, thread, ptr::null_mut::<libc::c_void>(), data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
