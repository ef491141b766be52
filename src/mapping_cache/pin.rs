//! Pinning windows: the promise that a mapping stays where it is.
//!
//! # Safety
//!
//! A [`Pin`] is taken from a slot that says where a window is mapped, and keeps the slot's count above
//! zero, so that nobody unmaps it (docs/unsafe.md, U1). Its copies go through the kernel on addresses
//! inside that mapping; this layer makes no reference to mapped memory.
#![expect(
    unsafe_code,
    reason = "copies into and out of mapped memory by raw address"
)]

use std::io;

use super::cache::Core;
use super::claims::Sharing;
use super::entry::FileEntry;
use super::error::MappingError;
use super::file::{CachedFile, Opened, Writing};
use super::hints::apply_patterns;
use super::ledger::{Held, Key};
use super::options::Access;
use super::parking::Parking;
use super::part::Claim;
use super::slot::{Address, Slot, TryPin};
use super::slot_table::WindowSlots;
use super::stripe::Stripe;
use crate::sys::{madvise, process_vm, rlimits, sigbus};

/// A window of a file that stays mapped until this is dropped.
///
/// Pages past the present end of the file, and pages the disk has no room for, fault when they are
/// touched: [`populate`](Self::populate) first, or copy by [`copy_to`](Self::copy_to) and
/// [`copy_from`](Self::copy_from), which return an error instead.
#[derive(Debug)]
#[must_use = "the window is unpinned when this is dropped"]
pub struct Pin<'a> {
    core: &'a Core,
    at: Pinned<'a>,
}

/// What a [`Pin`] holds. The slow path hands out this and not a `Pin`: what has a `Drop` and comes out of
/// a call lies in memory, on the fast path too, and the loads that follow wait for its stores
/// (docs/benchmarks.md).
#[derive(Clone, Copy, Debug)]
struct Pinned<'a> {
    entry: &'a FileEntry,
    window: u64,
    /// Which mapping it is; a pin for reading may hold the writable one.
    of: Access,
    slot: &'a Slot,
    stripe: Stripe,
    address: Address,
    /// A pin for writing is a write that is going on.
    writing: Option<&'a FileEntry>,
}

// SAFETY: a pin is a count in a slot, which any thread may give back (in the stripe it was taken in), and
// an address, whose use is the business of who dereferences it (U3). All it borrows from is `Sync`.
unsafe impl Send for Pin<'_> {}
// SAFETY: as above; through a shared pin there is only reading of its fields, and copies by the kernel.
unsafe impl Sync for Pin<'_> {}

impl Drop for Pin<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.at.writing.is_some() {
            return self.unpin_written();
        }
        self.at.slot.unpin(self.at.stripe);
        if self.core.ledger.is_exceeded() {
            self.trim();
        }
    }
}

impl Pin<'_> {
    /// The stores under the pin are done. Where a page was lost, they may be too.
    #[inline(never)]
    fn unpin_written(&self) {
        // While it is pinned: a window mapped anew begins without.
        let poisoned = self.is_poisoned();
        self.at.slot.unpin(self.at.stripe);
        if let Some(entry) = self.at.writing {
            if poisoned {
                entry.unsynced.lose();
            }
            entry.unsynced.end();
        }
        if self.core.ledger.is_exceeded() {
            self.trim();
        }
    }

    #[cold]
    #[inline(never)]
    fn trim(&self) {
        let Core {
            ledger, parking, ..
        } = self.core;
        ledger.trim(self.at.key(), self.at.slot, parking);
    }
}

impl Pinned<'_> {
    fn key(&self) -> Key {
        self.entry.key(self.window, self.of)
    }
}

impl<'a> Pin<'a> {
    /// Leaves the window pinned.
    fn leave(self) -> Pinned<'a> {
        let at = self.at;
        std::mem::forget(self);
        at
    }
}

