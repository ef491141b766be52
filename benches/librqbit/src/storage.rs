//! librqbit's storage trait over a group of files.

use std::fs;
use std::io::{ErrorKind, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, ensure};
use flatspan::mapping_cache::Access;
use flatspan::span::{Entry, EntryKind, Group, GroupError};
use librqbit::file_info::FileInfo;
use librqbit::storage::{
    BoxStorageFactory, StorageFactory, StorageFactoryExt as _, TorrentStorage,
};
use librqbit::{ManagedTorrentShared, TorrentMetadata};

/// Creates the storage of one torrent below a directory. librqbit keeps the output directory of a
/// torrent to itself, so a factory serves one torrent.
#[derive(Clone, Debug)]
pub(crate) struct GroupStorageFactory {
    pub(crate) root: PathBuf,
    /// Whether files that exist are used.
    pub(crate) overwrite: bool,
}

impl StorageFactory for GroupStorageFactory {
    type Storage = GroupStorage;

    fn create(
        &self,
        _shared: &ManagedTorrentShared,
        metadata: &TorrentMetadata,
    ) -> anyhow::Result<GroupStorage> {
        GroupStorage::open(&self.root, &metadata.file_infos, self.overwrite)
    }

    fn clone_box(&self) -> BoxStorageFactory {
        self.clone().boxed()
    }
}

/// Files of a torrent as a group. Each file of the torrent is the entry of the same number.
#[derive(Debug)]
pub(crate) struct GroupStorage {
    root: PathBuf,
    overwrite: bool,
    /// The range of each file in the group.
    ranges: Arc<[Range<u64>]>,
    /// `None` after the group was taken. Locked for writing to remove a file or to take the group.
    group: RwLock<Option<Group>>,
}

impl GroupStorage {
    pub(crate) fn open(root: &Path, files: &[FileInfo], overwrite: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("creating {}", root.display()))?;
        let entries = files.iter().map(|file| match file.attrs.padding {
            true => Entry::padding(file.len),
            false => Entry::file(&file.relative_filename, file.len),
        });
        let group = Group::builder(root)
            .access(Access::ReadWrite)
            .create(true)
            .entries(entries)
            .open()?;
        Ok(Self {
            root: root.to_owned(),
            overwrite,
            ranges: group.entries().map(|entry| entry.range).collect(),
            group: RwLock::new(Some(group)),
        })
    }

    /// Creates the files that are missing. Without `overwrite`, a file that exists is an error.
    pub(crate) fn create_files(&self) -> anyhow::Result<()> {
        self.with_group(|group| {
            for (number, entry) in group.entries().enumerate() {
                // Opening the group created the empty files.
                if entry.kind == EntryKind::Padding || entry.range.is_empty() {
                    continue;
                }
                match group.create_file(number) {
                    Err(error) if self.overwrite && error.kind() == ErrorKind::AlreadyExists => {}
                    done => done?,
                }
            }
            Ok(())
        })
    }

    fn with_group<T>(&self, work: impl FnOnce(&Group) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let group = self.group.read().unwrap_or_else(PoisonError::into_inner);
        work(group.as_ref().context("the storage was taken")?)
    }

    /// Does work at an offset of a file, which is given as an offset of the group.
    fn at<T>(
        &self,
        file: usize,
        offset: u64,
        len: usize,
        work: impl FnOnce(&Group, u64) -> Result<T, GroupError>,
    ) -> anyhow::Result<T> {
        let range = self.ranges.get(file);
        let range = range.with_context(|| format!("there is no file {file}"))?;
        let end = offset.checked_add(len as u64);
        ensure!(
            end.is_some_and(|end| end <= range.end - range.start),
            "{len} bytes at {offset} exceed file {file}"
        );
        self.with_group(|group| Ok(work(group, range.start + offset)?))
    }
}

impl TorrentStorage for GroupStorage {
    fn init(
        &mut self,
        _shared: &ManagedTorrentShared,
        _metadata: &TorrentMetadata,
    ) -> anyhow::Result<()> {
        self.create_files()
    }

    fn pread_exact(&self, file_id: usize, offset: u64, buf: &mut [u8]) -> anyhow::Result<()> {
        self.at(file_id, offset, buf.len(), |group, start| {
            group.read_exact_at(start, buf)
        })
    }

    fn pwrite_all(&self, file_id: usize, offset: u64, buf: &[u8]) -> anyhow::Result<()> {
        self.at(file_id, offset, buf.len(), |group, start| {
            group.write_all_at(start, buf)
        })
    }

    fn pwrite_all_vectored(
        &self,
        file_id: usize,
        offset: u64,
        bufs: [IoSlice<'_>; 2],
    ) -> anyhow::Result<usize> {
        let len = bufs[0].len() + bufs[1].len();
        self.at(file_id, offset, len, |group, start| {
            group.write_all_vectored_at(start, &bufs)?;
            Ok(len)
        })
    }

    fn remove_file(&self, file_id: usize, _filename: &Path) -> anyhow::Result<()> {
        let mut group = self.group.write().unwrap_or_else(PoisonError::into_inner);
        let group = group.as_mut().context("the storage was taken")?;
        Ok(group.remove_file(file_id)?)
    }

    fn remove_directory_if_empty(&self, path: &Path) -> anyhow::Result<()> {
        let path = self.root.join(path);
        match fs::remove_dir(&path) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            done => done.with_context(|| format!("removing {}", path.display())),
        }
    }

