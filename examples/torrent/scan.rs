//! Which files a new torrent consists of.

use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use walkdir::WalkDir;

use crate::metainfo::{FileKind, Metainfo};
use crate::paths::printable;

/// A file or folder as it was found.
pub(crate) struct Scan {
    /// The folder below which the paths of `on_disk` lie.
    pub(crate) root: PathBuf,
    pub(crate) name: String,
    pub(crate) multi_file: bool,
    pub(crate) files: Vec<FoundFile>,
}

/// A regular file.
pub(crate) struct FoundFile {
    /// In the torrent: below its name, and empty for a single file.
    pub(crate) path: Vec<String>,
    /// On disk: below the root.
    pub(crate) on_disk: PathBuf,
    pub(crate) bytes: u64,
    modified: Option<SystemTime>,
}

impl Scan {
    /// Looks at `content`; `out` is not part of it, and `warn` hears of what was skipped.
    pub(crate) fn new(content: &Path, out: &Path, warn: impl FnMut(String)) -> Result<Self> {
        let real = content.canonicalize().with_context(|| show(content))?;
        let metadata = real.metadata().with_context(|| show(content))?;
        let name = match content.file_name().or_else(|| real.file_name()) {
            Some(name) => utf8(name.as_ref())?,
            None => bail!("{} has no name that the torrent could have", show(content)),
        };
        if metadata.is_dir() {
            let mut files = walk(&real, out, warn)?;
            files.sort_by(|a, b| a.path.cmp(&b.path));
            return Ok(Self {
                root: real,
                name,
                multi_file: true,
                files,
            });
        }
        if !metadata.is_file() {
            bail!("{} is neither a file nor a folder", show(content));
        }
        if real == out {
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
        })
    }

    /// Puts the files that `model` has into its order, before the others.
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
                "only {known} of the {} files of the torrent given for the order are there",
                ranks.len()
            );
        }
        // The sort is stable and the unknown ones are equal.
        self.files
            .sort_by_key(|file| ranks.get(&file.path).copied().unwrap_or(usize::MAX));
        Ok(())
    }

    pub(crate) fn total_bytes(&self) -> Result<u64> {
        let sum = self
            .files
            .iter()
            .try_fold(0u64, |sum, file| sum.checked_add(file.bytes));
        sum.context("the files are longer than 64 bits can count")
    }

    /// An error if a file is no longer what was scanned, and so perhaps not what was hashed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        for file in &self.files {
            let path = self.root.join(&file.on_disk);
            let now = path.symlink_metadata().with_context(|| show(&path))?;
            if now.len() != file.bytes || now.modified().ok() != file.modified {
                bail!("{} changed while it was hashed", show(&path));
            }
        }
        Ok(())
    }
}

impl FoundFile {
    fn new(path: Vec<String>, on_disk: PathBuf, metadata: &Metadata) -> Self {
        Self {
            path,
            on_disk,
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

fn walk(root: &Path, out: &Path, mut warn: impl FnMut(String)) -> Result<Vec<FoundFile>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(root).min_depth(1) {
        let entry = entry?;
        let kind = entry.file_type();
        if kind.is_dir() || entry.path() == out {
            continue;
        }
        if !kind.is_file() {
            let what = if kind.is_symlink() {
                "symbolic link"
            } else {
                "special file"
            };
            warn(format!("{what} skipped: {}", show(entry.path())));
            continue;
        }
        let metadata = entry.metadata().with_context(|| show(entry.path()))?;
        let below = entry
            .path()
            .strip_prefix(root)
            .with_context(|| show(entry.path()))?;
        let path = below.iter().map(|component| utf8(component.as_ref()));
        let path = path
            .collect::<Result<_>>()
            .with_context(|| show(entry.path()))?;
        files.push(FoundFile::new(path, below.to_owned(), &metadata));
    }
    Ok(files)
}

fn utf8(name: &Path) -> Result<String> {
    match name.to_str() {
        Some(name) => Ok(name.to_owned()),
        None => bail!("the name {name:?} is not UTF-8, as torrents need it"),
    }
}

fn show(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
