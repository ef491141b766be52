//! Identity of a process: process id and start time.
//!
//! See [`proc_pid_stat(5)`](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::sys::fatal_signals::is_ending;
use crate::sys::process_tree::{Stat, of_process, of_thread, threads};

/// Identity of a process.
///
/// Process ids are reused. Until the next boot no other process has the same id and start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ProcessId {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
}

impl ProcessId {
    /// Creates an identity from its parts, as read from a file.
    #[must_use]
    pub fn new(pid: u32, started: u64) -> Self {
        Self {
            pid,
            start_ticks: started,
        }
    }

    /// Returns the identity of the process that has this process id now, `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns an error if `/proc` hides the process, as with the mount option `hidepid` and a
    /// process of another user.
    pub fn lookup(pid: u32) -> io::Result<Option<Self>> {
        let stat = stat(pid)?;
        Ok(stat.map(|stat| Self::new(pid, stat.started)))
    }

    /// Returns whether the process is a child of the calling process.
    ///
    /// The answer is only right if `/proc` is of the PID namespace of the caller.
    ///
    /// # Errors
    ///
    /// The errors of [`lookup`](Self::lookup).
    pub fn is_child(self) -> io::Result<bool> {
        let own = std::process::id().cast_signed();
        let stat = stat(self.pid)?.filter(|stat| stat.started == self.start_ticks);
        Ok(stat.is_some_and(|stat| stat.parent == own))
    }

    /// Returns whether a thread of the process runs or may run. A zombie is not alive.
    ///
    /// # Errors
    ///
    /// The errors of [`lookup`](Self::lookup).
    pub fn is_alive(self) -> io::Result<bool> {
        match stat(self.pid)? {
            Some(stat) if stat.started == self.start_ticks => {}
            _ => return Ok(false),
        }
        // The state of the process is that of its first thread, which may exit before the others.
        let pid = self.pid.cast_signed();
        for thread in threads(pid)? {
            let stat = of_thread(pid, thread)?;
            if stat.is_some_and(|stat| !matches!(stat.state, 'Z' | 'X' | 'x')) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether a thread of the process is exiting or about to be killed.
    ///
    /// After a kill from outside the process may run for another moment.
    ///
    /// # Errors
    ///
    /// The errors of [`lookup`](Self::lookup).
    pub fn is_ending(self) -> io::Result<bool> {
        let pid = self.pid.cast_signed();
        for thread in threads(pid)? {
            if is_ending(pid, thread)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn stat(pid: u32) -> io::Result<Option<Stat>> {
    let Some(known) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let stat = of_process(pid.cast_signed())?;
    match stat {
        None if test_kill_process(known) == Err(Errno::PERM) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("/proc hides process {pid}; mount it without hidepid"),
        )),
        stat => Ok(stat),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn alive_until_exit_and_only_with_the_right_start_time() {
        let mut child = Command::new("sh")
            .args(["-c", "echo; read x"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        out.read_line(&mut String::new()).expect("a line of output");
        let id = ProcessId::lookup(child.id())
            .expect("/proc")
            .expect("a process");
        assert_eq!(id.is_alive().ok(), Some(true));
        let other = ProcessId {
            start_ticks: id.start_ticks + 1,
            ..id
        };
        assert_eq!(other.is_alive().ok(), Some(false));
        drop(child.stdin.take());
        // The shell exits when its input is closed. It stays a zombie until `wait`.
        while id.is_alive().expect("/proc") {
            std::thread::yield_now();
        }
        assert_eq!(ProcessId::lookup(child.id()).expect("/proc"), Some(id));
        child.wait().expect("an exit status");
        assert_eq!(id.is_alive().ok(), Some(false));
    }

    #[test]
    fn unused_process_ids_have_no_identity() {
        for pid in [0, u32::MAX, i32::MAX.cast_unsigned()] {
            assert_eq!(ProcessId::lookup(pid).expect("/proc"), None);
        }
    }
}