    fn ensure_file_length(&self, file_id: usize, length: u64) -> anyhow::Result<()> {
        self.with_group(|group| Ok(group.set_file_len(file_id, length)?))
    }

    fn take(&self) -> anyhow::Result<Box<dyn TorrentStorage>> {
        let mut group = self.group.write().unwrap_or_else(PoisonError::into_inner);
        let group = group.take().context("the storage was taken")?;
        Ok(Box::new(Self {
            root: self.root.clone(),
            overwrite: self.overwrite,
            ranges: Arc::clone(&self.ranges),
            group: RwLock::new(Some(group)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use librqbit::FileDetailsAttrs;
    use tempfile::TempDir;

    use super::*;

    fn file(name: &str, len: u64, padding: bool) -> FileInfo {
        FileInfo {
            relative_filename: name.into(),
            // The storage takes the offsets from the order and the lengths.
            offset_in_torrent: 0,
            piece_range: 0..0,
            attrs: FileDetailsAttrs {
                padding,
                ..Default::default()
            },
            len,
        }
    }

    /// "a" of 5 bytes, padding of 3 bytes, "deep/b" of 4 bytes, "empty".
    fn storage(dir: &TempDir, overwrite: bool) -> anyhow::Result<GroupStorage> {
        let files = [
            file("a", 5, false),
            file(".pad/3", 3, true),
            file("deep/b", 4, false),
            file("empty", 0, false),
        ];
        let storage = GroupStorage::open(dir.path(), &files, overwrite)?;
        storage.create_files()?;
        Ok(storage)
    }

    #[test]
    fn reads_and_writes_are_relative_to_their_file_and_stay_inside() {
        let dir = TempDir::new().expect("a directory");
        let storage = storage(&dir, false).expect("new files");
        let parts = [IoSlice::new(b"wo"), IoSlice::new(b"rd")];
        let written = storage.pwrite_all_vectored(2, 0, parts);
        assert_eq!(written.expect("inside"), 4);
        storage.pwrite_all(0, 1, b"ello").expect("inside");
        assert_eq!(fs::read(dir.path().join("deep/b")).expect("a file"), b"word");
        assert_eq!(fs::read(dir.path().join("a")).expect("a file"), b"\0ello");
        let mut found = [0; 3];
        storage.pread_exact(2, 1, &mut found).expect("inside");
        assert_eq!(&found, b"ord");

        storage.pwrite_all(0, 2, b"long").expect_err("past the end of the file");
        storage.pwrite_all(0, u64::MAX, b"!").expect_err("past the end of the file");
        storage.pread_exact(2, 2, &mut found).expect_err("past the end of the file");
        storage.pread_exact(4, 0, &mut []).expect_err("no such file");
        assert_eq!(fs::read(dir.path().join("a")).expect("a file"), b"\0ello");
        assert!(!dir.path().join(".pad").exists());
    }

    #[test]
    fn files_that_exist_are_used_only_with_overwrite() {
        let dir = TempDir::new().expect("a directory");
        fs::write(dir.path().join("a"), b"longer than declared").expect("a file");
        storage(&dir, false).expect_err("a file exists");
        let storage = storage(&dir, true).expect("the file is used");
        storage.ensure_file_length(0, 5).expect("shortened");
        storage.ensure_file_length(2, 4).expect("extended");
        assert_eq!(fs::read(dir.path().join("a")).expect("a file"), b"longe");
        assert_eq!(fs::read(dir.path().join("deep/b")).expect("a file"), [0; 4]);
    }

    #[test]
    fn a_taken_storage_works_and_the_old_one_refuses() {
        let dir = TempDir::new().expect("a directory");
        let old = storage(&dir, false).expect("new files");
        old.pwrite_all(0, 0, b"bytes").expect("inside");
        let new = old.take().expect("the group");
        let mut found = [0; 5];
        old.pread_exact(0, 0, &mut found).expect_err("taken");
        old.take().err().expect("taken");
        new.pread_exact(0, 0, &mut found).expect("inside");
        assert_eq!(&found, b"bytes");
    }

    #[test]
    fn removal_leaves_nothing_behind() {
        let dir = TempDir::new().expect("a directory");
        let root = dir.path().join("torrent");
        fs::create_dir(&root).expect("a directory");
        // librqbit removes no padding.
        let files = [file("deep/b", 4, false), file("empty", 0, false)];
        let storage = GroupStorage::open(&root, &files, false).expect("a group");
        storage.create_files().expect("new files");
        storage.remove_directory_if_empty(Path::new("deep")).expect("left alone");
        assert!(root.join("deep/b").exists());
        for (number, file) in files.iter().enumerate() {
            let removed = storage.remove_file(number, &file.relative_filename);
            removed.expect("removed");
        }
        storage.remove_directory_if_empty(Path::new("deep")).expect("empty");
        storage.remove_directory_if_empty(Path::new("")).expect("empty");
        assert!(!root.exists());
    }
}
