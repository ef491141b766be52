//! An output file that is written completely or not at all.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::NamedTempFile;

/// The path of the torrent to write.
pub(crate) struct OutputFile {
    path: PathBuf,
    directory: PathBuf,
    overwrite: bool,
}

impl OutputFile {
    /// Fails before hours of hashing if the file could not be written afterwards.
    pub(crate) fn new(path: &Path, overwrite: bool) -> Result<Self> {
        if path.symlink_metadata().is_ok() && !overwrite {
            bail!("{} exists; use --force to overwrite it", path.display());
        }
        if path.file_name().is_none() || path.is_dir() {
            bail!("{} is not a valid file name", path.display());
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let output = Self {
            path: path.to_owned(),
            directory,
            overwrite,
        };
        // The temporary file is removed at once, so that a kill during the hashing leaves none.
        output.temporary()?;
        Ok(output)
    }

    /// The path as a walk over canonical directories reports it.
    pub(crate) fn canonical_path(&self) -> Result<PathBuf> {
        let directory = self
            .directory
            .canonicalize()
            .with_context(|| self.directory.display().to_string())?;
        Ok(self
            .path
            .file_name()
            .map_or_else(|| directory.clone(), |name| directory.join(name)))
    }

    /// Writes a temporary file durably and then renames it.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut temporary = self.temporary()?;
        let context = || format!("cannot write {}", self.path.display());
        temporary.write_all(bytes).with_context(context)?;
        temporary.as_file().sync_all().with_context(context)?;
        if self.overwrite {
            temporary
                .persist(&self.path)
                .map_err(|error| error.error)
                .with_context(context)?;
        } else {
            temporary
                .persist_noclobber(&self.path)
                .map_err(|error| error.error)
                .with_context(context)?;
        }
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .with_context(context)
    }

    fn temporary(&self) -> Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".torrent-").suffix(".tmp");
        // Reduced by the umask, as for any new file.
        builder.permissions(Permissions::from_mode(0o666));
        builder
            .tempfile_in(&self.directory)
            .with_context(|| format!("cannot write into {}", self.directory.display()))
    }
}
