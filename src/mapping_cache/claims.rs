//! Which ranges of one file are borrowed: many may share a range, one may have it to itself.
//!
//! Shared claims are kept in stripes, one for a thread or two, so that readers do not disturb each
//! other; exclusive ones in one ordered table. The lock of the table may be held when one of a stripe is
//! taken, never the other way round.
//!
//! A stripe has a few quick places, each one word that holds a claim of ordinary size, and a slab behind a
//! lock for all others. A shared claim is entered in a free quick place by one compare-and-swap, *then* looks at
//! the count of exclusive ones. None: it is granted. Otherwise it is taken off and begins again with the table's
//! lock. (For the slab: it takes the lock, looks, and is entered.) An exclusive claim, under the table's lock, is
//! counted, *then* looks into every stripe, then is entered or counted off. The cases:
//!
//! 1. *Shared finds no count.* In a quick place, both do a read-modify-write of it. If that of an exclusive one
//!    comes later, it sees the shared one. If it came before, the shared one's acquires what the exclusive one
//!    released there, so it finds the count. In the slab, the lock does the same: an exclusive one that was
//!    counted before and has not looked yet will find the shared one; one that has looked has brought its count.
//!    Nothing rests on sequential consistency.
//! 2. *Shared finds a count:* the table's lock orders it with everything exclusive, and what it enters is
//!    there for whoever asks next. An exclusive one that is refused was never seen by anybody. A shared one that
//!    is taken off may have been: an exclusive one is then refused as by a claim that was given back at once.
//! 3. *The stripes but the first are made when a guard first wants one,* under the table's lock: an
//!    exclusive claim finds them, or had gone from that lock before, with its count behind it. Files
//!    that are only copied from and to never have them.
//! 4. *Exclusive meets exclusive:* one lock.
//! 5. *What was done under a claim comes before what is done under the next:* taking a claim out (Release) and
//!    looking for it (Acquire) are read-modify-writes of one word, or take the same lock. A look that finds no count
//!    (case 1) reads what giving back released there.
//! 6. *No wake-up is lost.* Who waits counts himself in, notes the epoch, and looks again, under the lock or
//!    by the read-modify-write of whatever he finds. Who gives back, or takes off, does so by that lock or
//!    word later, so he sees the count and moves the epoch.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::stripe::{STRIPES, Stripe};
use super::sync::{AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering};

/// How long a claim stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// As long as a copy takes: worth waiting for.
    Copy,
    /// As long as its owner likes.
    Guard,
}

/// May others claim the range too?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    Exclusive,
}

/// The range is claimed by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// All of them are copies.
    pub(crate) is_brief: bool,
    /// Where the first exclusive one begins, as far as it is known: what comes before is free to be shared.
    pub(crate) from: u64,
}

/// A claim that was granted; to be given back by [`Claims::give_back`] once. Words, each read as it was written
/// (see [`Place`]).
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    /// The quick place it is in.
    quick: Option<&'a AtomicU64>,
    /// If in none, the start of an exclusive claim; of a shared one its stripe, and its index in the slab there.
    word: u64,
    sharing: Sharing,
}

