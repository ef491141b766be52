//! What a killed command leaves, saved aside: `STORE/crash-TIME`, a raw file. That its memory is not to be taken for good
//! is told by `marks`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use flatspan::shm::SharedFile;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

const STEP_BYTES: usize = 1 << 20;

/// Copies the memory to a file, which is there whole or not at all. Returns its path.
pub(crate) fn save(store: &Path, memory: &SharedFile) -> Result<PathBuf> {
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
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
        .and_then(|()| sync_folder(&path));
    if saved.is_err() {
        let _not_there = fs::remove_file(&unfinished);
    }
    saved.with_context(|| {
        let path = path.display();
        format!("cannot write {path} (other files crash-* there may be removed)")
    })?;
    Ok(path)
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
