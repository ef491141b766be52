//! The directory of a store that is being made: under a temporary name until it is whole (hazard 19).

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::group_disk::in_context;
use crate::sys::{openat2::sync_directory, rename::rename_directory};

/// A directory beside the place it is for, named `.NAME.new-<pid>-<random>`. Dropped before it was published, it is
/// removed with all that is in it, and the parents that were made for it.
///
/// What a process leaves that was killed stays: it is nobody's store, and may be deleted by hand.
#[derive(Debug)]
pub(super) struct NewPlace {
    temporary: PathBuf,
    target: PathBuf,
    /// Parents that were missing, outermost first.
    made: Vec<PathBuf>,
    /// The directory is there, under its temporary name.
    is_made: bool,
    published: bool,
}

impl NewPlace {
    /// Makes the directory. `AlreadyExists` if there is anything at `target` but an empty directory.
    pub(super) fn make(target: &Path) -> io::Result<Self> {
        let target = std::path::absolute(target)?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        refuse_taken(&target)?;
        let random = RandomState::new().build_hasher().finish();
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".new-{}-{random:016x}", std::process::id()));
        let mut place = Self {
            temporary: parent.join(temporary),
            made: Vec::new(),
            is_made: false,
            published: false,
            target: target.clone(),
        };
        place.make_parents(parent)?;
        fs::create_dir(&place.temporary)
            .map_err(|error| in_context(&place.temporary, "create it", &error))?;
        place.is_made = true;
        Ok(place)
    }

    /// Where the directory is now.
    pub(super) fn dir(&self) -> &Path {
        if self.published {
            &self.target
        } else {
            &self.temporary
        }
    }

    /// Gives the directory its name, durably, and does nothing if something else has it. Also when only the sync fails
    /// at the end it stays at its new place: look at [`dir`](Self::dir).
    pub(super) fn publish(&mut self) -> io::Result<()> {
        sync(&self.temporary)?;
        rename_directory(&self.temporary, &self.target)
            .map_err(|error| in_context(&self.target, "give the new store this name", &error))?;
        self.published = true;
        sync_above(&self.target)
    }

    fn make_parents(&mut self, parent: &Path) -> io::Result<()> {
        let missing = |dir: &&Path| !dir.exists();
        let missing: Vec<_> = parent.ancestors().take_while(missing).collect();
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Ok(()) => self.made.push(dir.to_path_buf()),
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(in_context(dir, "create it", &error)),
            }
        }
        Ok(())
    }
}

/// Makes the way to a directory durable: its name, and that of every folder above it on the same filesystem.
///
/// Any of them may be new and not synced, whoever made or moved it: one that is there when we look may have been made by a
/// process that was killed at once. So none is left out for being there already. Folders that may not be read cannot be
/// synced by us, and are passed over.
pub(super) fn sync_above(dir: &Path) -> io::Result<()> {
    let named = std::path::absolute(dir)?;
    let real = fs::canonicalize(dir).map_err(|error| in_context(dir, "find it", &error))?;
    let above = |path: &Path| path.ancestors().skip(1).map(Path::to_path_buf).collect();
    let mut rows: Vec<Vec<PathBuf>> = vec![above(&real)];
    if named != real {
        // The names of links are on the way, too.
        rows.push(above(&named));
    }
    let filesystem = filesystem_of(&real)?;
    for row in rows {
        for folder in row {
            if filesystem_of(&folder)? != filesystem {
                break;
            }
            match sync(&folder) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
    }
    Ok(())
}

fn filesystem_of(dir: &Path) -> io::Result<u64> {
    let found = fs::metadata(dir);
    let found = found.map_err(|error| in_context(dir, "ask what is there", &error))?;
    Ok(found.dev())
}

fn sync(dir: &Path) -> io::Result<()> {
    sync_directory(dir).map_err(|error| in_context(dir, "sync the directory", &error))
}

impl Drop for NewPlace {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        // Nobody is left to be told; what stays has a name that says what it is.
        if self.is_made {
            let _ = fs::remove_dir_all(&self.temporary);
        }
        for made in self.made.iter().rev() {
            let _ = fs::remove_dir(made);
        }
    }
}

/// Asked early, for the sake of who would fill the store in vain; publishing asks again.
fn refuse_taken(target: &Path) -> io::Result<()> {
    let is_free = match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(in_context(target, "ask what is there", &error)),
        Ok(found) => found.is_dir() && fs::read_dir(target)?.next().is_none(),
    };
    if is_free {
        return Ok(());
    }
    let error = io::ErrorKind::AlreadyExists.into();
    Err(in_context(target, "make a store there", &error))
}
