//! The range locks of one file. Shared locks may overlap each other. An exclusive lock overlaps no
//! other lock.
//!
//! Shared locks are stored in stripes, so that threads that read do not share cache lines.
//! Exclusive locks are stored in one ordered table. The mutex of a stripe may be acquired under
//! that of the table, but not the reverse.
//!
//! A stripe has a few quick entries and a slab. A quick entry is one word that holds a lock of
//! ordinary size. The slab is under a mutex and holds all other locks.
//!
//! A shared lock is stored in a free quick entry by a compare-and-swap, and *then* loads the count
//! of exclusive locks. If the count is zero, the lock is granted. Otherwise it is removed and
//! retried under the mutex of the table. For the slab, it acquires the mutex, loads the count, and
//! is stored.
//!
//! An exclusive lock holds the mutex of the table. It increments the count, *then* loads every
//! stripe, and is then stored in the table or decrements the count. The cases:
//!
//! 1. *A shared lock finds no count.* In a quick entry, both locks do a read-modify-write. If that
//!    of the exclusive lock is later, it sees the shared lock. If it is earlier, the shared lock
//!    acquires what the exclusive lock released there, and sees the count. In the slab, the mutex
//!    has the same effect. An exclusive lock that has not loaded the slab yet will see the shared
//!    lock. One that has loaded it has published its count. No step relies on sequential
//!    consistency.
//! 2. *A shared lock finds a count.* The mutex of the table orders it with all exclusive locks, and
//!    later requests see its entry. An exclusive lock that is refused was never visible. A shared
//!    lock that is removed may have been visible. It then refuses an exclusive lock like a lock
//!    that was unlocked at once.
//! 3. *All stripes but the first are created when a guard first needs one,* under the mutex of the
//!    table. An exclusive lock either sees them, or released that mutex before with its count
//!    visible. Files that are only copied from and to never have them.
//! 4. *Exclusive locks meet:* one mutex orders them.
//! 5. *Accesses under a lock happen before those under the next lock.* An entry is removed
//!    (Release) and loaded (Acquire) by read-modify-writes of one word, or under one mutex. A load
//!    that finds no count (case 1) acquires what unlocking released there.
//! 6. *No wake-up is lost.* A waiter increments the waiter count, loads the epoch, and then tries
//!    again, under the mutex or by the read-modify-write of the conflicting entry. Unlocking uses
//!    that mutex or word later. So it sees the waiter count and increments the epoch.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::mapping_cache::stripe::{STRIPES, Stripe};
use crate::mapping_cache::sync::{AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering};

/// The owner of a lock, which determines how long it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// A copy. Others wait for it.
    Copy,
    /// A guard, which its owner may hold for any time.
    Guard,
}

/// The mode of a lock. A whole word, so that a token has no padding, which would be copied in odd
/// parts (docs/benchmarks.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Whether all known conflicting locks are held by copies.
    pub(crate) only_copies: bool,
    /// Start of the first known conflicting lock. Bytes before it may be locked shared.
    pub(crate) from: u64,
}

/// A granted lock, which [`LockTable::unlock`] unlocks once. Its fields are words that are read as
/// they were written (see [`SlabEntry`]).
#[derive(Clone, Copy, Debug)]
pub(in crate::mapping_cache) struct LockToken<'a> {
    /// The quick entry that holds the lock.
    quick: Option<&'a AtomicU64>,
    /// Without a quick entry: the start of an exclusive lock, or the stripe (high 32 bits) and slab
    /// index of a shared lock.
    word: u64,
    sharing: Sharing,
}

impl<'a> LockToken<'a> {
    #[inline(always)]
    fn quick(entry: &'a AtomicU64) -> Self {
        Self {
            quick: Some(entry),
            word: 0,
            sharing: Sharing::Shared,
        }
    }

    fn slab(stripe: Stripe, index: u32) -> Self {
        Self {
            quick: None,
            word: (stripe.index() as u64) << 32 | u64::from(index),
            sharing: Sharing::Shared,
        }
    }

    fn exclusive(start: u64) -> Self {
        Self {
            quick: None,
            word: start,
            sharing: Sharing::Exclusive,
        }
    }
}

