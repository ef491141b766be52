//! Stopping writers that do not use the access lock.

use std::fmt;
use std::io;

/// Stops external writers: processes that have the memory of the store mapped and do not use its
/// access lock.
///
/// Set by [`StoreOptions::quiesce_with`](crate::snapshot::StoreOptions::quiesce_with). A checkpoint
/// calls it after it has locked the memory and before the last scan for dirty pages. The guard is
/// dropped as soon as these pages are copied, before the checkpoint waits for the disk.
pub trait Quiesce: Send + Sync + fmt::Debug {
    /// Stops all external writers and returns a guard. Dropping the guard resumes them.
    ///
    /// # Errors
    ///
    /// - The reason why a writer could not be stopped. All writers then run. The checkpoint fails
    ///   with [`StoreError::Quiesce`](crate::snapshot::StoreError::Quiesce), and the
    ///   stored state is unchanged.
    fn quiesce(&self) -> io::Result<QuiesceGuard>;
}

/// Guard that keeps external writers stopped until it is dropped.
pub struct QuiesceGuard(
    #[expect(dead_code, reason = "dropping it resumes the writers")] Box<dyn Send>,
);

impl QuiesceGuard {
    /// Creates a guard that resumes the writers by dropping `guard`.
    pub fn new(guard: impl Send + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for QuiesceGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped").finish_non_exhaustive()
    }
}
