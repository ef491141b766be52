//! Hashing and verification of all pieces of a group on a thread pool.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::ThreadPool;

use super::hash_batch::{BatchHasher, Outcome};
use super::hasher::Sha1Digest;
use super::pieces::Pieces;
use super::read_ahead::ReadAhead;
use super::sha1_simd::lanes;
use super::verify::{CheckedFile, PieceState, VerifyReport, assess};
use crate::span::error::GroupError;
use crate::span::group::EntryBody;

/// Progress of hashing all pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HashProgress {
    /// Pieces that were hashed or failed.
    pub pieces_done: usize,
    /// Total number of pieces.
    pub pieces: usize,
    /// Bytes of the pieces that were hashed or failed.
    pub bytes_done: u64,
    /// Total number of bytes.
    pub bytes: u64,
}

/// Result of hashing a piece.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PieceHash {
    /// Hash of the piece.
    Hashed(Sha1Digest),
    /// Bytes of the piece could not be read.
    Failed(Arc<GroupError>),
    /// Hashing was cancelled before the piece was hashed.
    Cancelled,
}

/// Options for hashing all pieces: thread pool, progress callback and cancellation.
///
/// ```
/// use std::sync::atomic::AtomicBool;
///
/// use flatspan::span::{Group, HashOptions, HashProgress, PieceHash, Pieces};
///
/// let group = Group::builder("/").padding(1000).open()?;
/// let pieces = Pieces::new(&group, 100)?;
/// let cancel = AtomicBool::new(false);
/// let report = |progress: HashProgress| println!("{}", progress.pieces_done);
/// let options = HashOptions::new().progress(&report).cancel(&cancel);
/// let outcomes = pieces.hash_all(&options)?;
/// assert!(matches!(outcomes[9], PieceHash::Hashed(_)));
/// # Ok::<(), flatspan::span::GroupError>(())
/// ```
#[derive(Clone, Copy, Default)]
pub struct HashOptions<'a> {
    pool: Option<&'a ThreadPool>,
    progress: Option<&'a (dyn Fn(HashProgress) + Sync)>,
    cancel: Option<&'a AtomicBool>,
}

impl fmt::Debug for HashOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashOptions")
            .field("pool", &self.pool)
            .field("progress", &self.progress.is_some())
            .field("cancel", &self.cancel)
            .finish()
    }
}

