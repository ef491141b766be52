//! Directory of a new store: it has a temporary name until it is complete [I19].

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::io_context::in_context;
use crate::sys::{openat2::sync_directory, rename::rename_directory};

/// Temporary directory next to its final path, named `.NAME.new-<pid>-<random>`.
///
/// Dropping it before it is published removes it with its content and the parents that were created
/// for it. A directory that a killed process left is not reused and can be deleted by hand.
#[derive(Debug)]
pub(super) struct StagingDirectory {
    temporary: PathBuf,
    target: PathBuf,
    /// Parents that were created, outermost first.
    created_parents: Vec<PathBuf>,
    /// Whether the temporary directory was created.
    is_created: bool,
    is_published: bool,
}

impl StagingDirectory {
    /// Creates the directory. Fails with `AlreadyExists` if `target` exists and is not an empty
    /// directory.
    pub(super) fn create(target: &Path) -> io::Result<Self> {
        let target = std::path::absolute(target)?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        refuse_existing(&target)?;
        let random = RandomState::new().build_hasher().finish();
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".new-{}-{random:016x}", std::process::id()));
        let mut staging = Self {
            temporary: parent.join(temporary),
            created_parents: Vec::new(),
            is_created: false,
            is_published: false,
            target: target.clone(),
        };
        staging.create_parents(parent)?;
        fs::create_dir(&staging.temporary)
            .map_err(|error| in_context(&staging.temporary, "create it", &error))?;
        staging.is_created = true;
        Ok(staging)
    }

    /// Returns the present path of the directory.
    pub(super) fn dir(&self) -> &Path {
        if self.is_published {
            &self.target
        } else {
            &self.temporary
        }
    }

    /// Renames the directory to its final path, durably. Does nothing if that path exists.
    ///
    /// If only the final sync fails, the directory keeps its new path, which [`dir`](Self::dir)
    /// returns.
    pub(super) fn publish(&mut self) -> io::Result<()> {
        sync(&self.temporary)?;
        rename_directory(&self.temporary, &self.target)
            .map_err(|error| in_context(&self.target, "rename the new store to it", &error))?;
        self.is_published = true;
        sync_above(&self.target)
    }

    fn create_parents(&mut self, parent: &Path) -> io::Result<()> {
        let missing = |dir: &&Path| !dir.exists();
        let missing: Vec<_> = parent.ancestors().take_while(missing).collect();
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Ok(()) => self.created_parents.push(dir.to_path_buf()),
                // Another process created it at the same time.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(in_context(dir, "create it", &error)),
            }
        }
        Ok(())
    }
}

/// Makes the path of a directory durable: the entries of the directory and of its ancestors on the
/// same filesystem.
///
/// Another process may have created or moved any of them and may have been killed before it synced.
/// Existing ancestors are therefore synced, too. Ancestors without read permission are skipped.
pub(crate) fn sync_above(dir: &Path) -> io::Result<()> {
    let named = std::path::absolute(dir)?;
    let real = fs::canonicalize(dir).map_err(|error| in_context(dir, "resolve it", &error))?;
    let above = |path: &Path| path.ancestors().skip(1).map(Path::to_path_buf).collect();
    let mut paths: Vec<Vec<PathBuf>> = vec![above(&real)];
    if named != real {
        // The path has symbolic links, whose entries must be durable as well.
        paths.push(above(&named));
    }
    let filesystem = filesystem_of(&real)?;
    for path in paths {
        for directory in path {
            if filesystem_of(&directory)? != filesystem {
                break;
            }
            match sync(&directory) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
    }
    Ok(())
}

fn filesystem_of(dir: &Path) -> io::Result<u64> {
    let metadata = fs::metadata(dir);
    let metadata = metadata.map_err(|error| in_context(dir, "get its metadata", &error))?;
    Ok(metadata.dev())
}

fn sync(dir: &Path) -> io::Result<()> {
    sync_directory(dir).map_err(|error| in_context(dir, "sync the directory", &error))
}

impl Drop for StagingDirectory {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        // Drop cannot report errors. The name of a directory that stays explains what it is.
        if self.is_created {
            drop(fs::remove_dir_all(&self.temporary));
        }
        for parent in self.created_parents.iter().rev() {
            drop(fs::remove_dir(parent));
        }
    }
}

/// Fails early if the target exists, before the new store is filled. Publishing checks it again.
fn refuse_existing(target: &Path) -> io::Result<()> {
    let is_free = match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(in_context(target, "get its metadata", &error)),
        Ok(found) => found.is_dir() && fs::read_dir(target)?.next().is_none(),
    };
    if is_free {
        return Ok(());
    }
    let error = io::ErrorKind::AlreadyExists.into();
    Err(in_context(target, "create a store there", &error))
}
