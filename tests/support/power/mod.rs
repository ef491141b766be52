//! A filesystem whose power can be cut: what was synced is there afterwards, the rest is not, or in part.
//!
//! The filesystem is served by a process of its own ([`FuseFs`]), and mounted anew after each cut, so that nothing is
//! answered from the kernel's caches. What a cut leaves is said in [`image`].

mod files;
mod image;
mod medium;
mod orders;
mod server;

use std::path::Path;

pub(super) use self::orders::serve;
use super::fuse::{FuseFs, POWER};

/// Which syncs say that they were done, and do nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lie {
    #[default]
    Never,
    /// Of every file and folder.
    Always,
    /// Of files with `journal` in their names.
    OfJournals,
    /// Of files with `heap` in their names.
    OfHeaps,
    /// Of folders.
    OfFolders,
}

/// What happens to the power from one mount to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// So many operations succeed; the next fails, and everything after it.
    pub(crate) operations_max: u64,
    /// 0: nothing that was not synced is there after the cut. Otherwise a part of it, drawn with this seed.
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

/// How far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Since it was mounted; without those that found the power off.
    pub(crate) operations: u64,
    pub(crate) is_cut: bool,
    /// The last of these operations, in words.
    pub(crate) last: String,
}

/// The filesystem, mounted.
#[derive(Debug)]
pub(crate) struct PowerFs(FuseFs);

impl PowerFs {
    /// Mounts one, empty, or records a skip.
    #[track_caller]
    pub(crate) fn new() -> Option<Self> {
        FuseFs::start(POWER).map(Self)
    }

    /// The root of the filesystem.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Mounts it without a file. Nothing of it may be open.
    pub(crate) fn begin_empty(&self, plan: Plan) {
        self.mount("empty", plan);
    }

    /// Cuts the power, if it is still on, and mounts what is left. Nothing of it may be open.
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
