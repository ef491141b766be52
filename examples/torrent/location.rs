//! Where the content of a torrent is on disk.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::cli::VerifyArgs;
use crate::metainfo::Metainfo;
use crate::paths::printable;
use crate::reading::Reading;
use crate::torrent_file;

/// A directory, and the path in it of the torrent's file or directory.
pub(crate) struct Location {
    pub(crate) root: PathBuf,
    /// One file name, or empty if the root is the torrent's directory.
    prefix: PathBuf,
}

impl Location {
    /// Returns the checked torrent and the location of its content.
    pub(crate) fn of(
        torrent: &Path,
        reading: Reading,
        args: &VerifyArgs,
    ) -> Result<(Metainfo, Self)> {
        let context = || torrent_file::name(torrent);
        if let Some(content) = &args.content {
            let metainfo = reading.checked_except_name().with_context(context)?;
            let location = Self::given(content, metainfo.multi_file)?;
            return Ok((metainfo, location));
        }
        if reading.refusal.is_none()
            && let Some(reason) = reading.name_refusal
        {
            let hint = "the name cannot be used; name the content with --content PATH";
            return Err(anyhow!(reason).context(format!("{}: {hint}", context())));
        }
        let metainfo = reading.checked().with_context(context)?;
        let location = Self {
            root: args.root.clone(),
            prefix: PathBuf::from(&metainfo.name),
        };
        Ok((metainfo, location))
    }

    /// The location that the user gives, whatever the name of the torrent is.
    fn given(content: &Path, multi_file: bool) -> Result<Self> {
        let shown = || format!("--content {}", printable(&content.to_string_lossy()));
        let real = content.canonicalize().with_context(shown)?;
        if real.is_dir() != multi_file {
            let kinds = if multi_file {
                "is not a directory, but the torrent has a list of files"
            } else {
                "is a directory, but the torrent has one file"
            };
            bail!("{} {kinds}", shown());
        }
        if multi_file {
            return Ok(Self {
                root: real,
                prefix: PathBuf::new(),
            });
        }
        let prefix = real.file_name().map(PathBuf::from).unwrap_or_default();
        let root = real.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { root, prefix })
    }

    /// The path of file `index` below the root.
    pub(crate) fn path(&self, metainfo: &Metainfo, index: usize) -> PathBuf {
        let mut path = self.prefix.clone();
        path.extend(&metainfo.files[index].path);
        path
    }

    /// The reason why no file of the torrent's directory can be found, as with a mistyped root.
    /// Symbolic links are no reason: those that are not followed are reported with the files.
    pub(crate) fn directory_problem(&self, metainfo: &Metainfo) -> Option<String> {
        if !metainfo.multi_file {
            return None;
        }
        let name = printable(&self.prefix.to_string_lossy());
        let root = printable(&self.root.to_string_lossy());
        match self.root.join(&self.prefix).symlink_metadata() {
            Ok(metadata) if metadata.is_file() => {
                Some(format!("{name} below {root} is not a directory"))
            }
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("{name} is not below {root}"))
            }
            Err(error) => Some(format!("{name} below {root}: {error}")),
        }
    }
}