/// The range locks of one file.
#[derive(Debug)]
pub(in crate::mapping_cache) struct LockTable {
    first: SharedStripe,
    /// The other stripes. Case 3.
    other_stripes: OnceLock<Box<[SharedStripe; STRIPES - 1]>>,
    exclusive: Mutex<ExclusiveLocks>,
    /// Number of locks in the table plus number of wanted ranges.
    exclusive_count: AtomicUsize,
    waiter_count: AtomicUsize,
    epoch: Mutex<u64>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ExclusiveLocks {
    /// Locks by their start. They do not overlap.
    held: BTreeMap<u64, (u64, LockKind)>,
    /// Ranges for which copies wait that need an exclusive lock. Later shared copies wait for them,
    /// so that many readers cannot starve a writer.
    wanted: Vec<Range<u64>>,
}

/// Aligned to two cache lines, since processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct SharedStripe {
    /// Locks that fit a word ([`pack`]). 0 is a free entry.
    quick: [AtomicU64; QUICK_ENTRIES],
    /// All other locks.
    slab: Mutex<Slab>,
}

/// Number of locks in a stripe that need no mutex.
const QUICK_ENTRIES: usize = if cfg!(loom) { 1 } else { 4 };

impl SharedStripe {
    fn new() -> Self {
        Self {
            quick: std::array::from_fn(|_| AtomicU64::new(0)),
            slab: Mutex::new(Slab::default()),
        }
    }

    /// Returns the conflict of an exclusive lock with this stripe.
    fn conflict(&self, range: &Range<u64>) -> Option<Conflict> {
        let quick = merge(self.quick.iter().filter_map(|entry| {
            // A read-modify-write. Release: case 1. Acquire: case 5.
            let (locked, stay) = unpack(entry.fetch_add(0, Ordering::AcqRel));
            overlap(&locked, range).then_some((locked.start, stay))
        }));
        let slab = lock_mutex(&self.slab).conflict(range);
        both(quick, slab)
    }
}

const LEN_BITS: u32 = 24;
const START_BITS: u32 = 39;
const COPY: u64 = 1 << LEN_BITS;

/// Packs a lock on a non-empty range into a word that is not 0: start (39 bits) | copy (1 bit) |
/// length (24 bits). Returns `None` if the start or the length does not fit.
#[inline(always)]
fn pack(range: &Range<u64>, stay: LockKind) -> Option<u64> {
    let (start, len) = (range.start, range.end - range.start);
    let copy_bit = match stay {
        LockKind::Copy => COPY,
        LockKind::Guard => 0,
    };
    let fits = start >> START_BITS | len >> LEN_BITS == 0;
    fits.then_some(start << (LEN_BITS + 1) | copy_bit | len)
}

/// Unpacks a word. 0 is an empty range.
fn unpack(word: u64) -> (Range<u64>, LockKind) {
    let (start, len) = (word >> (LEN_BITS + 1), word & (COPY - 1));
    let stay = match word & COPY {
        0 => LockKind::Guard,
        _ => LockKind::Copy,
    };
    (start..start + len, stay)
}

/// Locks by number, which are found without a search.
#[derive(Debug, Default)]
struct Slab {
    entries: Vec<SlabEntry>,
    /// Index of the first free entry plus 1, or 0 if there is none.
    free: u64,
}

/// A lock, or a free entry: its `end` is 0, and its `start` is the next free entry, like
/// `Slab::free`.
///
/// The fields are words that are read as they were written. A wide load of recent narrow stores
/// would stall until they have reached the cache.
#[derive(Debug)]
struct SlabEntry {
    start: u64,
    end: u64,
    is_copy: bool,
}

impl Slab {
    fn insert(&mut self, range: Range<u64>, stay: LockKind) -> u32 {
        if self.free == 0 {
            return self.push(range, stay);
        }
        let index = self.free - 1;
        // Lossless: from an index.
        let entry = &mut self.entries[index as usize];
        assert!(entry.end == 0, "a free entry holds no lock");
        self.free = entry.start;
        entry.start = range.start;
        entry.end = range.end;
        entry.is_copy = stay == LockKind::Copy;
        index as u32
    }

