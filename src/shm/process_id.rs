//! Which process it was.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::sys::fatal_signals::is_ending;
use crate::sys::process_tree::{Stat, of_process, of_thread, threads};

/// A process, by its number and by when it was started. Numbers are used again; as long as the system runs, no other process has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it was started, in ticks since the system was: field 22 of `/proc/PID/stat`.
    pub started: u64,
}

impl ProcessId {
    /// Of the process that has this number now; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Where `/proc` does not say, as when it is mounted with `hidepid` and the process is another user's.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let stat = look(pid)?;
        Ok(stat.map(|stat| Self {
            pid,
            started: stat.started,
        }))
    }

    /// Is it a child of the calling process? Where `/proc` is of another PID namespace, numbers mean others there.
    ///
    /// # Errors
    ///
    /// As for [`of`](Self::of).
    pub fn is_child(self) -> io::Result<bool> {
        let own = std::process::id().cast_signed();
        let stat = look(self.pid)?.filter(|stat| stat.started == self.started);
        Ok(stat.is_some_and(|stat| stat.parent == own))
    }

    /// Does a thread of it run, or could? One that has ended and was not waited for is not alive.
    ///
    /// # Errors
    ///
    /// As for [`of`](Self::of).
    pub fn is_alive(self) -> io::Result<bool> {
        match look(self.pid)? {
            Some(stat) if stat.started == self.started => {}
            _ => return Ok(false),
        }
        // The first thread stands for the process, and may end before the others.
        let pid = self.pid.cast_signed();
        for thread in threads(pid)? {
            let stat = of_thread(pid, thread)?;
            if stat.is_some_and(|stat| !matches!(stat.state, 'Z' | 'X' | 'x')) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Is it about to die, or is a thread of it? Killed from outside, a process that is alive may run for another moment.
    ///
    /// # Errors
    ///
    /// As for [`of`](Self::of).
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

fn look(pid: u32) -> io::Result<Option<Stat>> {
    let Some(known) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let stat = of_process(pid.cast_signed())?;
    match stat {
        None if test_kill_process(known) == Err(Errno::PERM) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("/proc hides process {pid} (hidepid)"),
        )),
        stat => Ok(stat),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_alive_until_it_has_ended_and_its_number_alone_is_not_it() {
        let mut child = Command::new("sh")
            .args(["-c", "echo; read x"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        out.read_line(&mut String::new()).expect("it runs");
        let id = ProcessId::of(child.id())
            .expect("/proc")
            .expect("it is there");
        assert_eq!(id.is_alive().ok(), Some(true));
        let other = ProcessId {
            started: id.started + 1,
            ..id
        };
        assert_eq!(other.is_alive().ok(), Some(false));
        drop(child.stdin.take());
        // It has ended when its output has, or a moment later; nobody has waited for it.
        while id.is_alive().expect("/proc") {
            std::thread::yield_now();
        }
        assert_eq!(ProcessId::of(child.id()).expect("/proc"), Some(id));
        child.wait().expect("its end");
        assert_eq!(id.is_alive().ok(), Some(false));
    }

    #[test]
    fn numbers_that_no_process_has_are_nobody() {
        for pid in [0, u32::MAX, i32::MAX.cast_unsigned()] {
            assert_eq!(ProcessId::of(pid).expect("/proc"), None);
        }
    }
}