impl<'a> Token<'a> {
    #[inline(always)]
    fn quick(place: &'a AtomicU64) -> Self {
        Self {
            quick: Some(place),
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

/// The claims on one file.
#[derive(Debug)]
pub(super) struct Claims {
    first: SharedStripe,
    /// Case 3.
    others: OnceLock<Box<[SharedStripe; STRIPES - 1]>>,
    exclusive: Mutex<Table>,
    /// Of the claims in the table, and of the ranges wanted.
    exclusive_count: AtomicUsize,
    waiter_count: AtomicUsize,
    epoch: Mutex<u64>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    /// By their start; no two overlap.
    held: BTreeMap<u64, (u64, Stay)>,
    /// What copies wait for that need it to themselves: copies that share come after them, so that many of
    /// those do not keep one of these out for ever.
    wanted: Vec<Range<u64>>,
}

/// Two cache lines: the processor fetches them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct SharedStripe {
    /// Claims that fit a word ([`pack`]); 0 is free.
    quick: [AtomicU64; PLACES],
    /// The others.
    slab: Mutex<Slab>,
}

/// So many claims of a stripe need no lock.
const PLACES: usize = if cfg!(loom) { 1 } else { 4 };

impl SharedStripe {
    fn new() -> Self {
        Self {
            quick: std::array::from_fn(|_| AtomicU64::new(0)),
            slab: Mutex::new(Slab::default()),
        }
    }

    /// A look for an exclusive claim.
    fn conflict(&self, range: &Range<u64>) -> Option<Conflict> {
        let quick = self.quick.iter().filter_map(|place| {
            // A read-modify-write. Release: case 1. Acquire: case 5.
            let (claim, stay) = unpack(place.fetch_add(0, Ordering::AcqRel));
            overlap(&claim, range).then_some((claim.start, stay))
        });
        let quick = merge(quick);
        let slab = lock(&self.slab).conflict(range);
        both(quick, slab)
    }
}

const LEN_BITS: u32 = 24;
const START_BITS: u32 = 39;
const BRIEF: u64 = 1 << LEN_BITS;

/// A range that is not empty and a stay as a word that is not 0: start (39 bits) | brief (1) | length (24 bits).
/// `None` for one that is longer, or farther out.
#[inline(always)]
fn pack(range: &Range<u64>, stay: Stay) -> Option<u64> {
    let (start, len) = (range.start, range.end - range.start);
    let brief = match stay {
        Stay::Copy => BRIEF,
        Stay::Guard => 0,
    };
    let fits = start >> START_BITS | len >> LEN_BITS == 0;
    fits.then_some(start << (LEN_BITS + 1) | brief | len)
}

/// An empty range for 0.
fn unpack(word: u64) -> (Range<u64>, Stay) {
    let (start, len) = (word >> (LEN_BITS + 1), word & (BRIEF - 1));
    let stay = match word & BRIEF {
        0 => Stay::Guard,
        _ => Stay::Copy,
    };
    (start..start + len, stay)
}

/// Claims with a number each, found again without a search.
#[derive(Debug, Default)]
struct Slab {
    places: Vec<Place>,
    /// The first of the free places, and one more; 0 if there is none.
    free: u64,
}

/// A claim, or a free place: then `end` is 0 and `start` is as `Slab::free`. Words, each read as it was written:
/// a wide load of what was just stored in pieces would wait until the stores have left for the cache.
#[derive(Debug)]
struct Place {
    start: u64,
    end: u64,
    is_brief: bool,
}

impl Slab {
    fn insert(&mut self, range: Range<u64>, stay: Stay) -> u32 {
        if self.free == 0 {
            return self.push(range, stay);
        }
        let index = self.free - 1;
        // Lossless: from an index.
        let place = &mut self.places[index as usize];
        assert!(place.end == 0, "a free place held a claim");
        self.free = place.start;
        place.start = range.start;
        place.end = range.end;
        place.is_brief = stay == Stay::Copy;
        index as u32
    }

    fn push(&mut self, range: Range<u64>, stay: Stay) -> u32 {
        self.places.push(Place {
            start: range.start,
            end: range.end,
            is_brief: stay == Stay::Copy,
        });
        let last = self.places.len() - 1;
        u32::try_from(last).expect("4 billion claims do not fit in memory")
    }

    fn remove(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        assert!(place.end != 0, "a claim was given back twice");
        place.start = self.free;
        place.end = 0;
        self.free = u64::from(index) + 1;
    }

    fn conflict(&self, range: &Range<u64>) -> Option<Conflict> {
        let claims = self.places.iter().filter(|place| place.end != 0);
        let met = claims.filter(|place| place.start < range.end && range.start < place.end);
        let met = met.map(|place| match place.is_brief {
            true => (place.start, Stay::Copy),
            false => (place.start, Stay::Guard),
        });
        merge(met)
    }
}

/// Waiting for claims on one file to be given back.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    claims: &'a Claims,
    epoch: u64,
    wanted: Option<Range<u64>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.claims.waiter_count.fetch_sub(1, Ordering::Relaxed);
        if let Some(wanted) = self.wanted.take() {
            self.claims.want_no_more(&wanted);
        }
    }
}

impl Claims {
    pub(super) fn new() -> Self {
        let claims = Self {
            first: SharedStripe::new(),
            others: OnceLock::new(),
            exclusive: Mutex::new(Table::default()),
            exclusive_count: AtomicUsize::new(0),
            waiter_count: AtomicUsize::new(0),
            epoch: Mutex::new(0),
            changed: Condvar::new(),
        };
        if cfg!(loom) {
            // loom does not see what OnceLock orders.
            claims.make_others(Stripe::number(0));
        }
        claims
    }

