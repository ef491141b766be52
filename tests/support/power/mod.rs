//! Filesystem whose power can be cut: synced data survives, other data does not, or only in part.
//!
//! A separate process serves the filesystem ([`FuseFs`]). It is mounted again after each cut, so
//! that the kernel's caches answer nothing. [`image`] describes what survives a cut.

mod files;
mod image;
mod medium;
mod orders;
mod server;

use std::path::Path;

pub(super) use self::orders::serve;
use super::fuse::{FuseFs, POWER};

/// Syncs that report success without doing anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lie {
    #[default]
    Never,
    /// Syncs of every file and directory.
    Always,
    /// Syncs of files with `journal` in their names.
    OfJournals,
    /// Syncs of files with `heap` in their names.
    OfHeaps,
    /// Syncs of directories.
    OfDirectories,
}

/// Behaviour of the power from one mount to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Number of operations that succeed. The next one fails, and everything after it.
    pub(crate) operations_max: u64,
    /// 0: no unsynced data survives the cut. Otherwise a part of it, drawn with this seed.
    pub(crate) survivors_seed: u64,
    pub(crate) lie: Lie,
}

impl Plan {
    /// The power stays on.
    pub(crate) const NO_CUT: Self = Self {
        operations_max: u64::MAX,
        survivors_seed: 0,
        lie: Lie::Never,
    };
}

/// Progress until the cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Operations since the mount, without those that failed for lack of power.
    pub(crate) operations: u64,
    pub(crate) is_cut: bool,
    /// Description of the last operation.
    pub(crate) last: String,
}

/// Mounted filesystem.
#[derive(Debug)]
pub(crate) struct PowerFs(FuseFs);

impl PowerFs {
    /// Mounts an empty filesystem, or records a skip.
    #[track_caller]
    pub(crate) fn new() -> Option<Self> {
        FuseFs::start(POWER).map(Self)
    }

    /// Returns the root of the filesystem.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Mounts it without files. None of its files may be open.
    pub(crate) fn begin_empty(&self, plan: Plan) {
        self.mount("empty", plan);
    }

    /// Cuts the power if it is still on, and mounts the surviving files. None of its files may be
    /// open.
    pub(crate) fn begin_again(&self, plan: Plan) {
        self.mount("again", plan);
    }

    pub(crate) fn progress(&self) -> Progress {
        let answer = self.0.ask("progress");
        let mut words = answer.splitn(3, ' ');
        let mut word = || words.next().expect("three words");
        Progress {
            operations: word().parse().expect("a number"),
            is_cut: word().parse().expect("true or false"),
            last: word().to_owned(),
        }
    }

    fn mount(&self, how: &str, plan: Plan) {
        let Plan {
            operations_max,
            survivors_seed,
            lie,
        } = plan;
        let order = format!("{how} {operations_max} {survivors_seed} {lie:?}");
        assert_eq!(self.0.ask(&order), "mounted", "{order}");
    }
}