impl Pin<'_> {
    /// First byte of the window.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.at.address.start
    }

    /// First byte of the window, for stores; `None` for a pin for reading.
    #[must_use]
    pub fn as_mut_ptr(&self) -> Option<*mut u8> {
        self.at.writing.map(|_| self.at.address.start)
    }

    /// Bytes of the window: for writing those that are there to be written, for reading whole pages,
    /// so that the last may go on behind the end of the file with zeros.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at.address.len
    }

    /// Never true: an empty window is not mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at.address.len == 0
    }

    /// Brings pages in for reading.
    ///
    /// # Errors
    ///
    /// The system's error; `EFAULT` where the file has no such page any more.
    ///
    /// # Panics
    ///
    /// When the range is not inside the window.
    pub fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        self.check(offset, len);
        // SAFETY: inside the mapping (checked), which stays while pinned (U1).
        unsafe { madvise::populate_read(self.at.address.start.add(offset), len) }
    }

    /// Brings pages in for writing, so that they have storage: `EFAULT` where there is none.
    pub(super) fn populate_for_stores(&self, offset: usize, len: usize) -> io::Result<()> {
        self.check(offset, len);
        // SAFETY: inside the mapping (checked), which stays while pinned (U1).
        unsafe { madvise::populate_write(self.at.address.start.add(offset), len) }
    }

    /// Copies out of the window. Returns the bytes copied, fewer where a page is bad, and whether the
    /// page after them is good: if it is, the file did not end inside the range.
    ///
    /// # Panics
    ///
    /// When the range is not inside the window.
    pub(super) fn copy_out(&self, offset: usize, buf: &mut [u8]) -> io::Result<(usize, bool)> {
        self.check(offset, buf.len());
        let next_page = (offset + buf.len()).next_multiple_of(rlimits::page_bytes());
        let probe = (next_page < self.at.address.len)
            .then(|| self.at.address.start.wrapping_add(next_page).cast_const());
        // SAFETY: source and probe are inside the mapping (checked), which stays while pinned (U1);
        // this crate makes no references to it.
        let copied = unsafe {
            process_vm::read_mapped(self.at.address.start.add(offset).cast_const(), buf, probe)?
        };
        Ok((copied.min(buf.len()), copied > buf.len()))
    }

    /// Copies out of the window; returns the bytes copied, fewer where a page is bad.
    ///
    /// # Errors
    ///
    /// The system's error; `ResourceBusy` while a span has any of it for writing.
    ///
    /// # Panics
    ///
    /// When the range is not inside the window.
    pub fn copy_to(&self, offset: usize, buf: &mut [u8]) -> io::Result<usize> {
        let _claim = self.claim(offset, buf.len(), Sharing::Shared)?;
        Ok(self.copy_out(offset, buf)?.0)
    }

    /// Was a page of the window lost, and replaced by zeros? It happens only where
    /// [`install_sigbus_dispatcher`](super::install_sigbus_dispatcher) was called, and stays so.
    #[inline(always)]
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.at.slot.is_poisoned()
    }

    fn claim(&self, offset: usize, len: usize, sharing: Sharing) -> io::Result<Option<Claim<'_>>> {
        self.check(offset, len);
        let start = self.core.windows.start(self.at.window) + offset as u64;
        let claims = &self.at.entry.shared.claims;
        Claim::for_copy(claims, start, len, sharing)
    }

    /// Copies into the window; returns the bytes copied, fewer where a page is bad.
    ///
    /// # Errors
    ///
    /// The system's error; `ResourceBusy` while a span has any of it.
    ///
    /// # Panics
    ///
    /// When the range is not inside the window, or the pin is for reading.
    pub fn copy_from(&self, offset: usize, buf: &[u8]) -> io::Result<usize> {
        let _claim = self.claim(offset, buf.len(), Sharing::Exclusive)?;
        self.copy_in(offset, buf)
    }

    /// As [`copy_from`](Self::copy_from), for who has a claim.
    pub(super) fn copy_in(&self, offset: usize, buf: &[u8]) -> io::Result<usize> {
        self.check(offset, buf.len());
        let start = self.as_mut_ptr().expect("pinned for writing");
        // SAFETY: the target is inside a writable mapping (checked), which stays while pinned (U1);
        // this crate makes no references to it.
        unsafe { process_vm::write_mapped(start.add(offset), buf) }
    }

    /// Gives advice for a range of the window.
    pub(super) fn advise(
        &self,
        offset: usize,
        len: usize,
        advice: rustix::mm::Advice,
    ) -> io::Result<()> {
        self.check(offset, len);
        // SAFETY: inside the mapping (checked), which stays while pinned (U1); the advice given by
        // `hints` frees nothing.
        unsafe { madvise::advise(self.at.address.start.add(offset), len, advice) }
    }

    /// Are all pages of the range in the page cache?
    pub(super) fn is_resident(&self, offset: usize, len: usize) -> io::Result<bool> {
        self.check(offset, len);
        // SAFETY: inside the mapping (checked), which stays while pinned (U1).
        unsafe { madvise::is_resident(self.at.address.start.add(offset), len) }
    }

    /// Locks pages in memory and leaves the window pinned for them.
    pub(super) fn lock(self, entry: &FileEntry, offset: usize, len: usize) -> io::Result<()> {
        self.check(offset, len);
        // SAFETY: inside the mapping (checked), which stays while pinned (U1).
        unsafe { madvise::lock(self.at.address.start.add(offset), len)? };
        if entry.note_locked(self.at.key(), self.at.stripe) {
            // Until `locked` finds it again.
            self.leave();
        }
        Ok(())
    }

    /// Unlocks the pages of the window.
    pub(super) fn unlock(&self) -> io::Result<()> {
        // SAFETY: the whole mapping, which stays while pinned (U1).
        unsafe { madvise::unlock(self.at.address.start, self.at.address.len) }
    }

    fn check(&self, offset: usize, len: usize) {
        let inside = offset
            .checked_add(len)
            .is_some_and(|end| end <= self.at.address.len);
        assert!(
            inside,
            "{len} bytes at {offset} of a window of {}",
            self.at.address.len
        );
    }
}

