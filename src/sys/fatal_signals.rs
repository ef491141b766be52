//! Threads that are about to die, as `/proc` has them. See [`signal(7)`](https://man7.org/linux/man-pages/man7/signal.7.html) and
//! [`proc_pid_status(5)`](https://man7.org/linux/man-pages/man5/proc_pid_status.5.html).

use std::fs;
use std::io;

/// Signals that kill a program which does not handle them, and mean that something is wrong with it, or that it is to go at
/// once. Of the others a program dies too, but not by a fault of its own.
pub const FAULT_SIGNALS: [i32; 8] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGKILL,
    libc::SIGSEGV,
    libc::SIGSYS,
];

/// A flag of the kernel in field 9 of `stat`: it runs no more of its program.
const PF_EXITING: u64 = 4;

/// Is it ending, or will it before it runs any more of its program? False for one that has ended.
pub(crate) fn is_ending(pid: i32, thread: i32) -> io::Result<bool> {
    Ok(is_killed(pid, thread, 0)? || shows_exit(&read(pid, thread, "stat")?))
}

/// Will it be killed before it runs any more of its program? `next` is a signal that it has been given already (0 for none).
pub(crate) fn is_killed(pid: i32, thread: i32, next: i32) -> io::Result<bool> {
    Ok(shows_death(&read(pid, thread, "status")?, next))
}

fn read(pid: i32, thread: i32, file: &str) -> io::Result<String> {
    let path = format!("/proc/{pid}/task/{thread}/{file}");
    match fs::read(&path) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if is_gone(&error) => Ok(String::new()),
        Err(error) => Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn shows_exit(stat: &str) -> bool {
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.trim_start());
    // The first thread of a process may have ended long before the others.
    if fields.is_some_and(|fields| fields.starts_with(['Z', 'X', 'x'])) {
        return false;
    }
    // Field 9, behind fields 3 to 8.
    let flags = fields.and_then(|fields| fields.split_ascii_whitespace().nth(6));
    let flags = flags.and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

fn shows_death(status: &str, next: i32) -> bool {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("", str::trim)
    };
    let mask = |name| u64::from_str_radix(field(name), 16).unwrap_or(0);
    let spared = (mask("SigCgt:") | mask("SigIgn:")) & !bit(libc::SIGKILL);
    let waiting = (mask("SigPnd:") | mask("ShdPnd:")) & !(mask("SigBlk:") & !bit(libc::SIGKILL));
    let fatal = FAULT_SIGNALS.into_iter().map(bit).sum::<u64>();
    (waiting | bit(next)) & fatal & !spared != 0 || field("CoreDumping:") == "1"
}

fn bit(signal: i32) -> u64 {
    match signal {
        1..=64 => 1 << (signal - 1),
        _ => 0,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn status(pending: i32, shared: i32, blocked: i32, ignored: i32, caught: i32) -> String {
        let [pending, shared, blocked, ignored, caught] =
            [pending, shared, blocked, ignored, caught].map(bit);
        format!(
            "Name:\tSigCgt: x\nCoreDumping:\t0\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n\
             SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
        )
    }

    #[test]
    fn what_kills_is_told_from_what_does_not() {
        let (segv, term, kill) = (libc::SIGSEGV, libc::SIGTERM, libc::SIGKILL);
        for (killed, status, next) in [
            (false, status(0, 0, 0, 0, 0), 0),
            (true, status(0, 0, 0, 0, 0), segv),
            (true, status(segv, 0, 0, 0, 0), 0),
            (true, status(0, segv, 0, 0, 0), 0),
            (true, status(0, kill, kill, kill, kill), 0),
            (true, status(0, kill, 0, 0, 0), term),
            (false, status(term, term, 0, 0, 0), term),
            (false, status(segv, 0, segv, 0, 0), 0),
            (false, status(segv, segv, 0, segv, 0), segv),
            (false, status(segv, segv, 0, 0, segv), segv),
            (true, status(0, 0, 0, 0, 0).replace("g:\t0", "g:\t1"), 0),
            (false, String::new(), 0),
        ] {
            assert_eq!(shows_death(&status, next), killed, "{status}{next}");
        }
        assert!(shows_exit("7 (a) b) R 42 7 7 0 -1 4194564 113 0"));
        assert!(!shows_exit("7 (a) b) R 42 7 7 0 -1 4194560 113 0"));
        assert!(!shows_exit("7 (a) b) Z 42 7 7 0 -1 4194564 113 0"));
        assert!(!shows_exit(""));
    }

    #[test]
    fn a_thread_that_runs_is_not_ending_and_one_that_is_gone_neither() {
        let me = std::process::id().cast_signed();
        assert!(!is_ending(me, me).expect("/proc"));
        assert!(is_killed(me, me, libc::SIGKILL).expect("/proc"));
        assert!(!is_ending(i32::MAX, i32::MAX).expect("/proc"));
    }
}
