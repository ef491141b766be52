//! Where a new torrent is written: a file, or standard output.

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::output_file::OutputFile;
use crate::torrent_file::STANDARD_STREAM;

/// The destination of a new torrent.
pub(crate) enum Output {
    File(OutputFile),
    Stdout,
}

/// The file that the torrent is written to: it is not content of the torrent.
pub(crate) enum Excluded {
    Path(PathBuf),
    /// Device and inode.
    Identity(u64, u64),
}

impl Output {
    /// Fails before hours of hashing if the torrent could not be written afterwards.
    pub(crate) fn new(path: &Path, overwrite: bool) -> Result<Self> {
        if path != Path::new(STANDARD_STREAM) {
            return Ok(Self::File(OutputFile::new(path, overwrite)?));
        }
        if io::stdout().is_terminal() {
            bail!(
                "refusing to write binary data to a terminal; redirect standard output or name a file"
            );
        }
        if is_closed_stdout().context("standard output")? {
            bail!("standard output is closed; redirect it or name a file");
        }
        Ok(Self::Stdout)
    }

    /// The file to exclude from the content.
    pub(crate) fn excluded(&self) -> Result<Excluded> {
        match self {
            Self::File(file) => Ok(Excluded::Path(file.canonical_path()?)),
            Self::Stdout => {
                let metadata = stdout_metadata().context("standard output")?;
                Ok(Excluded::Identity(metadata.dev(), metadata.ino()))
            }
        }
    }

    pub(crate) fn write(&self, torrent: &[u8]) -> Result<()> {
        match self {
            Self::File(file) => file.write(torrent),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(torrent)
                    .and_then(|()| stdout.flush())
                    .context("cannot write the torrent to standard output")
            }
        }
    }
}

impl Excluded {
    /// Returns whether a file that was found, at a canonical path, is this one.
    pub(crate) fn is(&self, path: &Path, metadata: &Metadata) -> bool {
        match self {
            Self::Path(out) => path == out,
            Self::Identity(device, inode) => (metadata.dev(), metadata.ino()) == (*device, *inode),
        }
    }
}

fn stdout_metadata() -> io::Result<Metadata> {
    File::from(io::stdout().as_fd().try_clone_to_owned()?).metadata()
}

/// Returns whether the program was started without standard output. The standard library then opens
/// `/dev/null` for reading and writing, and a torrent would vanish in it.
fn is_closed_stdout() -> io::Result<bool> {
    let null = Path::new("/dev/null").metadata()?;
    let stdout = stdout_metadata()?;
    if (stdout.dev(), stdout.ino()) != (null.dev(), null.ino()) {
        return Ok(false);
    }
    let flags = rustix::fs::fcntl_getfl(io::stdout())?;
    Ok(flags.contains(rustix::fs::OFlags::RDWR))
}