/// What a look at the slots of a window found.
enum Look<'a> {
    /// Pinned in the slot of this access.
    Hit(Access, &'a Slot, Address),
    /// Mapped, but not as far as needed.
    TooShort,
    Busy,
    Unmapped,
    Exhausted,
}

/// Pins the window if it is mapped for this access as far as needed; readers take a writable mapping
/// where there is one.
#[inline(always)]
fn look(slots: &WindowSlots, stripe: Stripe, needed: usize, access: Access) -> Look<'_> {
    if access == Access::ReadOnly
        && let hit @ Look::Hit(..) = look_at(slots, stripe, needed, Access::ReadWrite)
    {
        return hit;
    }
    look_at(slots, stripe, needed, access)
}

#[inline(always)]
fn look_at(slots: &WindowSlots, stripe: Stripe, needed: usize, access: Access) -> Look<'_> {
    let slot = slots.slot(access);
    match slot.try_pin(stripe, needed) {
        TryPin::Hit(address) => Look::Hit(access, slot, address),
        TryPin::TooShort => Look::TooShort,
        TryPin::Empty => Look::Unmapped,
        TryPin::Busy => Look::Busy,
        TryPin::Exhausted => Look::Exhausted,
    }
}

/// The duty to map a window, given back if mapping fails.
struct Duty<'a> {
    slot: &'a Slot,
    parking: &'a Parking,
}

impl Drop for Duty<'_> {
    fn drop(&mut self) {
        self.slot.abandon();
        self.parking.wake(self.slot);
    }
}

