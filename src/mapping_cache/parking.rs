//! Where threads wait for a window that another thread is mapping or unmapping.
//!
//! A few locks serve all slots; a slot is hashed to one by its address. No wake-up is lost: the waiter
//! looks at the slot under the lock, and the waker takes the lock after it changed the slot.

use super::slot::Slot;
use super::sync::{Condvar, Mutex};

const PLACES: usize = if cfg!(loom) { 1 } else { 32 };

#[derive(Debug)]
pub(super) struct Parking {
    places: [Place; PLACES],
}

#[derive(Debug)]
struct Place {
    lock: Mutex<()>,
    changed: Condvar,
}

impl Parking {
    pub(super) fn new() -> Self {
        let places = std::array::from_fn(|_| Place {
            lock: Mutex::new(()),
            changed: Condvar::new(),
        });
        Self { places }
    }

    /// Returns when the slot is no longer being mapped or unmapped.
    pub(super) fn wait(&self, slot: &Slot) {
        let place = self.place(slot);
        let mut guard = place
            .lock
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        while slot.is_busy() {
            guard = place
                .changed
                .wait(guard)
                .unwrap_or_else(|poison| poison.into_inner());
        }
    }

    /// Wakes whoever waits for the slot; to be called after the slot changed.
    pub(super) fn wake(&self, slot: &Slot) {
        let place = self.place(slot);
        drop(
            place
                .lock
                .lock()
                .unwrap_or_else(|poison| poison.into_inner()),
        );
        place.changed.notify_all();
    }

    fn place(&self, slot: &Slot) -> &Place {
        let line = std::ptr::from_ref(slot).addr() / 64;
        &self.places[line % PLACES]
    }
}