    /// Claims a range that is not empty, or says who has it.
    pub(super) fn claim(
        &self,
        range: Range<u64>,
        sharing: Sharing,
        stay: Stay,
        stripe: Stripe,
    ) -> Result<Token<'_>, Conflict> {
        debug_assert!(range.start < range.end, "empty ranges need no claim");
        match sharing {
            Sharing::Shared => self.share(range, stay, stripe),
            Sharing::Exclusive => self.exclude(range, stay),
        }
    }

    fn share(&self, range: Range<u64>, stay: Stay, stripe: Stripe) -> Result<Token<'_>, Conflict> {
        match self.share_at_once(range.clone(), stay, stripe) {
            Some(token) => Ok(token),
            None => self.share_beside_exclusive(range, stay, stripe),
        }
    }

    /// Claims a range if nobody has any of the file to himself.
    #[inline(always)]
    pub(super) fn share_at_once(
        &self,
        range: Range<u64>,
        stay: Stay,
        stripe: Stripe,
    ) -> Option<Token<'_>> {
        let here = self.choose(stripe, stay);
        // Spares the place when the answer is known, and decides nothing else.
        if self.exclusive_count.load(Ordering::Relaxed) > 0 {
            return None;
        }
        if let Some(word) = pack(&range, stay) {
            for place in &here.quick {
                // Acquire: pairs with the look of `exclude` (case 1).
                if place.load(Ordering::Relaxed) == 0
                    && place
                        .compare_exchange(0, word, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
                {
                    // After it was entered: case 1. Acquire: case 5.
                    if self.exclusive_count.load(Ordering::Acquire) > 0 {
                        self.take_off(Token::quick(place));
                        return None;
                    }
                    return Some(Token::quick(place));
                }
            }
        }
        self.share_in_slab(range, stay, stripe)
    }

    /// Gives back what was not used after all. It was seen by others perhaps, who may wait for it by now.
    #[cold]
    #[inline(never)]
    pub(super) fn take_off(&self, token: Token<'_>) {
        self.give_back(token);
    }

    #[inline(never)]
    fn share_in_slab(&self, range: Range<u64>, stay: Stay, stripe: Stripe) -> Option<Token<'_>> {
        let (stripe, here) = self.made(stripe);
        let mut slab = lock(&here.slab);
        // Under the lock: case 1. Acquire: case 5.
        if self.exclusive_count.load(Ordering::Acquire) > 0 {
            return None;
        }
        Some(Token::slab(stripe, slab.insert(range, stay)))
    }

    /// Case 2.
    #[cold]
    #[inline(never)]
    fn share_beside_exclusive(
        &self,
        range: Range<u64>,
        stay: Stay,
        stripe: Stripe,
    ) -> Result<Token<'_>, Conflict> {
        let table = lock(&self.exclusive);
        if let Some(conflict) = conflict_in(&table.held, &range) {
            return Err(conflict);
        }
        let wanted = table.wanted.iter().any(|wanted| overlap(wanted, &range));
        if wanted && stay == Stay::Copy {
            return Err(Conflict {
                is_brief: true,
                from: range.start,
            });
        }
        let (stripe, here) = self.made(stripe);
        let index = lock(&here.slab).insert(range, stay);
        Ok(Token::slab(stripe, index))
    }

    /// The stripe to enter a claim in: the caller's own if there are several.
    #[inline(always)]
    fn choose(&self, mine: Stripe, stay: Stay) -> &SharedStripe {
        match (self.stripe(mine), stay) {
            (Some(mine), _) => mine,
            (None, Stay::Copy) => &self.first,
            (None, Stay::Guard) => self.make_others(mine),
        }
    }

    /// The same, when the others are not to be made.
    fn made(&self, mine: Stripe) -> (Stripe, &SharedStripe) {
        match self.stripe(mine) {
            Some(there) => (mine, there),
            None => (Stripe::number(0), &self.first),
        }
    }

    /// A stripe, if it was made.
    #[inline(always)]
    fn stripe(&self, stripe: Stripe) -> Option<&SharedStripe> {
        match stripe.index().checked_sub(1) {
            None => Some(&self.first),
            Some(other) => Some(&self.others.get()?[other]),
        }
    }

    #[cold]
    #[inline(never)]
    fn make_others(&self, mine: Stripe) -> &SharedStripe {
        let _table = lock(&self.exclusive);
        self.others
            .get_or_init(|| Box::new(std::array::from_fn(|_| SharedStripe::new())));
        self.stripe(mine).expect("just made")
    }

    fn exclude(&self, range: Range<u64>, stay: Stay) -> Result<Token<'_>, Conflict> {
        let mut table = lock(&self.exclusive);
        if let Some(conflict) = conflict_in(&table.held, &range) {
            return Err(conflict);
        }
        // Before any stripe is looked into: case 1. Relaxed: its places and its lock carry the count.
        self.exclusive_count.fetch_add(1, Ordering::Relaxed);
        let others = self.others.get().into_iter().flat_map(|all| all.iter());
        let stripes = std::iter::once(&self.first).chain(others);
        let met = stripes.map(|stripe| stripe.conflict(&range));
        let met = met.fold(None, both);
        if let Some(conflict) = met {
            // Relaxed: nothing was done under it.
            self.exclusive_count.fetch_sub(1, Ordering::Relaxed);
            return Err(conflict);
        }
        let start = range.start;
        table.held.insert(start, (range.end, stay));
        Ok(Token::exclusive(start))
    }

    /// Gives a claim back and wakes whoever waits.
    #[inline(always)]
    pub(super) fn give_back(&self, token: Token<'_>) {
        match token.quick {
            Some(place) => {
                // AcqRel: the next look finds what was done (case 5), or this finds who waits (case 6).
                let claim = place.swap(0, Ordering::AcqRel);
                assert!(claim != 0, "a claim was given back twice");
            }
            None => self.give_back_locked(token),
        }
        self.wake();
    }

    #[inline(never)]
    fn give_back_locked(&self, token: Token<'_>) {
        if token.sharing == Sharing::Exclusive {
            return self.give_back_exclusive(token.word);
        }
        // Lossless: put together in `Token::slab`.
        let (stripe, index) = ((token.word >> 32) as usize, token.word as u32);
        let stripe = self.stripe(Stripe::number(stripe));
        let stripe = stripe.expect("made when it was chosen");
        lock(&stripe.slab).remove(index);
    }

    fn give_back_exclusive(&self, start: u64) {
        let mut table = lock(&self.exclusive);
        let claim = table.held.remove(&start);
        assert!(claim.is_some(), "a claim was given back twice");
        // Release: pairs with the look in `share` (case 5).
        self.exclusive_count.fetch_sub(1, Ordering::Release);
    }

    /// After the lock: case 6.
    #[inline(always)]
    fn wake(&self) {
        if self.waiter_count.load(Ordering::Relaxed) > 0 {
            self.wake_all();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_all(&self) {
        *lock(&self.epoch) += 1;
        self.changed.notify_all();
    }

    /// Begins to wait; to be followed by another attempt, and [`sleep`](Waiting::sleep) if that fails.
    /// Copies that would share the range that is `wanted` wait until this is dropped.
    pub(super) fn wait(&self, wanted: Option<Range<u64>>) -> Waiting<'_> {
        if let Some(wanted) = &wanted {
            let mut table = lock(&self.exclusive);
            table.wanted.push(wanted.clone());
            self.exclusive_count.fetch_add(1, Ordering::Relaxed);
        }
        self.waiter_count.fetch_add(1, Ordering::Relaxed);
        let epoch = *lock(&self.epoch);
        Waiting {
            claims: self,
            epoch,
            wanted,
        }
    }

    fn want_no_more(&self, wanted: &Range<u64>) {
        let mut table = lock(&self.exclusive);
        let place = table.wanted.iter().position(|range| range == wanted);
        table
            .wanted
            .swap_remove(place.expect("wanted since it was made"));
        // Release: as in `give_back`.
        self.exclusive_count.fetch_sub(1, Ordering::Release);
        drop(table);
        self.wake();
    }
}

