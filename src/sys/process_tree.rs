//! Processes and their threads, as `/proc` lists them.
//!
//! A listing is not atomic: processes start and exit during it.
//! See [`proc_pid_stat(5)`](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).

use std::collections::HashMap;
use std::fs;
use std::io;

/// Fields of a `stat` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// State letter.
    pub(crate) state: char,
    pub(crate) parent: i32,
    /// Start time in clock ticks since boot.
    pub(crate) started: u64,
}

/// Returns the fields of a process, which are those of its first thread. Returns `None` if the
/// process does not exist. Any other failure is an error, since the process may exist.
pub(crate) fn of_process(pid: i32) -> io::Result<Option<Stat>> {
    read(&format!("/proc/{pid}/stat"))
}

/// Returns the fields of a thread, `None` if it does not exist.
pub(crate) fn of_thread(pid: i32, thread: i32) -> io::Result<Option<Stat>> {
    read(&format!("/proc/{pid}/task/{thread}/stat"))
}

fn read(path: &str) -> io::Result<Option<Stat>> {
    let stat = match fs::read(path) {
        Ok(stat) => stat,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => {
            let hint = hint(error.kind());
            return Err(io::Error::new(
                error.kind(),
                format!("{path}: {error}{hint}"),
            ));
        }
    };
    // The name need not be UTF-8.
    let stat = parse(&String::from_utf8_lossy(&stat));
    let unknown = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path}: unknown format"),
        )
    };
    stat.ok_or_else(unknown).map(Some)
}

/// Advice for a `/proc` that is not readable by all users.
fn hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => {
            " (hidepid=1 or noaccess of /proc hides the parents of processes; mount it with hidepid=2 or 0)"
        }
        _ => "",
    }
}

/// Parses a `stat` line. Only the name, which ends at the last parenthesis, may contain any bytes.
fn parse(stat: &str) -> Option<Stat> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        // Field 22, which follows fields 3 and 4.
        started: fields.nth(17)?.parse().ok()?,
    })
}

/// Returns all descendants of a process in no order. Processes that `hidepid` hides are omitted.
pub(crate) fn descendants(root: i32) -> io::Result<Vec<i32>> {
    let stat = |pid| match of_process(pid) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        stat => stat,
    };
    Ok(list_tree(root, stat)?.found)
}

/// Listing of a process tree.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Descendants of the root.
    pub(crate) found: Vec<i32>,
    /// Processes of any parent that exited during the listing.
    pub(crate) ended: Vec<i32>,
}

/// Lists the descendants of a process. A hidden process is an error, since it may be one of them.
pub(crate) fn tree(root: i32) -> io::Result<Tree> {
    list_tree(root, of_process)
}

fn list_tree(root: i32, stat: impl Fn(i32) -> io::Result<Option<Stat>>) -> io::Result<Tree> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut ended = Vec::new();
    for pid in numbers("/proc")? {
        match stat(pid)? {
            Some(stat) => children.entry(stat.parent).or_default().push(pid),
            None => ended.push(pid),
        }
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        // Each list is removed once, so reused process ids cannot form a loop.
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(Tree { found, ended })
}

/// Returns the threads of a process, none if it does not exist.
pub(crate) fn threads(pid: i32) -> io::Result<Vec<i32>> {
    match numbers(&format!("/proc/{pid}/task")) {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        threads => threads,
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Returns the entries of a directory that are numbers.
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
    fn names_may_contain_any_bytes() {
        let line =
            "7 (a) S 1 (b) c) R 42 7 7 0 -1 4194560 113 0 0 0 1 2 3 4 20 0 1 0 8217 6156288 395";
        let stat = parse(line).expect("a line");
        assert_eq!((stat.state, stat.parent, stat.started), ('R', 42, 8217));
        assert_eq!(parse("7 (a) R 42 7 7 0"), None);
        assert_eq!(parse("7 (a"), None);
    }

    #[test]
    fn only_missing_files_mean_exited() {
        let kind_of = |path: &str| read(path).map_err(|error| error.kind());
        assert_eq!(kind_of("/proc/self/none"), Ok(None));
        // The path exists but is not readable as a file.
        assert_eq!(kind_of("/proc/self"), Err(io::ErrorKind::IsADirectory));
        assert_eq!(kind_of("/proc/self/comm"), Err(io::ErrorKind::InvalidData));
        let refuse = |_| Err(io::ErrorKind::PermissionDenied.into());
        let refused = list_tree(1, refuse).map_err(|error| error.kind());
        assert!(matches!(refused, Err(io::ErrorKind::PermissionDenied)));
        let gone = list_tree(1, |_| Ok(None)).expect("a list");
        assert!(gone.found.is_empty() && gone.ended.contains(&std::process::id().cast_signed()));
    }

    #[test]
    fn grandchildren_are_found() {
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
        .expect("an exit");
        shell.wait().expect("an exit");
        assert!(found.contains(&sleep) && found.contains(&shell.id().cast_signed()));
        assert_eq!(of_shell, [sleep]);
        assert!(threads(me).expect("a list").contains(&me));
        assert!(threads(sleep).expect("a list").is_empty());
    }
}
