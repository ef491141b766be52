//! A file that is there whole or not at all.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::NamedTempFile;

/// Where the torrent will be.
pub(crate) struct OutputFile {
    path: PathBuf,
    folder: PathBuf,
    overwrite: bool,
}

impl OutputFile {
    /// Fails before the hours of hashing if the file could not be written after them.
    pub(crate) fn new(path: &Path, overwrite: bool) -> Result<Self> {
        if path.symlink_metadata().is_ok() && !overwrite {
            bail!("{} exists; --force overwrites it", path.display());
        }
        if path.file_name().is_none() || path.is_dir() {
            bail!("{} is no name for a file", path.display());
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let output = Self {
            path: path.to_owned(),
            folder,
            overwrite,
        };
        // The trial is gone when it is dropped, so that a kill during the hashing leaves nothing behind.
        output.temporary()?;
        Ok(output)
    }

    /// The path in the form in which a walk over canonical folders meets it.
    pub(crate) fn canonical_path(&self) -> Result<PathBuf> {
        let folder = self
            .folder
            .canonicalize()
            .with_context(|| self.folder.display().to_string())?;
        Ok(self
            .path
            .file_name()
            .map_or_else(|| folder.clone(), |name| folder.join(name)))
    }

    /// Writes the file durably and then gives it its name.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut temporary = self.temporary()?;
        let context = || format!("cannot write {}", self.path.display());
        temporary.write_all(bytes).with_context(context)?;
        temporary.as_file().sync_all().with_context(context)?;
        if self.overwrite {
            temporary
                .persist(&self.path)
                .map_err(|failed| failed.error)
                .with_context(context)?;
        } else {
            temporary
                .persist_noclobber(&self.path)
                .map_err(|failed| failed.error)
                .with_context(context)?;
        }
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .with_context(context)
    }

    fn temporary(&self) -> Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".torrent-").suffix(".tmp");
        // Less what the umask takes away, as for any new file.
        builder.permissions(Permissions::from_mode(0o666));
        builder
            .tempfile_in(&self.folder)
            .with_context(|| format!("cannot write into {}", self.folder.display()))
    }
}