impl<'a> HashOptions<'a> {
    /// Creates options that use the current rayon pool, without a callback or cancellation.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the thread pool. Defaults to the current rayon pool.
    #[must_use]
    pub fn pool(mut self, pool: &'a ThreadPool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Sets a callback that is called after every few pieces, on the thread that hashed them. It
    /// should return quickly.
    #[must_use]
    pub fn progress(mut self, progress: &'a (dyn Fn(HashProgress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Sets a flag that stops hashing soon after it becomes `true`. Pieces that are hashed keep
    /// their results.
    #[must_use]
    pub fn cancel(mut self, cancel: &'a AtomicBool) -> Self {
        self.cancel = Some(cancel);
        self
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

impl Pieces<'_> {
    /// Hashes all pieces and returns one result for each, in order.
    ///
    /// # Errors
    ///
    /// - [`GroupError::InvalidArgument`] if there is no memory for the results of all pieces.
    pub fn hash_all(&self, run: &HashOptions<'_>) -> Result<Vec<PieceHash>, GroupError> {
        let outcomes = self.cancelled_outcomes()?;
        let work = || Work::new(self, run, outcomes).run_on_all_threads();
        Ok(match run.pool {
            Some(pool) => pool.install(work),
            None => work(),
        })
    }

    /// The results of all pieces before hashing.
    fn cancelled_outcomes(&self) -> Result<Vec<PieceHash>, GroupError> {
        let mut outcomes = Vec::new();
        match outcomes.try_reserve_exact(self.count()) {
            Ok(()) => outcomes.resize(self.count(), PieceHash::Cancelled),
            Err(_) => {
                return Err(GroupError::InvalidArgument {
                    argument: "piece_bytes",
                    reason: format!(
                        "the results of {} pieces exceed the memory; use longer pieces",
                        self.count()
                    ),
                });
            }
        }
        Ok(outcomes)
    }

    /// Hashes all pieces, compares them with the expected hashes, and returns a report for each
    /// file.
    ///
    /// Missing, unreadable and corrupt files are part of the report, not errors.
    ///
    /// # Errors
    ///
    /// - [`GroupError::InvalidArgument`] if the number of hashes differs from the number of pieces,
    ///   or if there is no memory for the results.
    pub fn verify(
        &self,
        expected: &[Sha1Digest],
        run: &HashOptions<'_>,
    ) -> Result<VerifyReport, GroupError> {
        if expected.len() != self.count() {
            return Err(GroupError::InvalidArgument {
                argument: "expected",
                reason: format!("{} hashes for {} pieces", expected.len(), self.count()),
            });
        }
        let outcomes = self.hash_all(run)?.into_iter().zip(expected);
        let states = outcomes.map(|(outcome, expected)| match outcome {
            PieceHash::Hashed(hash) if hash == *expected => PieceState::Ok,
            PieceHash::Hashed(_) => PieceState::Mismatch,
            PieceHash::Failed(error) => PieceState::Unreadable(error),
            PieceHash::Cancelled => PieceState::Unchecked,
        });
        Ok(assess(
            self.piece_bytes(),
            states.collect(),
            self.checked_files(),
        ))
    }

    fn checked_files(&self) -> Vec<CheckedFile> {
        let entries = self.group.entries.iter().enumerate();
        let files = entries.filter_map(|(index, entry)| match &entry.body {
            EntryBody::File { file, is_range, .. } => Some(CheckedFile {
                entry: index,
                path: entry.path.clone(),
                full_path: file.location().full_path(),
                range: self.group.layout.bounds(index),
                declared_bytes: file.declared_bytes(),
                is_range: *is_range,
                actual_bytes: file.actual_bytes().map_err(GroupError::from),
            }),
            EntryBody::Padding => None,
        });
        files.collect()
    }
}

/// State of hashing all pieces, shared by the threads.
struct Work<'a> {
    pieces: &'a Pieces<'a>,
    run: &'a HashOptions<'a>,
    read_ahead: ReadAhead<'a>,
    threads: usize,
    /// Pieces that a thread hashes at a time.
    batch: usize,
    next: AtomicUsize,
    pieces_done: AtomicUsize,
    bytes_done: AtomicU64,
    outcomes: Mutex<Vec<PieceHash>>,
}

impl<'a> Work<'a> {
    fn new(pieces: &'a Pieces<'a>, run: &'a HashOptions<'a>, outcomes: Vec<PieceHash>) -> Self {
        let threads = rayon::current_num_threads().max(1);
        let fair_share = pieces.count().div_ceil(threads).max(1);
        Self {
            pieces,
            run,
            read_ahead: ReadAhead::new(pieces.group),
            threads,
            batch: lanes().min(fair_share),
            next: AtomicUsize::new(0),
            pieces_done: AtomicUsize::new(0),
            bytes_done: AtomicU64::new(0),
            outcomes: Mutex::new(outcomes),
        }
    }

    fn run_on_all_threads(self) -> Vec<PieceHash> {
        rayon::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|_| self.run_on_this_thread());
            }
        });
        let outcomes = self.outcomes.into_inner();
        outcomes.unwrap_or_else(PoisonError::into_inner)
    }

    fn run_on_this_thread(&self) {
        let mut hasher = BatchHasher::new(self.pieces);
        while !self.run.is_cancelled() {
            let first = self.next.fetch_add(self.batch, Ordering::Relaxed);
            if first >= self.pieces.count() {
                break;
            }
            let batch = first..(first + self.batch).min(self.pieces.count());
            let bytes =
                self.pieces.bounds(batch.start).start..self.pieces.bounds(batch.end - 1).end;
            let reading = self.read_ahead.before(&bytes);
            let results = hasher.hash(batch.clone(), &|| self.run.is_cancelled());
            drop(reading);
            let stopped = results.iter().any(Option::is_none);
            self.record(batch, results);
            if stopped {
                break;
            }
            self.report(bytes);
        }
    }

    fn record(&self, batch: Range<usize>, results: Vec<Option<Outcome>>) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        for (outcome, result) in outcomes[batch].iter_mut().zip(results) {
            *outcome = match result {
                Some(Ok(hash)) => PieceHash::Hashed(hash),
                Some(Err(error)) => PieceHash::Failed(Arc::new(error)),
                None => continue,
            };
            self.pieces_done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report(&self, bytes: Range<u64>) {
        let len = bytes.end - bytes.start;
        let bytes_done = self.bytes_done.fetch_add(len, Ordering::Relaxed) + len;
        if let Some(progress) = self.run.progress {
            progress(HashProgress {
                pieces_done: self.pieces_done.load(Ordering::Relaxed),
                pieces: self.pieces.count(),
                bytes_done,
                bytes: self.pieces.group.len(),
            });
        }
    }
}
