//! A file that is there as a whole or not at all: written under a temporary name beside its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

pub(crate) struct OutFile {
    path: PathBuf,
    temporary: PathBuf,
    pub(crate) file: File,
    force: bool,
    is_done: bool,
}

impl OutFile {
    pub(crate) fn create(path: &Path, force: bool) -> Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(_) if !force => bail!("{} exists (--force overwrites it)", path.display()),
            // It would be replaced, not written to.
            Ok(found) if !found.is_file() => bail!("{} is no ordinary file", path.display()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| path.display().to_string());
            }
            _ => {}
        }
        let temporary = beside(path, "part")?;
        let mut options = File::options();
        let file = options
            .write(true)
            .read(true)
            .create_new(true)
            .open(&temporary);
        Ok(Self {
            path: path.to_path_buf(),
            file: file.with_context(|| format!("cannot create {}", temporary.display()))?,
            temporary,
            force,
            is_done: false,
        })
    }

    /// Makes it durable and gives it its name.
    pub(crate) fn finish(mut self) -> Result<()> {
        let context = || format!("cannot write {}", self.path.display());
        self.file.sync_all().with_context(context)?;
        if self.force {
            fs::rename(&self.temporary, &self.path)
        } else {
            rename_to_new(&self.temporary, &self.path)
        }
        .with_context(context)?;
        sync_folder(&self.path).with_context(context)?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A name in the same folder that nobody else has.
pub(crate) fn beside(path: &Path, what: &str) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        bail!("{} has no name", path.display());
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{what}-{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

/// Never over something. Where the filesystem cannot promise that, it is looked for just before.
pub(crate) fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to)
        }
        renamed => Ok(renamed?),
    }
}

pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
