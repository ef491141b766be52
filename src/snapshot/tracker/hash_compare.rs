//! Tracker that reads and hashes the whole region.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::dirty_marks::{DirtyMarks, pages_of};
use super::dirty_tracker::DirtyTracker;
use super::error::TrackerError;
use super::kind::TrackerKind;
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;
use crate::sys::seek_data;

/// Pages that are copied and hashed together: 256 KiB fit the second-level cache.
const STEP_PAGES: usize = 64;
/// Pages that a thread takes at a time.
const CHUNK_PAGES: usize = 4096;
/// More threads would wait for memory.
const THREADS_MAX: usize = 4;

/// Tracker that compares the hash of each page with its hash at the last scan. It needs 16 bytes of
/// memory per page.
///
/// It needs no facility of the system, and finds every change, through any mapping, file or
/// process. Each scan reads the whole region except holes of a memfd, by kernel copies on several
/// threads.
///
/// A page that was written and has its previous bytes again is not reported. The previous bytes are
/// those of the last scan, or those that were [copied](DirtyTracker::note_copied) since. The hash
/// has 128 bits and a random seed; two different pages with the same hash would count as equal.
///
/// # Examples
///
/// See [`DirtyTracker`].
#[derive(Debug)]
pub struct HashCompareTracker {
    seed: u64,
    /// Hashes as of the last scan.
    table: Vec<u128>,
    bounce: Vec<u8>,
    declarations: DirtyMarks,
}

impl Default for HashCompareTracker {
    fn default() -> Self {
        Self::new()
    }
}

impl HashCompareTracker {
    /// Creates a tracker that is not armed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            seed: RandomState::new().hash_one(0),
            table: Vec::new(),
            bounce: Vec::new(),
            declarations: DirtyMarks::default(),
        }
    }
}

/// State of one scan.
struct Scan<'r> {
    region: &'r Region,
    seed: u64,
    zero_page: u128,
    /// Number of pages that the previous scan has hashed.
    known: usize,
    /// Descriptor for finding holes.
    memfd: Option<File>,
    /// The last hole that was found, since finding its end may take long. It need not be a hole
    /// until the scan ends.
    hole: Mutex<Range<usize>>,
}

impl Scan<'_> {
    /// Scans all pages of `table`. On errors, `into` holds the pages that were found before.
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
                // If a thread cannot be started, the scan only takes longer.
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

    /// Hashes the pages from `first` on, and records those that differ.
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
            self.region.read_at(data * PAGE_BYTES, bytes)?;
            for (page, bytes) in (data..).zip(bytes.chunks_exact(PAGE_BYTES)) {
                note(page, xxh3_128_with_seed(bytes, self.seed));
            }
        }
        Ok(())
    }

    /// First page from `at` to `end` that is not in a hole.
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

impl DirtyTracker for HashCompareTracker {
    fn kind(&self) -> TrackerKind {
        TrackerKind::HashCompare
    }

    fn arm(&mut self, region: &Region) -> Result<(), TrackerError> {
        self.table.clear();
        self.scan(region, &mut PageSet::new())
    }

    fn scan(&mut self, region: &Region, into: &mut PageSet) -> Result<(), TrackerError> {
        let len = region.len();
        let known = self.table.len();
        self.table.resize(len / PAGE_BYTES, 0);
        let scan = Scan {
            region,
            seed: self.seed,
            zero_page: xxh3_128_with_seed(&[0; PAGE_BYTES], self.seed),
            known,
            memfd: region.memfd_to_seek_in(),
            hole: Mutex::default(),
        };
        scan.all(&mut self.table, &mut self.bounce, into)?;
        self.declarations.take_into(into, pages_of(0..len).end);
        Ok(())
    }

    /// Pages that no scan has hashed yet are reported by the next one.
    fn note_copied(&mut self, first_page: u64, bytes: &[u8], into: &mut PageSet) {
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

    fn dirty_marks(&self) -> &DirtyMarks {
        &self.declarations
    }
}
