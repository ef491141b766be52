//! The files of a new torrent.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use walkdir::WalkDir;

use crate::metainfo::{FileKind, Metainfo};
use crate::output::Excluded;
use crate::paths::printable;

/// The scanned file or directory.
pub(crate) struct Scan {
    /// The directory that the paths of `on_disk` are relative to.
    pub(crate) root: PathBuf,
    pub(crate) name: OsString,
    pub(crate) multi_file: bool,
    pub(crate) files: Vec<FoundFile>,
    pub(crate) skipped: Skipped,
}

/// The paths that were skipped, for messages.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    pub(crate) symlinks: Vec<String>,
    pub(crate) special_files: Vec<String>,
}

/// A regular file.
pub(crate) struct FoundFile {
    /// The path in the torrent: below its name, and empty for a single file.
    pub(crate) path: Vec<OsString>,
    /// The path on disk: below the root.
    pub(crate) on_disk: PathBuf,
    pub(crate) bytes: u64,
    modified: Option<SystemTime>,
}

impl Scan {
    /// Scans `content` without the file that the torrent is written to.
    pub(crate) fn new(content: &Path, out: &Excluded) -> Result<Self> {
        let real = content.canonicalize().with_context(|| show(content))?;
        let metadata = real.metadata().with_context(|| show(content))?;
        let name = match content.file_name().or_else(|| real.file_name()) {
            Some(name) => utf8(name.as_ref())?,
            None => bail!("{} has no file name to use in the torrent", show(content)),
        };
        if metadata.is_dir() {
            let (mut files, skipped) = walk(&real, out)?;
            files.sort_by(|a, b| a.path.cmp(&b.path));
            return Ok(Self {
                root: real,
                name,
                multi_file: true,
                files,
                skipped,
            });
        }
        if !metadata.is_file() {
            bail!("{} is neither a file nor a directory", show(content));
        }
        if out.is(&real, &metadata) {
            bail!(
                "{} cannot be both the content and the torrent",
                show(content)
            );
        }
        let on_disk = real.file_name().map(PathBuf::from).unwrap_or_default();
        let root = real.parent().map(Path::to_owned).unwrap_or_default();
        let files = vec![FoundFile::new(Vec::new(), on_disk, &metadata)];
        Ok(Self {
            root,
            name,
            multi_file: false,
            files,
            skipped: Skipped::default(),
        })
    }

    /// Sorts the files into the order of `model`; files that it does not list follow.
    pub(crate) fn order_like(&mut self, model: &Metainfo) -> Result<()> {
        let regular = model
            .files
            .iter()
            .filter(|file| file.kind == FileKind::Regular);
        let ranks: HashMap<_, _> = regular
            .enumerate()
            .map(|(rank, file)| (&file.path, rank))
            .collect();
        let known = self
            .files
            .iter()
            .filter(|file| ranks.contains_key(&file.path))
            .count();
        if known < ranks.len() {
            bail!(
                "--order-from lists {} files, but only {known} of them exist",
                ranks.len()
            );
        }
        // The sort is stable, and all unlisted files compare equal.
        self.files
            .sort_by_key(|file| ranks.get(&file.path).copied().unwrap_or(usize::MAX));
        Ok(())
    }

    pub(crate) fn total_bytes(&self) -> Result<u64> {
        let sum = self
            .files
            .iter()
            .try_fold(0u64, |sum, file| sum.checked_add(file.bytes));
        sum.context("the total length of the files exceeds 64 bits")
    }

    /// Fails if a file differs from the scan, because other content may have been hashed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        for file in &self.files {
            let path = self.root.join(&file.on_disk);
            let now = path.symlink_metadata().with_context(|| show(&path))?;
            if now.len() != file.bytes || now.modified().ok() != file.modified {
                bail!("{} changed while the files were hashed", show(&path));
            }
        }
        Ok(())
    }
}

impl FoundFile {
    fn new(path: Vec<OsString>, on_disk: PathBuf, metadata: &Metadata) -> Self {
        Self {
            path,
            on_disk,
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

fn walk(root: &Path, out: &Excluded) -> Result<(Vec<FoundFile>, Skipped)> {
    let mut files = Vec::new();
    let mut skipped = Skipped::default();
    for entry in WalkDir::new(root).min_depth(1) {
        let entry = entry?;
        let kind = entry.file_type();
        if kind.is_dir() {
            continue;
        }
        let metadata = entry.metadata().with_context(|| show(entry.path()))?;
        if out.is(entry.path(), &metadata) {
            continue;
        }
        if kind.is_symlink() {
            skipped.symlinks.push(show(entry.path()));
            continue;
        }
        if !kind.is_file() {
            skipped.special_files.push(show(entry.path()));
            continue;
        }
        let below = entry
            .path()
            .strip_prefix(root)
            .with_context(|| show(entry.path()))?;
        let path = below
            .iter()
            .map(|component| utf8(component.as_ref()))
            .collect::<Result<_>>()
            .with_context(|| show(entry.path()))?;
        files.push(FoundFile::new(path, below.to_owned(), &metadata));
    }
    Ok((files, skipped))
}

fn utf8(name: &Path) -> Result<OsString> {
    match name.to_str() {
        Some(name) => Ok(name.into()),
        None => bail!("torrents need UTF-8 names, but a file is named {name:?}"),
    }
}

fn show(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
