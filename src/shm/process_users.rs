//! The processes that a command becomes, and who else has its memory.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, set_child_subreaper, waitid};

use super::error::ShmError;
use super::memfd::SharedFile;
use crate::sys::process_tree::{descendants, numbers, of_process};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descendant {
    /// Its number.
    pub pid: u32,
    /// Its name, as `/proc/PID/comm` has it.
    pub name: String,
}

/// From now on descendants of this process whose parents end become its children, so that they stay in its tree. They are to
/// be [reaped](reap_orphans) then.
///
/// # Errors
///
/// What the system says.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Reaps the children of this process that have ended, but this one, which is somebody else's to wait for. Other children of
/// this process should not be waited for by anybody.
///
/// # Errors
///
/// Where `/proc` cannot be read.
pub fn reap_orphans(except: u32) -> io::Result<()> {
    let me = own_number();
    for pid in descendants(me)? {
        let is_ended = of_process(pid)?.is_some_and(|stat| stat.parent == me && stat.state == 'Z');
        if is_ended && pid != except.cast_signed() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            // Whoever was faster is welcome.
            let _reaped = Pid::from_raw(pid).map(|pid| waitid(WaitId::Pid(pid), options));
        }
    }
    Ok(())
}

/// The descendants of this process that have this memory open or mapped, as far as we may look.
///
/// # Errors
///
/// Where `/proc` cannot be read.
pub fn descendants_with(memory: &SharedFile) -> Result<Vec<Descendant>, ShmError> {
    let (own, failed) = look_at(memory)?;
    let all = descendants(own_number()).map_err(failed)?;
    let with = all.into_iter();
    Ok(with
        .filter(|pid| has_open(*pid, &own) || has_mapped(*pid, own.ino()))
        .map(named)
        .collect())
}

/// All processes but this one that have this memory mapped, as far as we may look. Those that have a descriptor only, as a service manager,
/// are left out.
///
/// # Errors
///
/// Where `/proc` cannot be read.
pub fn users_of(memory: &SharedFile) -> Result<Vec<Descendant>, ShmError> {
    let (own, failed) = look_at(memory)?;
    let all = numbers("/proc").map_err(failed)?;
    let with = all.into_iter().filter(|pid| *pid != own_number());
    Ok(with
        .filter(|pid| has_mapped(*pid, own.ino()))
        .map(named)
        .collect())
}

fn look_at(
    memory: &SharedFile,
) -> Result<(fs::Metadata, impl FnOnce(io::Error) -> ShmError), ShmError> {
    let fd = memory.as_fd().as_raw_fd();
    let failed = || ShmError::io(fd, "look who has it");
    let own = fs::metadata(format!("/proc/self/fd/{fd}")).map_err(failed())?;
    Ok((own, failed()))
}

fn named(pid: i32) -> Descendant {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    Descendant {
        pid: pid.cast_unsigned(),
        name: name.unwrap_or_default().trim_end().to_owned(),
    }
}

fn own_number() -> i32 {
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

/// Devices are shown otherwise than stat has them; a memfd of the same number on another one is out of the ordinary.
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
