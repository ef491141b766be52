//! Waiting for a window that another thread maps or unmaps.
//!
//! A few locks serve all slots. A slot selects one by its address. No wake-up is lost: a waiter
//! reads the state of its slot under the lock, and a waker acquires the lock after it changed the
//! slot.

use std::sync::PoisonError;

use crate::mapping_cache::sync::{Condvar, Mutex, MutexGuard};

const QUEUES: usize = if cfg!(loom) { 1 } else { 32 };

#[derive(Debug)]
pub(in crate::mapping_cache) struct WaitTable {
    queues: [Queue; QUEUES],
}

#[derive(Debug)]
struct Queue {
    lock: Mutex<()>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitTable {
    pub(in crate::mapping_cache) fn new() -> Self {
        let queues = std::array::from_fn(|_| Queue {
            lock: Mutex::new(()),
            changed: Condvar::new(),
        });
        Self { queues }
    }

    /// Waits until `is_busy` returns `false`. `address` identifies what is waited for.
    pub(super) fn wait_while(&self, address: usize, is_busy: impl Fn() -> bool) {
        let queue = self.queue(address);
        let mut guard = queue.lock();
        while is_busy() {
            guard = queue
                .changed
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes all threads that wait for this address. Called after the state has changed.
    pub(super) fn wake(&self, address: usize) {
        let queue = self.queue(address);
        drop(queue.lock());
        queue.changed.notify_all();
    }

    fn queue(&self, address: usize) -> &Queue {
        let line = address / 64;
        &self.queues[line % QUEUES]
    }
}