    fn push(&mut self, range: Range<u64>, stay: LockKind) -> u32 {
        self.entries.push(SlabEntry {
            start: range.start,
            end: range.end,
            is_copy: stay == LockKind::Copy,
        });
        let last = self.entries.len() - 1;
        u32::try_from(last).expect("the number of locks fits in 32 bits")
    }

    fn remove(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        assert!(entry.end != 0, "a lock is unlocked once");
        entry.start = self.free;
        entry.end = 0;
        self.free = u64::from(index) + 1;
    }

    fn conflict(&self, range: &Range<u64>) -> Option<Conflict> {
        let locks = self.entries.iter().filter(|entry| entry.end != 0);
        let overlapping = locks.filter(|entry| entry.start < range.end && range.start < entry.end);
        merge(overlapping.map(|entry| {
            let stay = if entry.is_copy {
                LockKind::Copy
            } else {
                LockKind::Guard
            };
            (entry.start, stay)
        }))
    }
}

/// A thread that waits for locks on one file to be unlocked.
#[derive(Debug)]
pub(in crate::mapping_cache) struct LockWait<'a> {
    table: &'a LockTable,
    epoch: u64,
    wanted: Option<Range<u64>>,
}

impl Drop for LockWait<'_> {
    fn drop(&mut self) {
        self.table.waiter_count.fetch_sub(1, Ordering::Relaxed);
        if let Some(wanted) = self.wanted.take() {
            self.table.remove_wanted(&wanted);
        }
    }
}

impl LockTable {
    pub(in crate::mapping_cache) fn new() -> Self {
        let table = Self {
            first: SharedStripe::new(),
            other_stripes: OnceLock::new(),
            exclusive: Mutex::new(ExclusiveLocks::default()),
            exclusive_count: AtomicUsize::new(0),
            waiter_count: AtomicUsize::new(0),
            epoch: Mutex::new(0),
            changed: Condvar::new(),
        };
        if cfg!(loom) {
            // loom does not model the ordering of OnceLock.
            table.create_stripes(Stripe::number(0));
        }
        table
    }

