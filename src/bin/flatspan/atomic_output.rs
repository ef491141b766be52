//! A file that appears only when it is complete: written under a temporary name, then renamed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

pub(crate) struct AtomicOutput {
    path: PathBuf,
    temporary: PathBuf,
    pub(crate) file: File,
    force: bool,
    is_finished: bool,
}

impl AtomicOutput {
    pub(crate) fn create(path: &Path, force: bool) -> Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(_) if !force => bail!("{} exists; --force replaces it", path.display()),
            // A rename would replace a device or a symbolic link instead of writing to it.
            Ok(metadata) if !metadata.is_file() => {
                bail!("{} is not a regular file", path.display())
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| path.display().to_string());
            }
            _ => {}
        }
        let temporary = hidden_sibling(path, "part")?;
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
            is_finished: false,
        })
    }

    /// Syncs the file and gives it its name.
    pub(crate) fn finish(mut self) -> Result<()> {
        let context = || format!("cannot write {}", self.path.display());
        self.file.sync_all().with_context(context)?;
        if self.force {
            fs::rename(&self.temporary, &self.path)
        } else {
            rename_noreplace(&self.temporary, &self.path)
        }
        .with_context(context)?;
        sync_parent(&self.path).with_context(context)?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for AtomicOutput {
    fn drop(&mut self) {
        if !self.is_finished {
            drop(fs::remove_file(&self.temporary));
        }
    }
}

/// A hidden path in the directory of `path` that no other process uses.
pub(crate) fn hidden_sibling(path: &Path, purpose: &str) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        bail!("{} has no file name", path.display());
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{purpose}-{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

/// Renames by renameat2(2) with `RENAME_NOREPLACE`. A filesystem without that flag gets a check
/// before an ordinary rename.
pub(crate) fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to)
        }
        renamed => Ok(renamed?),
    }
}

/// Makes the name of a file durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
