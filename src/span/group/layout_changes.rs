//! Changes of a group itself: growing its last file, closing, removing and moving files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builder::absolute;
use super::entry::EntryBody;
use super::group::Group;
use crate::mapping_cache::CachedFile;
use crate::span::error::GroupError;

impl Group {
    /// Increases the declared length of the last file. The file itself grows when it is written.
    ///
    /// # Errors
    ///
    /// The group is unchanged on error.
    ///
    /// - [`GroupError::NoSuchEntry`] if the last entry is padding, or if there is no entry.
    /// - [`GroupError::InvalidArgument`] if `declared_bytes` is less than the declared length.
    /// - [`GroupError::LengthOverflow`] if the group would exceed 2^64 - 1 bytes.
    /// - [`GroupError::InvalidEntry`] if the file would exceed 2^63 - 1 bytes.
    pub fn grow_last_file(&mut self, declared_bytes: u64) -> Result<(), GroupError> {
        let entries = self.entries.len();
        let no_such_file = GroupError::NoSuchEntry {
            entry: entries.saturating_sub(1),
            entries,
        };
        let Some(last) = self.entries.last_mut() else {
            return Err(no_such_file);
        };
        let path = last.path.clone();
        let EntryBody::File { file, start, .. } = &mut last.body else {
            return Err(no_such_file);
        };
        let end = start.checked_add(declared_bytes);
        let Some(end) = end.filter(|end| i64::try_from(*end).is_ok()) else {
            return Err(GroupError::InvalidEntry {
                entry: entries - 1,
                path,
                reason: "it would end after 2^63 - 1 bytes",
            });
        };
        if end < file.declared_bytes() {
            return Err(GroupError::InvalidArgument {
                argument: "declared_bytes",
                reason: format!("{declared_bytes} is less than the declared length"),
            });
        }
        self.layout.resize_last(declared_bytes)?;
        file.set_declared_bytes(end)?;
        Ok(())
    }

    /// Closes a file after a sync and unmaps it, so that it can be renamed, replaced or deleted.
    ///
    /// The next use opens the file that its path names then. All entries with the same path are
    /// closed.
    ///
    /// # Errors
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist or is padding.
    /// - [`GroupError::File`] if the sync fails or a window of the file is pinned.
    pub fn close_file(&mut self, entry: usize) -> Result<(), GroupError> {
        let path = self.relative_path(entry)?;
        for file in self.files_at(&path) {
            file.close()?;
        }
        Ok(())
    }

    /// Closes a file without syncing it and clears its failed state.
    ///
    /// This is for a file whose sync failed, or that another process truncated, after the caller
    /// has decided how to continue.
    ///
    /// # Errors
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist or is padding.
    /// - [`GroupError::File`] if a window of the file is pinned.
    pub fn close_file_without_sync(&mut self, entry: usize) -> Result<(), GroupError> {
        let path = self.relative_path(entry)?;
        for file in self.files_at(&path) {
            file.close_without_sync()?;
        }
        Ok(())
    }

    /// Removes the file of an entry, including data that was not synced.
    ///
    /// The entry remains, with a missing file. So do other entries with the same path. The removal
    /// is durable after the next [`sync_all`](Self::sync_all).
    ///
    /// # Errors
    ///
    /// - [`GroupError::NoSuchEntry`] if the entry does not exist or is padding.
    /// - [`GroupError::File`] if the range is locked, a window is pinned, the group is read-only or
    ///   the file is missing.
    pub fn remove_file(&mut self, entry: usize) -> Result<(), GroupError> {
        let path = self.relative_path(entry)?;
        let mut files = self.files_at(&path);
        if let Some(first) = files.next() {
            first.remove()?;
        }
        for file in files {
            file.forget();
        }
        Ok(())
    }

    /// Updates the root after the caller renamed that directory, with all files of the group in it.
    ///
    /// Mappings, spans and data that is not synced stay valid. A relative path is resolved against
    /// the current directory.
    ///
    /// # Errors
    ///
    /// - [`GroupError::InvalidArgument`] if the group may have files outside its root, or if `root`
    ///   cannot be a path.
    pub(crate) fn set_root(&mut self, root: impl Into<PathBuf>) -> Result<(), GroupError> {
        self.refuse_outside_root()?;
        let new_root: Arc<Path> = Arc::from(absolute(&root.into())?);
        let old_root = std::mem::replace(&mut self.root, Arc::clone(&new_root));
        for file in self.entries.iter_mut().filter_map(|entry| entry.file_mut()) {
            file.follow(&new_root);
        }
        self.cache.directory_renamed(&old_root, &new_root);
        Ok(())
    }