    /// Locks a range that is not empty, or returns the conflict.
    pub(in crate::mapping_cache) fn lock(
        &self,
        range: Range<u64>,
        sharing: Sharing,
        stay: LockKind,
        stripe: Stripe,
    ) -> Result<LockToken<'_>, Conflict> {
        debug_assert!(range.start < range.end, "a locked range is not empty");
        match sharing {
            Sharing::Shared => self.lock_shared(range, stay, stripe),
            Sharing::Exclusive => self.lock_exclusive(range, stay),
        }
    }

    fn lock_shared(
        &self,
        range: Range<u64>,
        stay: LockKind,
        stripe: Stripe,
    ) -> Result<LockToken<'_>, Conflict> {
        match self.try_lock_shared(range.clone(), stay, stripe) {
            Some(token) => Ok(token),
            None => self.lock_shared_in_table(range, stay, stripe),
        }
    }

    /// Locks a range if no exclusive lock exists on the file.
    #[inline(always)]
    pub(in crate::mapping_cache) fn try_lock_shared(
        &self,
        range: Range<u64>,
        stay: LockKind,
        stripe: Stripe,
    ) -> Option<LockToken<'_>> {
        let here = self.stripe_for(stripe, stay);
        // An early load that avoids touching the entry. The load below decides.
        if self.exclusive_count.load(Ordering::Relaxed) > 0 {
            return None;
        }
        if let Some(word) = pack(&range, stay) {
            for entry in &here.quick {
                // Acquire: pairs with the loads of `lock_exclusive` (case 1).
                if entry.load(Ordering::Relaxed) == 0
                    && entry
                        .compare_exchange(0, word, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
                {
                    // After the lock was stored: case 1. Acquire: case 5.
                    if self.exclusive_count.load(Ordering::Acquire) > 0 {
                        self.undo(LockToken::quick(entry));
                        return None;
                    }
                    return Some(LockToken::quick(entry));
                }
            }
        }
        self.lock_shared_in_slab(range, stay, stripe)
    }

    /// Unlocks a lock that was not used. Other threads may have seen it and may wait for it.
    #[cold]
    #[inline(never)]
    pub(in crate::mapping_cache) fn undo(&self, token: LockToken<'_>) {
        self.unlock(token);
    }

    #[inline(never)]
    fn lock_shared_in_slab(
        &self,
        range: Range<u64>,
        stay: LockKind,
        stripe: Stripe,
    ) -> Option<LockToken<'_>> {
        let (stripe, here) = self.existing_stripe(stripe);
        let mut slab = lock_mutex(&here.slab);
        // Under the mutex: case 1. Acquire: case 5.
        if self.exclusive_count.load(Ordering::Acquire) > 0 {
            return None;
        }
        Some(LockToken::slab(stripe, slab.insert(range, stay)))
    }

    /// Locks a range while exclusive locks exist. Case 2.
    #[cold]
    #[inline(never)]
    fn lock_shared_in_table(
        &self,
        range: Range<u64>,
        stay: LockKind,
        stripe: Stripe,
    ) -> Result<LockToken<'_>, Conflict> {
        let table = lock_mutex(&self.exclusive);
        if let Some(conflict) = conflict_in(&table.held, &range) {
            return Err(conflict);
        }
        let wanted = table.wanted.iter().any(|wanted| overlap(wanted, &range));
        if wanted && stay == LockKind::Copy {
            return Err(Conflict {
                only_copies: true,
                from: range.start,
            });
        }
        let (stripe, here) = self.existing_stripe(stripe);
        let index = lock_mutex(&here.slab).insert(range, stay);
        Ok(LockToken::slab(stripe, index))
    }

    /// Returns the stripe for a lock: that of the thread if several exist. A guard creates them.
    #[inline(always)]
    fn stripe_for(&self, mine: Stripe, stay: LockKind) -> &SharedStripe {
        match (self.stripe(mine), stay) {
            (Some(mine), _) => mine,
            (None, LockKind::Copy) => &self.first,
            (None, LockKind::Guard) => self.create_stripes(mine),
        }
    }

    /// Returns the stripe for a lock without creating stripes.
    fn existing_stripe(&self, mine: Stripe) -> (Stripe, &SharedStripe) {
        match self.stripe(mine) {
            Some(there) => (mine, there),
            None => (Stripe::number(0), &self.first),
        }
    }

    /// Returns a stripe if it was created.
    #[inline(always)]
    fn stripe(&self, stripe: Stripe) -> Option<&SharedStripe> {
        match stripe.index().checked_sub(1) {
            None => Some(&self.first),
            Some(other) => Some(&self.other_stripes.get()?[other]),
        }
    }

    #[cold]
    #[inline(never)]
    fn create_stripes(&self, mine: Stripe) -> &SharedStripe {
        let _table = lock_mutex(&self.exclusive);
        self.other_stripes
            .get_or_init(|| Box::new(std::array::from_fn(|_| SharedStripe::new())));
        self.stripe(mine).expect("all stripes were created")
    }

    fn lock_exclusive(&self, range: Range<u64>, stay: LockKind) -> Result<LockToken<'_>, Conflict> {
        let mut table = lock_mutex(&self.exclusive);
        if let Some(conflict) = conflict_in(&table.held, &range) {
            return Err(conflict);
        }
        // Before any stripe is loaded: case 1. Relaxed: the entries and the mutex of a stripe
        // publish the count.
        self.exclusive_count.fetch_add(1, Ordering::Relaxed);
        let others = self
            .other_stripes
            .get()
            .into_iter()
            .flat_map(|all| all.iter());
        let stripes = std::iter::once(&self.first).chain(others);
        let conflict = stripes
            .map(|stripe| stripe.conflict(&range))
            .fold(None, both);
        if let Some(conflict) = conflict {
            // Relaxed: no data was accessed under the lock.
            self.exclusive_count.fetch_sub(1, Ordering::Relaxed);
            return Err(conflict);
        }
        let start = range.start;
        table.held.insert(start, (range.end, stay));
        Ok(LockToken::exclusive(start))
    }

    /// Unlocks a range and wakes the waiters.
    #[inline(always)]
    pub(in crate::mapping_cache) fn unlock(&self, token: LockToken<'_>) {
        match token.quick {
            Some(entry) => {
                // AcqRel: the next load acquires the accesses (case 5), or this sees the waiter
                // (case 6).
                let word = entry.swap(0, Ordering::AcqRel);
                assert!(word != 0, "a lock is unlocked once");
            }
            None => self.unlock_by_number(token),
        }
        self.wake();
    }

    #[inline(never)]
    fn unlock_by_number(&self, token: LockToken<'_>) {
        if token.sharing == Sharing::Exclusive {
            return self.unlock_exclusive(token.word);
        }
        // Lossless: composed in `LockToken::slab`.
        let (stripe, index) = ((token.word >> 32) as usize, token.word as u32);
        let stripe = self
            .stripe(Stripe::number(stripe))
            .expect("the stripe was created before the lock");
        lock_mutex(&stripe.slab).remove(index);
    }

    fn unlock_exclusive(&self, start: u64) {
        let mut table = lock_mutex(&self.exclusive);
        let lock = table.held.remove(&start);
        assert!(lock.is_some(), "a lock is unlocked once");
        // Release: pairs with the loads of shared locks (case 5).
        self.exclusive_count.fetch_sub(1, Ordering::Release);
    }

    /// Wakes the waiters. Called after the entry was removed: case 6.
    #[inline(always)]
    fn wake(&self) {
        if self.waiter_count.load(Ordering::Relaxed) > 0 {
            self.wake_all();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_all(&self) {
        *lock_mutex(&self.epoch) += 1;
        self.changed.notify_all();
    }

    /// Registers a waiter. The caller tries again, and [sleeps](LockWait::sleep) if that fails.
    /// Shared copies that overlap the `wanted` range wait until this is dropped.
    pub(in crate::mapping_cache) fn start_waiting(
        &self,
        wanted: Option<Range<u64>>,
    ) -> LockWait<'_> {
        if let Some(wanted) = &wanted {
            let mut table = lock_mutex(&self.exclusive);
            table.wanted.push(wanted.clone());
            self.exclusive_count.fetch_add(1, Ordering::Relaxed);
        }
        self.waiter_count.fetch_add(1, Ordering::Relaxed);
        let epoch = *lock_mutex(&self.epoch);
        LockWait {
            table: self,
            epoch,
            wanted,
        }
    }

    fn remove_wanted(&self, wanted: &Range<u64>) {
        let mut table = lock_mutex(&self.exclusive);
        let index = table.wanted.iter().position(|range| range == wanted);
        table
            .wanted
            .swap_remove(index.expect("a wanted range is listed until it is removed"));
        // Release: as in `unlock_exclusive`.
        self.exclusive_count.fetch_sub(1, Ordering::Release);
        drop(table);
        self.wake();
    }
}

