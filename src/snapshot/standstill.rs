//! Writers who stand at no gate.

use std::fmt;
use std::io;

/// Stops writers that do not know of the store's gate: other processes that have its memory mapped.
///
/// [`StoreOptions::standstill`](super::StoreOptions::standstill) has it called when a checkpoint has closed the gate, before the
/// last look at what changed; what it gives is dropped as soon as that is copied, and before anything is waited for on the
/// disk.
pub trait Standstill: Send + Sync + fmt::Debug {
    /// Returns when nobody writes any more. Dropping what it returns lets them go on, and returns when they do.
    ///
    /// # Errors
    ///
    /// Why they could not be stopped; then all go on. The checkpoint fails
    /// ([`SnapshotError::Standstill`](super::SnapshotError::Standstill)), and what the store had before stays.
    fn stop(&self) -> io::Result<Stopped>;
}

/// Writers that stand, for as long as this lives.
pub struct Stopped(#[expect(dead_code, reason = "held")] Box<dyn Send>);

impl Stopped {
    /// They go on when `guard` is dropped.
    pub fn new(guard: impl Send + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped").finish_non_exhaustive()
    }
}
