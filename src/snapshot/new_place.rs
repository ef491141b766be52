//! The directory of a store that is being made: under a temporary name until it is whole (hazard 19).

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use super::group_disk::in_context;
use crate::sys::{open::sync_directory, relocate::rename_directory};

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
        let parent = self.target.parent().unwrap_or(Path::new("/"));
        let sync = |dir: &Path| {
            sync_directory(dir).map_err(|error| in_context(dir, "sync the directory", &error))
        };
        sync(&self.temporary)?;
        rename_directory(&self.temporary, &self.target)
            .map_err(|error| in_context(&self.target, "give the new store this name", &error))?;
        self.published = true;
        sync(parent)?;
        let above = self.made.iter().rev().filter_map(|made| made.parent());
        above.into_iter().try_for_each(sync)
    }

    fn make_parents(&mut self, parent: &Path) -> io::Result<()> {
        let missing = |dir: &&Path| !dir.exists();
        let missing: Vec<_> = parent.ancestors().take_while(missing).collect();
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Ok(()) => self.made.push(dir.to_path_buf()),
                // Somebody else was faster; it is theirs, and not durable for that.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(in_context(dir, "create it", &error)),
            }
        }
        Ok(())
    }
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
