//! Pinning a window: the lookup of its mapping, and the slow path that maps it.

use super::pin::{Pin, Pinned};
use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::file::{CachedFile, FileState, Opened, Resources, WriteGuard};
use crate::mapping_cache::options::Access;
use crate::mapping_cache::stripe::Stripe;
use crate::mapping_cache::window::{Address, PinBlock, PinPool, TryPin, WindowSlots};

/// The result of a lookup in the slots of a window.
enum Lookup<'a> {
    /// The mapping of this block is pinned.
    Hit(&'a PinBlock, Address),
    /// The mapping of this block ends before the needed byte, or has lost a page.
    TooShort(&'a PinBlock),
    Busy,
    Unmapped,
    Exhausted,
}

/// Where a window is looked up, and by whom.
#[derive(Clone, Copy)]
struct Target<'a> {
    resources: &'a Resources,
    pool: &'a PinPool,
    slots: &'a WindowSlots,
    stripe: Stripe,
}

/// Pins the window if it is mapped for this access up to byte `needed`. Reading prefers the
/// writable mapping.
#[inline(always)]
fn look_up(target: Target<'_>, needed: usize, access: Access) -> Lookup<'_> {
    if access == Access::ReadOnly
        && let hit @ Lookup::Hit(..) = look_up_one(target, needed, Access::ReadWrite)
    {
        return hit;
    }
    look_up_one(target, needed, access)
}

#[inline(always)]
fn look_up_one(target: Target<'_>, needed: usize, access: Access) -> Lookup<'_> {
    let slot = target.slots.slot(access);
    match slot.try_pin(target.pool, target.stripe, needed) {
        TryPin::Hit(block, address) => Lookup::Hit(block, address),
        TryPin::Empty => Lookup::Unmapped,
        TryPin::TooShort(block) => Lookup::TooShort(block),
        TryPin::Busy => Lookup::Busy,
        TryPin::Undone(block) => {
            after_undone_pin(target.resources, block);
            Lookup::Busy
        }
        TryPin::Exhausted(block) => {
            after_undone_pin(target.resources, block);
            Lookup::Exhausted
        }
    }
}

#[cold]
#[inline(never)]
fn after_undone_pin(resources: &Resources, block: &PinBlock) {
    resources.budget.after_unpin(block, &resources.wait_table);
}

/// A window to be pinned.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) window: u64,
    /// Bytes that the mapping must have.
    pub(super) needed: usize,
    pub(super) access: Access,
}

/// A mapping that the slow path has pinned.
struct Found<'a> {
    block: &'a PinBlock,
    address: Address,
    /// Whether the mapping was created for this pin.
    is_new: bool,
}

