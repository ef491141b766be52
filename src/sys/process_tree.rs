//! Processes and their threads, as `/proc` has them. See
//! [`proc_pid_stat(5)`](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).
//!
//! What it says was true at some time while it looked: processes come and go.

use std::collections::HashMap;
use std::fs;
use std::io;

/// What a thread is doing: the letter of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: i32,
    /// When the process, or the thread, was started, in ticks since the system was.
    pub(crate) started: u64,
}

/// Of a process, which stands for its first thread; `None` where there is none. What cannot be read is an error: it may
/// well be there.
pub(crate) fn of_process(pid: i32) -> io::Result<Option<Stat>> {
    read(&format!("/proc/{pid}/stat"))
}

/// Of a thread.
pub(crate) fn of_thread(pid: i32, thread: i32) -> io::Result<Option<Stat>> {
    read(&format!("/proc/{pid}/task/{thread}/stat"))
}

fn read(path: &str) -> io::Result<Option<Stat>> {
    let stat = match fs::read(path) {
        Ok(stat) => stat,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => {
            let why = explain(error.kind());
            return Err(io::Error::new(
                error.kind(),
                format!("{path}: {error}{why}"),
            ));
        }
    };
    // The name need not be UTF-8.
    let stat = parse(&String::from_utf8_lossy(&stat));
    let unknown = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path}: not understood"),
        )
    };
    stat.ok_or_else(unknown).map(Some)
}

/// Everybody may read it, but where `/proc` is mounted so.
fn explain(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => {
            " (is /proc mounted with hidepid=1, noaccess? Then it is not known whose children the processes of others are; hidepid=2 or 0 will do)"
        }
        _ => "",
    }
}

/// The name may have anything in it, also parentheses, and is the only field that may.
fn parse(stat: &str) -> Option<Stat> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        // Field 22, behind fields 3 and 4.
        started: fields.nth(17)?.parse().ok()?,
    })
}

/// The children of a process, and theirs, in no order. Not itself, and not those that we may not look at (`hidepid`).
pub(crate) fn descendants(root: i32) -> io::Result<Vec<i32>> {
    let look = |pid| match of_process(pid) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        stat => stat,
    };
    Ok(look_at_tree(root, look)?.found)
}

/// What a look at a tree has found.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) found: Vec<i32>,
    /// Any processes that were there when the look began, and not when it came to them.
    pub(crate) ended: Vec<i32>,
}

/// As [`descendants`]; a process that we may not look at is an error, since it may be one of them.
pub(crate) fn tree(root: i32) -> io::Result<Tree> {
    look_at_tree(root, of_process)
}

fn look_at_tree(root: i32, look: impl Fn(i32) -> io::Result<Option<Stat>>) -> io::Result<Tree> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut ended = Vec::new();
    for pid in numbers("/proc")? {
        match look(pid)? {
            Some(stat) => children.entry(stat.parent).or_default().push(pid),
            None => ended.push(pid),
        }
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        // Each list is taken once, so numbers that were used again meanwhile make no circle.
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(Tree { found, ended })
}

/// The threads of a process; none where it has ended.
pub(crate) fn threads(pid: i32) -> io::Result<Vec<i32>> {
    match numbers(&format!("/proc/{pid}/task")) {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        threads => threads,
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

pub(crate) fn numbers(directory: &str) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        match entry {
            Ok(entry) => found.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<i32>().ok()),
            ),
            Err(error) if is_gone(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_anything_in_them() {
        let line =
            "7 (a) S 1 (b) c) R 42 7 7 0 -1 4194560 113 0 0 0 1 2 3 4 20 0 1 0 8217 6156288 395";
        let stat = parse(line).expect("a line");
        assert_eq!((stat.state, stat.parent, stat.started), ('R', 42, 8217));
        assert_eq!(parse("7 (a) R 42 7 7 0"), None);
        assert_eq!(parse("7 (a"), None);
    }

    #[test]
    fn only_what_is_not_there_has_ended() {
        let read = |path: &str| super::read(path).map_err(|error| error.kind());
        assert_eq!(read("/proc/self/none"), Ok(None));
        // There, and not to be read.
        assert_eq!(read("/proc/self"), Err(io::ErrorKind::IsADirectory));
        assert_eq!(read("/proc/self/comm"), Err(io::ErrorKind::InvalidData));
        let refuse = |_| Err(io::ErrorKind::PermissionDenied.into());
        let refused = look_at_tree(1, refuse).map_err(|error| error.kind());
        assert!(matches!(refused, Err(io::ErrorKind::PermissionDenied)));
        let gone = look_at_tree(1, |_| Ok(None)).expect("a list");
        assert!(gone.found.is_empty() && gone.ended.contains(&std::process::id().cast_signed()));
    }

    #[test]
    fn children_of_children_are_found() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 100 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let mut out = io::BufReader::new(shell.stdout.take().expect("a pipe"));
        io::BufRead::read_line(&mut out, &mut line).expect("a line");
        let sleep: i32 = line.trim().parse().expect("a number");
        let me = std::process::id().cast_signed();
        let found = descendants(me).expect("a list");
        let of_shell = descendants(shell.id().cast_signed()).expect("a list");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(sleep).expect("a number"),
            rustix::process::Signal::KILL,
        )
        .expect("it ends");
        shell.wait().expect("it ends");
        assert!(found.contains(&sleep) && found.contains(&shell.id().cast_signed()));
        assert_eq!(of_shell, [sleep]);
        assert!(threads(me).expect("a list").contains(&me));
        assert_eq!(threads(sleep).expect("a list"), []);
    }
}