impl Waiting<'_> {
    pub(super) fn is_for(&self, claims: &Claims) -> bool {
        std::ptr::eq(self.claims, claims)
    }

    /// Returns when a claim was given back since this was made or last slept; false if the deadline
    /// came first.
    pub(super) fn sleep(&mut self, deadline: Option<Instant>) -> bool {
        let Claims { epoch, changed, .. } = self.claims;
        let mut now = lock(epoch);
        while *now == self.epoch {
            now = match deadline {
                None => changed.wait(now).unwrap_or_else(|e| e.into_inner()),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        return false;
                    }
                    let woken = changed.wait_timeout(now, left);
                    woken.unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
        self.epoch = *now;
        true
    }
}

fn conflict_in(held: &BTreeMap<u64, (u64, Stay)>, range: &Range<u64>) -> Option<Conflict> {
    let before = held.range(..range.end).rev();
    // They do not overlap each other, so their ends fall with their starts.
    let met = before.take_while(|(_, (end, _))| *end > range.start);
    merge(met.map(|(start, (_, stay))| (*start, *stay)))
}

fn merge(met: impl Iterator<Item = (u64, Stay)>) -> Option<Conflict> {
    let conflicts = met.map(|(from, stay)| Conflict {
        is_brief: stay == Stay::Copy,
        from,
    });
    conflicts.fold(None, |met, conflict| both(met, Some(conflict)))
}

