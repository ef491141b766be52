//! Owners and modes of range locks, and conflicts between them.

use std::ops::Range;

/// The owner of a lock, which determines how long it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// A copy, or a guard that is being created. Others wait for it. It waits for nothing.
    Copy,
    /// A guard, which its owner may hold for any time.
    Guard,
}

/// The mode of a lock. A whole word, so that a token has no padding, which would be copied in odd
/// parts (docs/benchmarks.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub(crate) enum Sharing {
    /// Other shared locks may overlap it.
    Shared,
    /// No other lock may overlap it.
    Exclusive,
}

/// Conflicting locks on a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Whether all known conflicting locks are held or wanted by copies.
    pub(crate) only_copies: bool,
    /// Start of the first known conflicting lock. Bytes before it may be locked shared.
    pub(crate) from: u64,
}

/// Merges conflicting locks, of which the first starts first. A guard decides, so the search ends
/// there. Before it are only copies, which are at most as many as threads.
pub(super) fn merge_ordered(
    conflicting: impl IntoIterator<Item = (u64, LockKind)>,
) -> Option<Conflict> {
    let mut conflicting = conflicting.into_iter();
    let (from, first) = conflicting.next()?;
    let is_copy = |kind| kind == LockKind::Copy;
    Some(Conflict {
        only_copies: is_copy(first) && conflicting.all(|(_, kind)| is_copy(kind)),
        from,
    })
}

pub(super) fn both(one: Option<Conflict>, other: Option<Conflict>) -> Option<Conflict> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Conflict {
            only_copies: one.only_copies && other.only_copies,
            from: one.from.min(other.from),
        }),
        (one, other) => one.or(other),
    }
}

pub(super) fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}