impl LockWait<'_> {
    pub(in crate::mapping_cache) fn is_for(&self, table: &LockTable) -> bool {
        std::ptr::eq(self.table, table)
    }

    /// Sleeps until a lock was unlocked since this was created or last slept. Returns `false` if
    /// the deadline passed first.
    pub(in crate::mapping_cache) fn sleep(&mut self, deadline: Option<Instant>) -> bool {
        let LockTable { epoch, changed, .. } = self.table;
        let mut now = lock_mutex(epoch);
        while *now == self.epoch {
            now = match deadline {
                None => changed.wait(now).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        return false;
                    }
                    let woken = changed.wait_timeout(now, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        self.epoch = *now;
        true
    }
}

fn conflict_in(held: &BTreeMap<u64, (u64, LockKind)>, range: &Range<u64>) -> Option<Conflict> {
    let before = held.range(..range.end).rev();
    // The locks do not overlap, so their ends are in the order of their starts.
    let overlapping = before.take_while(|(_, (end, _))| *end > range.start);
    merge(overlapping.map(|(start, (_, stay))| (*start, *stay)))
}

fn merge(conflicting: impl Iterator<Item = (u64, LockKind)>) -> Option<Conflict> {
    let conflicts = conflicting.map(|(from, stay)| Conflict {
        only_copies: stay == LockKind::Copy,
        from,
    });
    conflicts.fold(None, |merged, conflict| both(merged, Some(conflict)))
}

fn both(one: Option<Conflict>, other: Option<Conflict>) -> Option<Conflict> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Conflict {
            only_copies: one.only_copies && other.only_copies,
            from: one.from.min(other.from),
        }),
        (one, other) => one.or(other),
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

