//! Finding changes by reading everything.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::declared::Declarations;
use super::error::TrackerError;
use super::traits::{DirtyTracker, TrackerKind, pages_of};
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;
use crate::sys::seek_data;

/// What is copied at once: 256 KiB fit the second-level cache, where they are hashed.
const STEP_PAGES: usize = 64;
/// What a thread takes at once.
const CHUNK_PAGES: usize = 4096;
/// More wait for memory.
const THREADS_MAX: usize = 4;

/// Compares the hash of each page with its hash at the last scan: 16 bytes of memory a page.
///
/// It needs nothing of the system and sees what anybody wrote, through whatever mapping or file. Each scan reads all of
/// the region, by kernel copies on several threads, but for holes of a memfd. A page that was written and has its former bytes
/// again is not reported; what its former bytes are is what the last scan saw, or what was
/// [copied](DirtyTracker::copied) since. Two contents of a page with the same hash of 128 bits, seeded at random, would be
/// taken for one.
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
}

/// One scan.
struct Look<'r> {
    region: &'r Region,
    seed: u64,
    zero_page: u128,
    /// Pages that the scan before has seen.
    known: usize,
    /// To look for holes in.
    memfd: Option<File>,
    /// The last one that was found: where it ends may have taken long to find. That it was one during the scan is enough.
    hole: Mutex<Range<usize>>,
}

impl Look<'_> {
    /// Scans all that `table` is about. What was found until then is in `into` also when it fails.
    fn all(
        &self,
        table: &mut [u128],
        bounce: &mut Vec<u8>,
        into: &mut PageSet,
    ) -> Result<(), TrackerError> {
        let chunks = table.len().div_ceil(CHUNK_PAGES);
        let table = (0..)
            .step_by(CHUNK_PAGES)
            .zip(table.chunks_mut(CHUNK_PAGES));
        let table = Mutex::new(table);
        let next = || table.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = |bounce: &mut Vec<u8>| {
            bounce.resize(STEP_PAGES * PAGE_BYTES, 0);
            let mut changed = PageSet::new();
            let mut done = Ok(());
            while done.is_ok()
                && let Some((first, hashes)) = next()
            {
                done = self.chunk(first, hashes, bounce, &mut changed);
            }
            (changed, done)
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let helpers = processors.min(THREADS_MAX).min(chunks).saturating_sub(1);
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..helpers {
                let thread = std::thread::Builder::new().name("flatspan compares".to_owned());
                // Without it the scan takes longer.
                threads.extend(thread.spawn_scoped(scope, || work(&mut Vec::new())));
            }
            let (changed, mut done) = work(bounce);
            *into |= &changed;
            for thread in threads {
                let (changed, theirs) = thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                *into |= &changed;
                done = done.and(theirs);
            }
            done
        })
    }

    /// Hashes the pages from `first` on; those that differ are put into both.
    fn chunk(
        &self,
        first: usize,
        hashes: &mut [u128],
        bounce: &mut [u8],
        changed: &mut PageSet,
    ) -> Result<(), TrackerError> {
        let end = first + hashes.len();
        let mut note = |page: usize, hash: u128| {
            let known = &mut hashes[page - first];
            if page >= self.known || *known != hash {
                *known = hash;
                changed.insert(page as u64);
            }
        };
        let mut at = first;
        while at < end {
            let data = self.next_data(at, end);
            (at..data).for_each(|page| note(page, self.zero_page));
            at = end.min(data + STEP_PAGES);
            let bytes = &mut bounce[..(at - data) * PAGE_BYTES];
            self.region.copy_out(data * PAGE_BYTES, bytes)?;
            for (page, bytes) in (data..).zip(bytes.chunks_exact(PAGE_BYTES)) {
                note(page, xxh3_128_with_seed(bytes, self.seed));
            }
        }
        Ok(())
    }

    /// The first page from `at` to `end` that may hold anything but zeros.
    fn next_data(&self, at: usize, end: usize) -> usize {
        let Some(memfd) = &self.memfd else {
            return at;
        };
        let hole = || self.hole.lock().unwrap_or_else(PoisonError::into_inner);
        let known = hole().clone();
        if known.contains(&at) {
            return known.end.min(end);
        }
        let data = match seek_data::next_byte(memfd, (at * PAGE_BYTES) as u64) {
            Ok(Some(byte)) => usize::try_from(byte / PAGE_BYTES as u64).unwrap_or(usize::MAX),
            Ok(None) => usize::MAX,
            Err(_) => at,
        };
        if data <= at {
            return at;
        }
        *hole() = at..data;
        data.min(end)
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
        let known = self.table.len();
        self.table.resize(len / PAGE_BYTES, 0);
        let look = Look {
            region,
            seed: self.seed,
            zero_page: xxh3_128_with_seed(&[0; PAGE_BYTES], self.seed),
            known,
            memfd: region.memfd_to_seek_in(),
            hole: Mutex::default(),
        };
        look.all(&mut self.table, &mut self.bounce, into)?;
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