impl CachedFile {
    /// Pins a window of the file in memory and maps it if necessary.
    ///
    /// For reading, the mapping ends with the file. For writing, the file is extended first and its
    /// storage is preallocated as the options say.
    ///
    /// # Errors
    ///
    /// - [`MappingError::FileTooShort`] if the window starts past the end of the file.
    /// - [`MappingError::StorageFull`] if the filesystem is full.
    /// - [`MappingError::NotMappable`] if the filesystem cannot map files.
    /// - [`MappingError::BudgetExhausted`] if all of the budget is pinned.
    /// - [`MappingError::TooManyMappings`] if the kernel refuses another mapping.
    /// - Any other error of opening or mapping the file.
    #[inline(always)]
    pub fn pin(&self, window: u64, access: Access) -> Result<Pin<'_>, MappingError> {
        if access == Access::ReadOnly
            && let Some(pin) = self.pin_if_mapped(window, 1)
        {
            return Ok(pin);
        }
        self.pin_covering(window, 1, access)
    }

    /// Pins a window for reading if it is mapped up to byte `needed`.
    #[inline(always)]
    pub(in crate::mapping_cache) fn pin_if_mapped(
        &self,
        window: u64,
        needed: usize,
    ) -> Option<Pin<'_>> {
        self.pin_opened(self.opened()?, Stripe::mine(), window, needed)
    }

    /// Does the same as [`pin_if_mapped`](Self::pin_if_mapped) for a caller that has loaded the
    /// state of the file and the stripe of the thread.
    #[inline(always)]
    pub(super) fn pin_opened<'a>(
        &'a self,
        opened: &'a Opened,
        stripe: Stripe,
        window: u64,
        needed: usize,
    ) -> Option<Pin<'a>> {
        let Opened { state, slots, .. } = opened;
        let resources = &*self.resources;
        let target = Target {
            resources,
            pool: slots.pool(),
            slots: slots.get(window)?,
            stripe,
        };
        let Lookup::Hit(block, address) = look_up(target, needed, Access::ReadOnly) else {
            return None;
        };
        let at = Pinned {
            file: state,
            window,
            block,
            stripe,
            address,
            writing: None,
        };
        Some(Pin { resources, at })
    }

    /// Pins the first `needed` bytes of a window.
    #[inline(always)]
    pub(in crate::mapping_cache) fn pin_covering(
        &self,
        window: u64,
        needed: usize,
        access: Access,
    ) -> Result<Pin<'_>, MappingError> {
        let at = self.pin_or_map(window, needed, access)?;
        let resources = &*self.resources;
        Ok(Pin { resources, at })
    }

    #[inline(never)]
    fn pin_or_map(
        &self,
        window: u64,
        needed: usize,
        access: Access,
    ) -> Result<Pinned<'_>, MappingError> {
        let writing = match access {
            Access::ReadOnly => None,
            Access::ReadWrite => Some(self.begin_write()?),
        };
        let file = match &writing {
            Some(writing) => writing.state,
            None => self.state()?,
        };
        let slots = self.slots_of(file, window)?;
        let needed = match &writing {
            Some(writing) => {
                self.preallocate_before_write(writing)?;
                needed.max(self.declared_in_window(window))
            }
            None => needed,
        };
        let stripe = Stripe::mine();
        let request = Request {
            window,
            needed,
            access,
        };
        let found = self.find_or_map(file, slots, stripe, request)?;
        let at = Pinned {
            file,
            window,
            block: found.block,
            stripe,
            address: found.address,
            writing: writing.map(WriteGuard::continue_without_guard),
        };
        let resources = &*self.resources;
        let pin = Pin { resources, at };
        if found.is_new {
            pin.apply_patterns();
        }
        self.extend_to_pin(&pin, needed)?;
        Ok(pin.into_pinned())
    }

    /// Looks up a mapping until one is pinned. Maps the window if it is unmapped, and maps it again
    /// if its mapping is too short or has lost a page.
    fn find_or_map<'a>(
        &'a self,
        file: &'a FileState,
        slots: &'a WindowSlots,
        stripe: Stripe,
        request: Request,
    ) -> Result<Found<'a>, MappingError> {
        let resources = &*self.resources;
        let wait_table = &resources.wait_table;
        let Request {
            window,
            needed,
            access,
        } = request;
        let target = Target {
            resources,
            pool: file.slots.pool(),
            slots,
            stripe,
        };
        let own = slots.slot(access);
        loop {
            let begun = match look_up(target, needed, access) {
                Lookup::Hit(block, address) => {
                    return Ok(Found {
                        block,
                        address,
                        is_new: false,
                    });
                }
                Lookup::Exhausted => return Err(self.window_pinned_error(window)),
                Lookup::TooShort(block) => {
                    // A pinned mapping stays until its last unpin, beside the new one.
                    resources.budget.evict(own, wait_table).is_none()
                        && own.begin_replacing(block.id())
                }
                Lookup::Busy => {
                    resources.counters.waits.add_one();
                    own.wait_while_busy(wait_table);
                    false
                }
                Lookup::Unmapped => own.begin_mapping(),
            };
            if begun {
                return self.map_window(file, slots, stripe, request);
            }
        }
    }

    /// Maps a window whose slot is reserved for this thread.
    fn map_window<'a>(
        &self,
        file: &'a FileState,
        slots: &WindowSlots,
        stripe: Stripe,
        request: Request,
    ) -> Result<Found<'a>, MappingError> {
        let resources = &*self.resources;
        resources.counters.misses.add_one();
        let own = slots.slot(request.access);
        let (block, address) = self.map_and_publish(file, own, stripe, request)?;
        if request.access == Access::ReadWrite {
            // The read-only mapping is obsolete, and is unmapped if no reader pins it.
            let read_only = slots.slot(Access::ReadOnly);
            resources.budget.evict(read_only, &resources.wait_table);
        }
        Ok(Found {
            block,
            address,
            is_new: true,
        })
    }

    /// Extends the file to the first `needed` bytes of a window that is pinned for writing. The
    /// mapping may be older than a truncation of the file.
    fn extend_to_pin(&self, pin: &Pin<'_>, needed: usize) -> Result<(), MappingError> {
        let Some(state) = pin.at.writing else {
            return Ok(());
        };
        let end = self.resources.windows.start(pin.at.window) + needed as u64;
        if end <= state.storage.known_bytes() {
            return Ok(());
        }
        let (file, _) = self.descriptor(Access::ReadWrite)?;
        let reached = self.prepare_for_stores(state, &file, pin.at.window)?;
        if reached < end {
            return Err(self.too_short_error(end, reached));
        }
        Ok(())
    }

    /// Preallocates the declared length if the options request it before the first write.
    fn preallocate_before_write(&self, writing: &WriteGuard<'_>) -> Result<(), MappingError> {
        let WriteGuard { state, file } = writing;
        if self.is_preallocated(state) {
            return Ok(());
        }
        let _length = state.lock_length();
        let present = self.checked_len(state, file)?;
        self.preallocate_declared(state, file, present)
    }

    /// Returns a pin that [`Pin::lock`] left on a window.
    pub(in crate::mapping_cache) fn locked_pin(&self, window: u64) -> Option<Pin<'_>> {
        let file = self.opened_state()?;
        let (block, stripe) = file.take_locked(window)?;
        let at = Pinned {
            file,
            window,
            block,
            stripe,
            address: block.address(),
            writing: None,
        };
        let resources = &*self.resources;
        Some(Pin { resources, at })
    }

    /// Returns the slots of a window that starts before the declared and the known end of the file.
    /// Creates no slots for others.
    pub(in crate::mapping_cache) fn slots_of<'s>(
        &self,
        state: &'s FileState,
        window: u64,
    ) -> Result<&'s WindowSlots, MappingError> {
        let windows = self.resources.windows;
        let end = self.declared_bytes.max(state.storage.known_bytes());
        let slots = if window > windows.of(i64::MAX as u64) {
            None
        } else if windows.start(window) >= end {
            return Err(self.too_short_error(windows.start(window) + 1, end));
        } else {
            state.slots.get_or_create(window)
        };
        slots.ok_or_else(|| MappingError::OffsetOverflow {
            path: self.path(),
            offset: window.saturating_mul(windows.bytes() as u64),
            len: 1,
        })
    }

    /// Returns how many bytes of a window are declared.
    fn declared_in_window(&self, window: u64) -> usize {
        let windows = self.resources.windows;
        let left = self.declared_bytes.saturating_sub(windows.start(window));
        match usize::try_from(left) {
            Ok(left) => left.min(windows.bytes()),
            Err(_) => windows.bytes(),
        }
    }
}
