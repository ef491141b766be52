//! The memory of a killed command as a raw file, `STORE/crash-TIME`. Whether that memory may be
//! used again is recorded in `memory_state`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use flatspan::shm::Memfd;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

const CHUNK_BYTES: usize = 1 << 20;

/// Copies the memory to a new file, which appears only when it is complete. Returns its path.
pub(crate) fn save(store: &Path, memory: &Memfd) -> Result<PathBuf> {
    let seconds = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(elapsed) => elapsed.as_secs(),
        Err(_) => 0,
    };
    let mut path = store.join(format!("crash-{seconds}"));
    for number in 1.. {
        if !path.exists() {
            break;
        }
        path = store.join(format!("crash-{seconds}-{number}"));
    }
    let unfinished = store.join("crash-unfinished");
    let saved = write(&unfinished, memory)
        .and_then(|()| fs::rename(&unfinished, &path))
        .and_then(|()| sync_parent(&path));
    if saved.is_err() {
        // It may not have been created.
        drop(fs::remove_file(&unfinished));
    }
    saved.with_context(|| {
        let path = path.display();
        format!("cannot write {path}; older crash-* files in this directory may be removed")
    })?;
    Ok(path)
}

/// An open file description with a file offset of its own, since lseek(2) moves it.
fn reopen(memory: &Memfd) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd()))
}

fn write(path: &Path, memory: &Memfd) -> io::Result<()> {
    let source = reopen(memory)?;
    let target = File::create(path)?;
    let len = source.metadata()?.len();
    target.set_len(len)?;
    let mut buf = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < len {
        offset = match seek(&source, SeekFrom::Data(offset)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let rest = usize::try_from(len.saturating_sub(offset)).unwrap_or(CHUNK_BYTES);
        let chunk = &mut buf[..rest.min(CHUNK_BYTES)];
        source.read_exact_at(chunk, offset)?;
        target.write_all_at(chunk, offset)?;
        offset += chunk.len() as u64;
    }
    target.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