fn both(one: Option<Conflict>, other: Option<Conflict>) -> Option<Conflict> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Conflict {
            is_brief: one.is_brief && other.is_brief,
            from: one.from.min(other.from),
        }),
        (one, other) => one.or(other),
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

#[inline(always)]
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

#[cfg(all(loom, test))]
#[path = "claims_loom.rs"]
mod claims_loom;

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stripe(number: usize) -> Stripe {
        Stripe::number(number)
    }

    #[test]
    fn disjoint_claims_do_not_meet_and_touching_ones_neither() {
        let claims = Claims::new();
        let take = |range, sharing| claims.claim(range, sharing, Stay::Guard, stripe(0));
        let left = take(0..10, Sharing::Exclusive).unwrap();
        let right = take(20..30, Sharing::Exclusive).unwrap();
        let between = take(10..20, Sharing::Shared).unwrap();
        assert!(take(9..10, Sharing::Shared).is_err());
        assert!(take(19..21, Sharing::Exclusive).is_err());
        for token in [left, right, between] {
            claims.give_back(token);
        }
        assert!(take(0..30, Sharing::Exclusive).is_ok());
    }

    #[test]
    fn a_wait_ends_at_its_deadline_or_when_the_claim_goes() {
        let claims = Claims::new();
        let held = claims
            .claim(0..10, Sharing::Exclusive, Stay::Guard, stripe(0))
            .unwrap();
        let mut waiting = claims.wait(None);
        assert!(!waiting.sleep(Some(Instant::now())));
        claims.give_back(held);
        assert!(waiting.sleep(None));
    }

    #[test]
    fn a_claim_in_a_word_is_the_claim_or_none() {
        let (far, long) = ((1 << START_BITS) - 1, (1 << LEN_BITS) - 1);
        for (start, len) in [(0, 1), (far, 1), (far, long), (0, long), (4096, 16384)] {
            for stay in [Stay::Copy, Stay::Guard] {
                let word = pack(&(start..start + len), stay).unwrap();
                assert_eq!(unpack(word), (start..start + len, stay));
            }
        }
        assert_eq!(pack(&(far + 1..far + 2), Stay::Copy), None);
        assert_eq!(pack(&(0..long + 1), Stay::Copy), None);
        assert!(unpack(0).0.is_empty());
    }

    proptest! {
        /// Claims are granted exactly when a list of all of them says so.
        #[test]
        fn claims_agree_with_a_list(
            steps in prop::collection::vec((0u64..40, 1u64..12, 0u8..4, any::<bool>(), 0usize..3), 1..120),
            // With the larger, some claims or all are too long for a quick place, or too far out.
            scale in prop::sample::select(vec![1, 1 << 22, 1 << 35, 1 << 57]),
        ) {
            let claims = Claims::new();
            let mut held: Vec<(Range<u64>, Sharing, Stay, Token<'_>)> = Vec::new();
            for (start, len, what, brief, number) in steps {
                if what == 0 && !held.is_empty() {
                    let (.., token) = held.swap_remove(start as usize % held.len());
                    claims.give_back(token);
                    continue;
                }
                let range = start * scale..(start + len) * scale;
                let sharing = if what == 1 { Sharing::Exclusive } else { Sharing::Shared };
                let stay = if brief { Stay::Copy } else { Stay::Guard };
                let met: Vec<Stay> = held
                    .iter()
                    .filter(|(other, theirs, ..)| {
                        overlap(other, &range)
                            && (sharing == Sharing::Exclusive || *theirs == Sharing::Exclusive)
                    })
                    .map(|(_, _, stay, _)| *stay)
                    .collect();
                match claims.claim(range.clone(), sharing, stay, stripe(number)) {
                    Ok(token) => {
                        prop_assert!(met.is_empty());
                        held.push((range, sharing, stay, token));
                    }
                    Err(conflict) => {
                        prop_assert!(!met.is_empty());
                        // The table is looked at first: what is in the stripes may go unsaid.
                        if conflict.is_brief {
                            prop_assert!(met.contains(&Stay::Copy));
                        } else {
                            prop_assert!(met.contains(&Stay::Guard));
                        }
                    }
                }
            }
        }
    }
}
