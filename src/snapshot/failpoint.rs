//! Failpoints: places where a unit test can break a rule, to show that the crash tests notice it.
//!
//! Outside of unit tests [`is_active`] is a constant `false`.

/// Rule that a unit test can break. A test double of the backend cannot produce these faults.
#[cfg_attr(
    not(all(test, not(loom))),
    expect(dead_code, reason = "only unit tests activate failpoints")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failpoint {
    /// Pages are accepted without verifying their checksums.
    IgnorePageChecksums,
    /// A base checkpoint reuses the committed generation.
    ReuseGeneration,
    /// Opening assumes that the heaps are equal.
    SkipHeapComparison,
    /// Stale pages are cleared before the final sync of their heap.
    ClearStaleEarly,
    /// Journal files that the fallback heap needs are removed.
    DropFallbackJournals,
    /// Journal files are removed before the METADATA that replaces them is durable.
    DropJournalsEarly,
    /// New records are appended after an ignored tail.
    AppendToIgnoredTail,
    /// The checksum chain between records is not checked.
    IgnoreRecordChain,
}

#[cfg(not(all(test, not(loom))))]
pub(crate) const fn is_active(_: Failpoint) -> bool {
    false
}

#[cfg(all(test, not(loom)))]
pub(crate) use tests::{is_active, with_active};

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::RefCell;

    use super::Failpoint;

    thread_local!(static ACTIVE: RefCell<Vec<Failpoint>> = const { RefCell::new(Vec::new()) });

    /// Returns whether the failpoint is active on this thread.
    pub(crate) fn is_active(failpoint: Failpoint) -> bool {
        ACTIVE.with_borrow(|active| active.contains(&failpoint))
    }

    /// Calls `run` with failpoints active on this thread.
    pub(crate) fn with_active<R>(failpoints: &[Failpoint], run: impl FnOnce() -> R) -> R {
        ACTIVE.set(failpoints.to_vec());
        let result = run();
        ACTIVE.take();
        result
    }
}
