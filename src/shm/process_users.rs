//! Descendants of this process, and the processes that use a memfd.
//!
//! See
//! [`PR_SET_CHILD_SUBREAPER(2const)`](https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html),
//! [`waitid(2)`](https://man7.org/linux/man-pages/man2/waitid.2.html) and
//! [`proc_pid_maps(5)`](https://man7.org/linux/man-pages/man5/proc_pid_maps.5.html).

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, set_child_subreaper, waitid};

use super::error::ShmError;
use super::memfd::Memfd;
use crate::sys::process_tree::{descendants, numbers, of_process};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Descendant {
    /// Process id.
    pub pid: u32,
    /// Name in `/proc/PID/comm`.
    pub name: String,
}

/// Makes this process the parent of descendants whose own parents exit.
///
/// They stay in its process tree. It must [reap](reap_orphans) them.
///
/// # Errors
///
/// Returns the error of prctl(2).
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Reaps the exited children of this process, except for one that another caller waits for.
///
/// No other code may wait for other children of this process.
///
/// # Errors
///
/// Returns an error if `/proc` cannot be read.
pub fn reap_orphans(except: u32) -> io::Result<()> {
    let me = own_pid();
    for pid in descendants(me)? {
        let is_exited = of_process(pid)?.is_some_and(|stat| stat.parent == me && stat.state == 'Z');
        if is_exited && pid != except.cast_signed() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            // Fails if another thread has reaped the child.
            Pid::from_raw(pid).map(|pid| waitid(WaitId::Pid(pid), options));
        }
    }
    Ok(())
}

/// Returns the descendants of this process that have the memfd open or mapped.
///
/// Processes that this one is not permitted to inspect are omitted.
///
/// # Errors
///
/// Returns [`ShmError::Io`] if `/proc` cannot be read.
pub fn descendants_with(memory: &Memfd) -> Result<Vec<Descendant>, ShmError> {
    let file = metadata(memory)?;
    let all = descendants(own_pid()).map_err(io_error(memory))?;
    Ok(all
        .into_iter()
        .filter(|pid| has_open(*pid, &file) || has_mapped(*pid, file.ino()))
        .map(named)
        .collect())
}

/// Returns all processes except this one that have the memfd mapped.
///
/// Processes that only have a descriptor, such as a service manager, are omitted, and those that
/// this one is not permitted to inspect.
///
/// # Errors
///
/// Returns [`ShmError::Io`] if `/proc` cannot be read.
pub fn users_of(memory: &Memfd) -> Result<Vec<Descendant>, ShmError> {
    let file = metadata(memory)?;
    let all = numbers("/proc").map_err(io_error(memory))?;
    Ok(all
        .into_iter()
        .filter(|pid| *pid != own_pid())
        .filter(|pid| has_mapped(*pid, file.ino()))
        .map(named)
        .collect())
}

fn metadata(memory: &Memfd) -> Result<fs::Metadata, ShmError> {
    let fd = memory.as_fd().as_raw_fd();
    fs::metadata(format!("/proc/self/fd/{fd}")).map_err(io_error(memory))
}

fn io_error(memory: &Memfd) -> impl FnOnce(io::Error) -> ShmError + use<> {
    let fd = memory.as_fd().as_raw_fd();
    ShmError::io(fd, "find the processes that use the memfd")
}

fn named(pid: i32) -> Descendant {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    Descendant {
        pid: pid.cast_unsigned(),
        name: name.unwrap_or_default().trim_end().to_owned(),
    }
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

fn has_open(pid: i32, file: &fs::Metadata) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .any(|entry| is_file(&entry.path(), file))
}

fn is_file(link: &Path, file: &fs::Metadata) -> bool {
    let found = fs::metadata(link);
    found.is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
}

/// Whether the process has a memfd with this inode mapped.
///
/// `/proc/PID/maps` states another device number than stat(2), so only the inode is compared. A
/// memfd with the same inode on another device is unlikely.
fn has_mapped(pid: i32, inode: u64) -> bool {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return false;
    };
    let inode = inode.to_string();
    maps.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        fields.nth(4) == Some(&inode)
            && fields
                .next()
                .is_some_and(|name| name.starts_with("/memfd:"))
    })
}
