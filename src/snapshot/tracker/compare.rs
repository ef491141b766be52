//! Finding changes by reading everything.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::declared::Declarations;
use super::error::TrackerError;
use super::traits::{DirtyTracker, TrackerKind, pages_of};
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;

/// What is copied at once: fits the second-level cache, where it is hashed.
const BOUNCE_BYTES: usize = 256 << 10;

/// Compares the hash of each page with its hash at the last scan: 16 bytes of memory a page.
///
/// It needs nothing of the system and sees what anybody wrote, through whatever mapping or file. Each scan reads all of
/// the region, by kernel copies. A page that was written and has its former bytes again is not reported; what its former
/// bytes are is what the last scan saw, or what was [copied](DirtyTracker::copied) since. Two contents of a page with the same hash of 128 bits, seeded at random, would be taken for one.
#[derive(Debug)]
pub struct Compare {
    seed: u64,
    /// Hashes as of the last scan.
    table: Vec<u128>,
    bounce: Vec<u8>,
    declarations: Declarations,
}

impl Default for Compare {
    fn default() -> Self {
        Self::new()
    }
}

impl Compare {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            seed: RandomState::new().hash_one(0),
            table: Vec::new(),
            bounce: Vec::new(),
            declarations: Declarations::default(),
        }
    }

    /// Hashes a part of the region; pages that differ from the table are put into both.
    fn scan_part(
        &mut self,
        region: &Region,
        part: Range<usize>,
        into: &mut PageSet,
    ) -> Result<(), TrackerError> {
        let bounce = &mut self.bounce[..part.len()];
        region.copy_out(part.start, bounce)?;
        for (number, page) in bounce.chunks_exact(PAGE_BYTES).enumerate() {
            let number = part.start / PAGE_BYTES + number;
            let hash = xxh3_128_with_seed(page, self.seed);
            match self.table.get_mut(number) {
                Some(known) if *known == hash => continue,
                Some(known) => *known = hash,
                // Pages come in order, so this one is the next.
                None => self.table.push(hash),
            }
            into.insert(number as u64);
        }
        Ok(())
    }
}

impl DirtyTracker for Compare {
    fn kind(&self) -> TrackerKind {
        TrackerKind::Compare
    }

    fn arm(&mut self, region: &Region) -> Result<(), TrackerError> {
        self.table.clear();
        self.scan(region, &mut PageSet::new())
    }

    fn scan(&mut self, region: &Region, into: &mut PageSet) -> Result<(), TrackerError> {
        let len = region.len();
        self.bounce.resize(BOUNCE_BYTES, 0);
        self.table.truncate(len / PAGE_BYTES);
        for start in (0..len).step_by(BOUNCE_BYTES) {
            self.scan_part(region, start..len.min(start + BOUNCE_BYTES), into)?;
        }
        self.declarations.take_into(into, pages_of(0..len).end);
        Ok(())
    }

    /// Pages that no scan has seen yet are reported by the next one.
    fn copied(&mut self, first_page: u64, bytes: &[u8], into: &mut PageSet) {
        for (number, page) in (first_page..).zip(bytes.chunks_exact(PAGE_BYTES)) {
            let hash = xxh3_128_with_seed(page, self.seed);
            let known = usize::try_from(number).ok();
            let Some(known) = known.and_then(|number| self.table.get_mut(number)) else {
                return;
            };
            if *known != hash {
                *known = hash;
                into.insert(number);
            }
        }
    }

    fn declarations(&self) -> &Declarations {
        &self.declarations
    }
}
