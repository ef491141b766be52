//! What a killed command leaves: its memory, saved aside, and a mark that says not to take that memory for good.
//!
//! Both lie beside the store: `STORE.crash-TIME`, a raw file, and `STORE.crashed`, which names the memory. The mark is looked at by the
//! next start: if it is given the same memory (a service manager or a shell may have kept it), it restores the
//! last snapshot into it. A mark of a memory that is gone does no harm.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use flatspan::shm::SharedFile;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

const STEP_BYTES: usize = 1 << 20;

/// Is it what a killed command has left? Where that cannot be said it must not be taken for good.
pub(crate) fn is_marked(store: &Path, memory: &SharedFile) -> Result<bool> {
    let path = beside(store, "crashed")?;
    let is_it = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        mark => mark.and_then(|mark| Ok(identity(memory)? == mark)),
    };
    is_it.with_context(|| {
        format!(
            "cannot see in {} whether the memory is good",
            path.display()
        )
    })
}

pub(crate) fn mark(store: &Path, memory: &SharedFile) -> Result<()> {
    let path = beside(store, "crashed")?;
    // Not synced: what outlives the power is not this memory.
    identity(memory)
        .and_then(|identity| fs::write(&path, identity))
        .with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn unmark(store: &Path) -> Result<()> {
    let path = beside(store, "crashed")?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Copies the memory to a file, which is there whole or not at all. Returns its path.
pub(crate) fn save(store: &Path, memory: &SharedFile) -> Result<PathBuf> {
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut path = beside(store, &format!("crash-{seconds}"))?;
    for number in 1.. {
        if !path.exists() {
            break;
        }
        path = beside(store, &format!("crash-{seconds}-{number}"))?;
    }
    let unfinished = beside(store, "crash-unfinished")?;
    let saved = write(&unfinished, memory)
        .and_then(|()| fs::rename(&unfinished, &path))
        .and_then(|()| sync_folder(&path));
    if saved.is_err() {
        let _not_there = fs::remove_file(&unfinished);
    }
    saved.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Beside the store itself, by whatever path or link it was found.
fn beside(store: &Path, what: &str) -> Result<PathBuf> {
    let store = match store.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => store.to_path_buf(),
        store_itself => store_itself.with_context(|| format!("store {}", store.display()))?,
    };
    let mut name: OsString = store.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    Ok(store.with_file_name(name))
}

/// Numbers of memfds are used again when the system has started anew.
fn identity(memory: &SharedFile) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let found = own(memory)?.metadata()?;
    Ok(format!("{} {} {}\n", boot.trim(), found.dev(), found.ino()))
}

/// A description of the memory with a position of its own, as looking for data moves it.
fn own(memory: &SharedFile) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd()))
}

fn write(path: &Path, memory: &SharedFile) -> io::Result<()> {
    let from = own(memory)?;
    let to = File::create(path)?;
    let len = from.metadata()?.len();
    to.set_len(len)?;
    let mut buf = vec![0; STEP_BYTES];
    let mut at = 0;
    while at < len {
        at = match seek(&from, SeekFrom::Data(at)) {
            Ok(at) => at,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let part = STEP_BYTES.min(usize::try_from(len.saturating_sub(at)).unwrap_or(STEP_BYTES));
        from.read_exact_at(&mut buf[..part], at)?;
        to.write_all_at(&buf[..part], at)?;
        at += part as u64;
    }
    to.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
