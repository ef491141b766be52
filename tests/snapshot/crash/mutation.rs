//! Faults of a store, put into the log of one that has none.

use flatspan::snapshot::Array;

use super::op::Op;

/// A change of the log before images are made of it: what a store would have done that has this fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mutation {
    /// The sync of a file of this number is missing, from 0 on.
    DropSync(usize),
    /// All syncs of the files of an array are.
    DropSyncsOf(Array),
    /// The sync of the directory of this number is.
    DropSyncDir(usize),
    /// All of them are.
    DropSyncDirs,
    /// The last change before the sync of a file of this number comes behind it, and the first one behind it before.
    SwapAcrossSync(usize),
    /// The operation at the first place is done at the second, which is before it.
    Earlier(usize, usize),
}

impl Mutation {
    /// False where the log has no such place; then it is as before.
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
    let behind = log[sync..].iter().position(Op::is_change);
    match (before, behind) {
        (Some(before), Some(behind)) => {
            log.swap(before, sync + behind);
            true
        }
        _ => false,
    }
}
