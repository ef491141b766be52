//! Faults that tests put into the code, to see that other tests would find them. There are none outside of unit tests.

/// What is left out, or done too early.
#[cfg_attr(
    not(all(test, not(loom))),
    expect(dead_code, reason = "some are looked for in unit tests only")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// METADATA with the lock taken is not written.
    LockNotTaken,
    /// The lock is not written back when the final barrier has failed.
    LockNotWrittenBack,
    /// Pages are believed as they are read.
    PageChecksumsIgnored,
    /// A base takes the generation that is committed.
    GenerationNotAdvanced,
    /// After opening nothing is known to differ between the heaps.
    UnionForgotten,
    /// What a heap lacks is forgotten before its final barrier.
    StaleClearedEarly,
    /// Journal files go that the older heap needs.
    OlderJournalsDropped,
    /// Journal files go before METADATA is durable that makes them needless.
    JournalsDroppedEarly,
    /// Records go on where a journal was cut.
    TornTailAppended,
    /// Any record with the next sequence goes on from the one before.
    ChainIgnored,
    /// The file before is not synced when records go to the next.
    SealNotSynced,
}

#[cfg(not(all(test, not(loom))))]
pub(crate) const fn seeded(_: Fault) -> bool {
    false
}

#[cfg(all(test, not(loom)))]
pub(crate) use tests::{seeded, with};

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::RefCell;

    use super::Fault;

    thread_local!(static SEEDED: RefCell<Vec<Fault>> = const { RefCell::new(Vec::new()) });

    /// Has this thread the fault?
    pub(crate) fn seeded(fault: Fault) -> bool {
        SEEDED.with_borrow(|seeded| seeded.contains(&fault))
    }

    /// Runs something with faults in the code.
    pub(crate) fn with<R>(faults: &[Fault], run: impl FnOnce() -> R) -> R {
        SEEDED.set(faults.to_vec());
        let result = run();
        SEEDED.take();
        result
    }
}
