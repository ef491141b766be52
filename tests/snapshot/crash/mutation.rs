//! Faults of a store, injected into the log of a correct store.

use flatspan::snapshot::LogicalFile;

use super::op::Op;

/// Change of the log before images are made: what a store with this fault would have done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mutation {
    /// Omits the n-th sync of a file, starting at 0.
    DropSync(usize),
    /// Omits all syncs of a logical file.
    DropSyncsOf(LogicalFile),
    /// Omits the n-th sync of the directory.
    DropSyncDir(usize),
    /// Omits all syncs of the directory.
    DropSyncDirs,
    /// Swaps the last change before the n-th sync of a file with the first change after it.
    SwapAcrossSync(usize),
    /// Moves the operation at the first index to the second, which is before it.
    Earlier(usize, usize),
}

impl Mutation {
    /// Returns `false`, without a change, if the log has no such position.
    pub(crate) fn apply(self, log: &mut Vec<Op>) -> bool {
        let before = log.len();
        match self {
            Self::DropSync(number) => {
                let place = place_of(log, is_sync, number);
                place.map(|place| log.remove(place));
            }
            Self::DropSyncDir(number) => {
                let place = place_of(log, is_sync_dir, number);
                place.map(|place| log.remove(place));
            }
            Self::DropSyncsOf(array) => {
                log.retain(|op| !matches!(op, Op::Sync((of, _), _) if *of == array));
            }
            Self::DropSyncDirs => log.retain(|op| !is_sync_dir(op)),
            Self::SwapAcrossSync(number) => return swap(log, number),
            Self::Earlier(from, to) => {
                log[to..=from].rotate_right(1);
                return true;
            }
        }
        log.len() < before
    }
}

fn is_sync(op: &Op) -> bool {
    matches!(op, Op::Sync(..))
}

fn is_sync_dir(op: &Op) -> bool {
    matches!(op, Op::SyncDir)
}

fn place_of(log: &[Op], is_meant: impl Fn(&Op) -> bool, number: usize) -> Option<usize> {
    let mut places = (0..log.len()).filter(|place| is_meant(&log[*place]));
    places.nth(number)
}

fn swap(log: &mut [Op], number: usize) -> bool {
    let Some(sync) = place_of(log, is_sync, number) else {
        return false;
    };
    let before = log[..sync].iter().rposition(Op::is_change);
    let after = log[sync..].iter().position(Op::is_change);
    match (before, after) {
        (Some(before), Some(after)) => {
            log.swap(before, sync + after);
            true
        }
        _ => false,
    }
}
