//! Changing the shape of a group: growing, releasing, moving. Adding files is in `builder`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builder::absolute;
use super::entry::Body;
use super::error::SpanError;
use super::group::Group;
use crate::mapping_cache::CachedFile;

impl Group {
    /// Makes the last file of the group longer. The file itself grows when it is written.
    ///
    /// # Errors
    ///
    /// [`SpanError::NoSuchFile`] when the last entry is no file; [`SpanError::Argument`] when
    /// `declared_bytes` is less than now; [`SpanError::TooLong`]; [`SpanError::Entry`] past 2^63 - 1
    /// bytes. Then the group is as before.
    pub fn grow_last(&mut self, declared_bytes: u64) -> Result<(), SpanError> {
        let entries = self.entries.len();
        let missing = SpanError::NoSuchFile {
            entry: entries.saturating_sub(1),
            entries,
        };
        let Some(last) = self.entries.last_mut() else {
            return Err(missing);
        };
        let path = last.path.clone();
        let Body::File { file, start, .. } = &mut last.body else {
            return Err(missing);
        };
        let end = start.checked_add(declared_bytes);
        let end = end.filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or(SpanError::Entry {
            entry: entries - 1,
            path,
            reason: "it would reach past 2^63 - 1 bytes",
        })?;
        if end < file.declared_bytes() {
            return Err(SpanError::Argument {
                argument: "declared_bytes",
                reason: format!("{declared_bytes} is less than now; files only grow"),
            });
        }
        self.layout.resize_last(declared_bytes)?;
        file.declare(end)?;
        Ok(())
    }

    /// Syncs a file, unmaps all of it and closes it, so that it may be renamed, replaced or deleted.
    /// The next use takes whatever is at its path then. Entries of the same path are released with it.
    ///
    /// # Errors
    ///
    /// [`SpanError::NoSuchFile`]; `SyncFailed`; `WindowPinned`.
    pub fn release_file(&mut self, entry: usize) -> Result<(), SpanError> {
        let path = match self.entries.get(entry).and_then(|entry| entry.file()) {
            Some(file) => file.location().path().to_path_buf(),
            None => return Err(self.no_such_file(entry)),
        };
        for file in self.files_at(&path) {
            file.release()?;
        }
        Ok(())
    }

    /// Gives up what a file was and what happened to it, without syncing: for a file whose sync has
    /// failed or that somebody has cut, once the caller has decided what to do about it.
    ///
    /// # Errors
    ///
    /// [`SpanError::NoSuchFile`]; `WindowPinned`.
    pub fn abandon_file(&mut self, entry: usize) -> Result<(), SpanError> {
        let path = match self.entries.get(entry).and_then(|entry| entry.file()) {
            Some(file) => file.location().path().to_path_buf(),
            None => return Err(self.no_such_file(entry)),
        };
        for file in self.files_at(&path) {
            file.abandon()?;
        }
        Ok(())
    }

    /// Removes the file of an entry, with all that was not synced; entries of the same path give it up with it. The
    /// entry stays: its file is missing. Durable with the next [`sync_all`](Self::sync_all).
    ///
    /// # Errors
    ///
    /// [`SpanError::NoSuchFile`]; `Busy`, `WindowPinned`, `ReadOnly`, `Missing`.
    pub fn remove_file(&mut self, entry: usize) -> Result<(), SpanError> {
        let path = match self.entries.get(entry).and_then(|entry| entry.file()) {
            Some(file) => file.location().path().to_path_buf(),
            None => return Err(self.no_such_file(entry)),
        };
        let mut files = self.files_at(&path);
        if let Some(first) = files.next() {
            first.remove()?;
        }
        for file in files {
            file.abandon()?;
        }
        Ok(())
    }

    /// Somebody has renamed the root directory, with all files of the group in it: the group goes on as it is, with
    /// what is mapped, borrowed and not yet synced. A relative path is seen from the present directory.
    ///
    /// # Errors
    ///
    /// [`SpanError::Argument`] for a group that may leave its root, and for a path that cannot be one.
    pub fn follow_root(&mut self, root: impl Into<PathBuf>) -> Result<(), SpanError> {
        if self.outside_root {
            return Err(SpanError::Argument {
                argument: "root",
                reason: "a group with paths outside its root does not follow it".to_owned(),
            });
        }
        let new_root: Arc<Path> = Arc::from(absolute(root.into())?);
        let old_root = std::mem::replace(&mut self.root, new_root.clone());
        for file in self.entries.iter_mut().filter_map(|entry| entry.file_mut()) {
            file.follow(&old_root, &new_root);
        }
        Ok(())
    }

    /// Moves all files of the group to another root directory, which must exist; files that are
    /// missing are left out, folders are made as needed, and folders left empty are removed. On the
    /// same filesystem files are renamed, otherwise copied and removed. Nothing is replaced.
    ///
    /// Syncs what was written. If a file cannot be moved, those that were are moved back; if only the
    /// folders cannot be synced at the end, the group is at the new root and the error says `SyncFailed`.
    ///
    /// # Errors
    ///
    /// [`SpanError::Argument`] for a group that may leave its root; what releasing, renaming or
    /// copying a file returns, `AlreadyExists` among them.
    pub fn move_to(&mut self, root: impl Into<PathBuf>) -> Result<(), SpanError> {
        if self.outside_root {
            return Err(SpanError::Argument {
                argument: "root",
                reason: "a group with paths outside its root cannot be moved".to_owned(),
            });
        }
        self.sync_all()?;
        let old_root = self.root.clone();
        let new_root: Arc<Path> = Arc::from(absolute(root.into())?);
        let files = self.entries.iter().filter_map(|entry| entry.file());
        let paths: BTreeSet<_> = files
            .map(|file| file.location().path().to_path_buf())
            .collect();
        let mut moved: Vec<PathBuf> = Vec::new();
        for path in paths {
            if let Err(error) = self.move_path(&path, &new_root) {
                for path in moved.iter().rev() {
                    // Back to where it just was; the first error is the one to report.
                    let _ = self.move_path(path, &old_root);
                }
                return Err(error);
            }
            moved.push(path);
        }
        self.root = new_root;
        remove_empty_folders(&old_root, &moved);
        Ok(self.directories.sync()?)
    }

    /// Moves the file at a path, and tells all entries of that path.
    fn move_path(&mut self, path: &Path, root: &Arc<Path>) -> Result<(), SpanError> {
        // All let go of it first; the first then moves it for all.
        for file in self.files_at(path) {
            file.release()?;
        }
        let mut files = self.files_at(path);
        if let Some(first) = files.next() {
            first.move_to(first.location().moved_to(root.clone()))?;
        }
        for file in files {
            file.relocate(file.location().moved_to(root.clone()))?;
        }
        Ok(())
    }

    fn files_at(&mut self, path: &Path) -> impl Iterator<Item = &mut CachedFile> {
        let files = self.entries.iter_mut().filter_map(|entry| entry.file_mut());
        files.filter(move |file| file.location().path() == path)
    }
}

/// Removes the folders beneath the root that the files left empty, innermost first.
fn remove_empty_folders(root: &Path, files: &[PathBuf]) {
    let folders: BTreeSet<&Path> = files
        .iter()
        .flat_map(|file| file.ancestors().skip(1))
        .filter(|folder| !folder.as_os_str().is_empty())
        .collect();
    // A folder sorts before what is in it.
    for folder in folders.into_iter().rev() {
        // One that is not empty stays, as it should.
        let _ = std::fs::remove_dir(root.join(folder));
    }
}