impl CachedFile {
    /// Pins a window of the file in memory, mapping it if it is not. For reading, the mapping may end
    /// before the window if the file does; for writing, the file is first made long enough and its
    /// storage reserved as the options say.
    ///
    /// # Errors
    ///
    /// Those of opening and mapping the file: [`MappingError::ShortFile`] for a window past its end,
    /// [`MappingError::StorageFull`], [`MappingError::Unmappable`], [`MappingError::BudgetPinned`],
    /// [`MappingError::MapLimit`] among them.
    #[inline(always)]
    pub fn pin(&self, window: u64, access: Access) -> Result<Pin<'_>, MappingError> {
        if access == Access::ReadOnly
            && let Some(pin) = self.pin_if_mapped(window, 1)
        {
            return Ok(pin);
        }
        self.pin_covering(window, 1, access)
    }

    /// Pins a window for reading if it is mapped as far as `needed` bytes.
    #[inline(always)]
    pub(super) fn pin_if_mapped(&self, window: u64, needed: usize) -> Option<Pin<'_>> {
        self.pin_opened(self.opened()?, Stripe::mine(), window, needed)
    }

    /// As [`pin_if_mapped`](Self::pin_if_mapped), for who has looked at file and thread already.
    #[inline(always)]
    pub(super) fn pin_opened<'a>(
        &'a self,
        opened: &'a Opened,
        stripe: Stripe,
        window: u64,
        needed: usize,
    ) -> Option<Pin<'a>> {
        let Opened { entry, slots, .. } = opened;
        let slots = slots.get(window)?;
        let Look::Hit(of, slot, address) = look(slots, stripe, needed, Access::ReadOnly) else {
            return None;
        };
        let at = Pinned {
            entry,
            window,
            of,
            slot,
            stripe,
            address,
            writing: None,
        };
        let core = &*self.core;
        Some(Pin { core, at })
    }

    /// Pins the first `needed` bytes of a window.
    #[inline(always)]
    pub(super) fn pin_covering(
        &self,
        window: u64,
        needed: usize,
        access: Access,
    ) -> Result<Pin<'_>, MappingError> {
        let at = self.pin_or_map(window, needed, access)?;
        let core = &*self.core;
        Ok(Pin { core, at })
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
        let entry = match &writing {
            Some(writing) => writing.entry,
            None => self.entry()?,
        };
        let core = &self.core;
        let slots = self.slots_of(entry, window)?;
        let needed = match &writing {
            Some(writing) => {
                if !self.is_reserved_whole(entry) {
                    let _length = entry.lock_length();
                    let present = self.uncut_len(entry, &writing.file)?;
                    self.reserve_whole(entry, &writing.file, present)?;
                }
                needed.max(self.declared_in(window))
            }
            None => needed,
        };
        let own = slots.slot(access);
        let stripe = Stripe::mine();
        let (of, slot, address, fresh) = loop {
            match look(slots, stripe, needed, access) {
                Look::Hit(of, slot, address) => break (of, slot, address, false),
                Look::Exhausted => return Err(self.window_pinned(window)),
                Look::TooShort => {
                    let key = entry.key(window, access);
                    if core.ledger.evict(key, own, &core.parking).is_none() {
                        return Err(self.window_pinned(window));
                    }
                }
                Look::Busy => {
                    core.counters.stalls.add_one();
                    core.parking.wait(own);
                }
                Look::Unmapped if own.begin_mapping() => {
                    core.counters.misses.add_one();
                    let address =
                        self.map_and_publish(entry, own, stripe, window, needed, access)?;
                    if access == Access::ReadWrite {
                        // Replaces the read-only mapping, unless somebody still reads through it.
                        let twin = slots.slot(Access::ReadOnly);
                        let key = entry.key(window, Access::ReadOnly);
                        core.ledger.evict(key, twin, &core.parking);
                    }
                    break (access, own, address, true);
                }
                Look::Unmapped => {}
            }
        };
        let at = Pinned {
            entry,
            window,
            of,
            slot,
            stripe,
            address,
            writing: writing.map(Writing::keep_on),
        };
        let pin = Pin { core, at };
        if fresh {
            apply_patterns(entry, &pin);
        }
        Ok(pin.leave())
    }

    /// The pin that [`Pin::lock`] left on a window, taken up again.
    pub(super) fn locked(&self, window: u64, of: Access) -> Option<Pin<'_>> {
        let entry = self.opened_entry()?;
        let key = entry.key(window, of);
        let stripe = entry.take_locked(key)?;
        let slot = entry.slots.get(window)?.slot(of);
        let at = Pinned {
            entry,
            window,
            of,
            slot,
            stripe,
            address: slot.address(),
            writing: None,
        };
        let core = &*self.core;
        Some(Pin { core, at })
    }

    /// The slots of a window that the file reaches, as declared or as seen. None are made for others.
    pub(super) fn slots_of<'e>(
        &self,
        entry: &'e FileEntry,
        window: u64,
    ) -> Result<&'e WindowSlots, MappingError> {
        let windows = self.core.windows;
        let reach = self.declared_bytes.max(entry.known_bytes());
        let slots = if window > windows.of(i64::MAX as u64) {
            None
        } else if windows.start(window) >= reach {
            return Err(self.short(windows.start(window) + 1, reach));
        } else {
            entry.slots.get_or_create(window)
        };
        slots.ok_or_else(|| MappingError::Offset {
            path: self.path(),
            offset: window.saturating_mul(windows.bytes() as u64),
            len: 1,
        })
    }

    /// How much of a window is declared to be there, in bytes.
    fn declared_in(&self, window: u64) -> usize {
        let windows = self.core.windows;
        let left = self.declared_bytes.saturating_sub(windows.start(window));
        usize::try_from(left).map_or(windows.bytes(), |left| left.min(windows.bytes()))
    }

    /// Does the duty taken by `begin_mapping`.
    fn map_and_publish(
        &self,
        entry: &FileEntry,
        slot: &Slot,
        stripe: Stripe,
        window: u64,
        needed: usize,
        access: Access,
    ) -> Result<Address, MappingError> {
        let parking = &self.core.parking;
        let duty = Duty { slot, parking };
        let (charge, map, len) = self.map(entry, window, needed, access)?;
        let address = Address {
            start: map.as_mut_ptr(),
            len,
        };
        // SAFETY: the flag lies in the slot, which `held` keeps alive beside the watch; nobody but us
        // maps anything over this mapping before the watch is dropped (`Ledger::unmap`).
        let watch = unsafe { sigbus::watch(map.as_ptr(), map.len(), slot.poison_flag()) };
        let held = Held::new(entry.slots.clone(), watch, map);
        let key = entry.key(window, access);
        self.core.ledger.admit(charge, key, held);
        slot.publish(address, stripe);
        std::mem::forget(duty);
        parking.wake(slot);
        Ok(address)
    }

    fn window_pinned(&self, window: u64) -> MappingError {
        let (path, offset) = (self.path(), self.core.windows.start(window));
        MappingError::WindowPinned { path, offset }
    }
}