#[inline(always)]
fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(loom, test))]
#[path = "lock_table_loom.rs"]
mod lock_table_loom;

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stripe(number: usize) -> Stripe {
        Stripe::number(number)
    }

    #[test]
    fn disjoint_and_adjacent_locks_do_not_conflict() {
        let table = LockTable::new();
        let lock = |range, sharing| table.lock(range, sharing, LockKind::Guard, stripe(0));
        let left = lock(0..10, Sharing::Exclusive).unwrap();
        let right = lock(20..30, Sharing::Exclusive).unwrap();
        let between = lock(10..20, Sharing::Shared).unwrap();
        assert!(lock(9..10, Sharing::Shared).is_err());
        assert!(lock(19..21, Sharing::Exclusive).is_err());
        for token in [left, right, between] {
            table.unlock(token);
        }
        assert!(lock(0..30, Sharing::Exclusive).is_ok());
    }

    #[test]
    fn wait_ends_at_the_deadline_or_after_an_unlock() {
        let table = LockTable::new();
        let held = table
            .lock(0..10, Sharing::Exclusive, LockKind::Guard, stripe(0))
            .unwrap();
        let mut waiting = table.start_waiting(None);
        assert!(!waiting.sleep(Some(Instant::now())));
        table.unlock(held);
        assert!(waiting.sleep(None));
    }

    #[test]
    fn packing_is_lossless_or_refused() {
        let (far, long) = ((1 << START_BITS) - 1, (1 << LEN_BITS) - 1);
        for (start, len) in [(0, 1), (far, 1), (far, long), (0, long), (4096, 16384)] {
            for stay in [LockKind::Copy, LockKind::Guard] {
                let word = pack(&(start..start + len), stay).unwrap();
                assert_eq!(unpack(word), (start..start + len, stay));
            }
        }
        assert_eq!(pack(&(far + 1..far + 2), LockKind::Copy), None);
        assert_eq!(pack(&(0..long + 1), LockKind::Copy), None);
        assert!(unpack(0).0.is_empty());
    }

    proptest! {
        /// Locks are granted exactly if a list of all locks has no conflict.
        #[test]
        fn locks_agree_with_a_list(
            steps in prop::collection::vec((0u64..40, 1u64..12, 0u8..4, any::<bool>(), 0usize..3), 1..120),
            // With the larger scales, some or all locks do not fit a quick entry.
            scale in prop::sample::select(vec![1, 1 << 22, 1 << 35, 1 << 57]),
        ) {
            let table = LockTable::new();
            let mut held: Vec<(Range<u64>, Sharing, LockKind, LockToken<'_>)> = Vec::new();
            for (start, len, action, is_copy, number) in steps {
                if action == 0 && !held.is_empty() {
                    let (.., token) = held.swap_remove(start as usize % held.len());
                    table.unlock(token);
                    continue;
                }
                let range = start * scale..(start + len) * scale;
                let sharing = if action == 1 { Sharing::Exclusive } else { Sharing::Shared };
                let stay = if is_copy { LockKind::Copy } else { LockKind::Guard };
                let conflicting: Vec<LockKind> = held
                    .iter()
                    .filter(|(other, theirs, ..)| {
                        overlap(other, &range)
                            && (sharing == Sharing::Exclusive || *theirs == Sharing::Exclusive)
                    })
                    .map(|(_, _, stay, _)| *stay)
                    .collect();
                match table.lock(range.clone(), sharing, stay, stripe(number)) {
                    Ok(token) => {
                        prop_assert!(conflicting.is_empty());
                        held.push((range, sharing, stay, token));
                    }
                    Err(conflict) => {
                        prop_assert!(!conflicting.is_empty());
                        // The table is searched first, so conflicts in the stripes may be missing.
                        if conflict.only_copies {
                            prop_assert!(conflicting.contains(&LockKind::Copy));
                        } else {
                            prop_assert!(conflicting.contains(&LockKind::Guard));
                        }
                    }
                }
            }
        }
    }
}