    /// Moves all files of the group to another root directory, which must exist.
    ///
    /// Files on the same filesystem are renamed, others are copied and removed. No file is
    /// replaced, and missing files are skipped. Directories are created as needed, and directories
    /// that become empty are removed.
    ///
    /// All data is synced. If a file cannot be moved, the files before it are moved back. If only
    /// the sync of the directories fails at the end, the group uses the new root and the error is
    /// [`MappingError::SyncFailed`](crate::mapping_cache::MappingError::SyncFailed).
    ///
    /// # Errors
    ///
    /// - [`GroupError::InvalidArgument`] if the group may have files outside its root, or if `root`
    ///   cannot be a path.
    /// - [`GroupError::File`] if a file cannot be closed, renamed or copied, or exists at its new
    ///   path.
    pub fn move_files_to(&mut self, root: impl Into<PathBuf>) -> Result<(), GroupError> {
        self.refuse_outside_root()?;
        self.sync_all()?;
        let old_root = Arc::clone(&self.root);
        let new_root: Arc<Path> = Arc::from(absolute(&root.into())?);
        let mut paths: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        for (number, entry) in self.entries.iter().enumerate() {
            if let Some(file) = entry.file() {
                let path = file.location().path().to_path_buf();
                paths.entry(path).or_default().push(number);
            }
        }
        for (done, entries) in paths.values().enumerate() {
            if let Err(error) = self.move_file_of(entries, &new_root) {
                for entries in paths.values().take(done).rev() {
                    // Report the first error, not one of moving files back.
                    drop(self.move_file_of(entries, &old_root));
                }
                return Err(error);
            }
        }
        self.root = new_root;
        remove_empty_directories(&old_root, paths.keys());
        Ok(self.cache.sync_directories()?)
    }

    /// Moves the file of entries that have the same path.
    fn move_file_of(&mut self, entries: &[usize], root: &Arc<Path>) -> Result<(), GroupError> {
        // Everything that can fail comes before the rename.
        for entry in entries {
            if let Some(file) = self.entries[*entry].file_mut() {
                file.close()?;
            }
        }
        for (index, entry) in entries.iter().enumerate() {
            let Some(file) = self.entries[*entry].file_mut() else {
                continue;
            };
            let location = file.location().with_root(Arc::clone(root));
            if index == 0 {
                file.rename_to(location)?;
            } else {
                file.set_location(location);
            }
        }
        Ok(())
    }

    /// The path of an entry's file, relative to the root.
    fn relative_path(&self, entry: usize) -> Result<PathBuf, GroupError> {
        match self.entries.get(entry).and_then(|entry| entry.file()) {
            Some(file) => Ok(file.location().path().to_path_buf()),
            None => Err(self.no_such_file(entry)),
        }
    }

    fn files_at(&mut self, path: &Path) -> impl Iterator<Item = &mut CachedFile> {
        let files = self.entries.iter_mut().filter_map(|entry| entry.file_mut());
        files.filter(move |file| file.location().path() == path)
    }

    fn refuse_outside_root(&self) -> Result<(), GroupError> {
        if self.outside_root {
            return Err(GroupError::InvalidArgument {
                argument: "root",
                reason: "a group with `allow_outside_root(true)` cannot change its root".to_owned(),
            });
        }
        Ok(())
    }
}

/// Removes the directories below the root that became empty, innermost first.
fn remove_empty_directories<'p>(root: &Path, files: impl Iterator<Item = &'p PathBuf>) {
    let directories: BTreeSet<&Path> = files
        .flat_map(|file| file.ancestors().skip(1))
        .filter(|directory| !directory.as_os_str().is_empty())
        .collect();
    // A directory sorts before its contents.
    for directory in directories.into_iter().rev() {
        // Fails for a directory that is not empty, which stays.
        drop(std::fs::remove_dir(root.join(directory)));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs;

    use super::*;
    use crate::mapping_cache::Access;

    #[test]
    fn a_renamed_root_keeps_data_that_is_not_synced() {
        let directory = tempfile::tempdir().expect("a directory");
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        fs::create_dir(&old).expect("mkdir");
        let content: Vec<u8> = (0..100).collect();
        let mut group = Group::builder(&old)
            .access(Access::ReadWrite)
            .create(true)
            .file("deep/a", 100)
            .open()
            .expect("a group");
        group.write_all_at(0, &content).expect("a write");
        let unsynced = group.stats().dirty_files;
        fs::rename(&old, &new).expect("renamed");
        group.set_root(&new).expect("followed");
        assert_eq!(group.root(), new);
        assert_eq!(group.stats().dirty_files, unsynced);
        group.sync_all().expect("under the new names");
        group.write_all_at(0, b"later").expect("a write");
        drop(group);
        let group = Group::builder(&new).existing_file("deep/a");
        let mut found = vec![0; 100];
        group
            .open()
            .expect("a group")
            .read_exact_at(0, &mut found)
            .expect("a read");
        assert!(found[..5] == *b"later" && found[5..] == content[5..]);
    }
}
