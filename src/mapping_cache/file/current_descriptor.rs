//! The descriptor of a file that copies find without a lock.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapWeak;

/// A descriptor that permits reading, as long as the pool or the dirty state keeps it open.
///
/// It is referred to weakly: its owner closes it without a look at this.
#[derive(Debug, Default)]
pub(super) struct CurrentDescriptor {
    file: ArcSwapWeak<File>,
    /// Whether a copy has used the descriptor since the pool last looked.
    is_used: AtomicBool,
}

impl CurrentDescriptor {
    /// Returns the descriptor if it is open.
    pub(super) fn get(&self) -> Option<Arc<File>> {
        let file = self.file.load().upgrade()?;
        // Stored only if it changes, so that threads that copy share the cache line.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        Some(file)
    }

    /// Makes a descriptor the current one.
    pub(super) fn set(&self, file: &Arc<File>) {
        self.file.store(Arc::downgrade(file));
    }

    /// Returns whether the descriptor was used since the last call.
    pub(super) fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }
}
