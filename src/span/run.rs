//! Hashing all pieces of a group on a pool of threads.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::ThreadPool;

use super::batch::{Batches, Outcome};
use super::entry::Body;
use super::error::SpanError;
use super::hasher::Sha1Digest;
use super::pieces::Pieces;
use super::read_ahead::ReadAhead;
use super::sha1_lanes::lanes;
use super::verify::{PieceState, Subject, Verification, conclude};

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Pieces looked at, whatever came of it.
    pub pieces_done: usize,
    /// Pieces in all.
    pub pieces: usize,
    /// Bytes of the pieces looked at.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// What became of a piece.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PieceOutcome {
    /// Its hash.
    Hashed(Sha1Digest),
    /// Some of its bytes could not be read.
    Failed(Arc<SpanError>),
    /// The run was cancelled before.
    Cancelled,
}

/// How to hash: on which threads, telling whom, until when.
#[derive(Clone, Copy, Default)]
pub struct HashRun<'a> {
    pool: Option<&'a ThreadPool>,
    progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    cancel: Option<&'a AtomicBool>,
}

impl fmt::Debug for HashRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashRun")
            .field("pool", &self.pool)
            .field("progress", &self.progress.is_some())
            .field("cancel", &self.cancel)
            .finish()
    }
}

impl<'a> HashRun<'a> {
    /// On rayon's current pool, to the end, in silence.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses the threads of this pool.
    #[must_use]
    pub fn pool(mut self, pool: &'a ThreadPool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Calls this after every few pieces, from whichever thread hashed them. It should be quick.
    #[must_use]
    pub fn progress(mut self, progress: &'a (dyn Fn(Progress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Stops soon after this becomes true; pieces that were hashed keep their results.
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
    /// Hashes all pieces; one outcome for each, in order.
    #[must_use]
    pub fn hash_all(&self, run: &HashRun<'_>) -> Vec<PieceOutcome> {
        let work = || Work::new(self, run).on_all_threads();
        match run.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Hashes all pieces, compares them with what is expected, and says what is wrong with which file.
    ///
    /// # Errors
    ///
    /// [`SpanError::Argument`] when the number of hashes is not that of pieces. What is wrong with the
    /// files is not an error but the result.
    pub fn verify(
        &self,
        expected: &[Sha1Digest],
        run: &HashRun<'_>,
    ) -> Result<Verification, SpanError> {
        if expected.len() != self.count() {
            return Err(SpanError::Argument {
                argument: "expected",
                reason: format!("{} hashes for {} pieces", expected.len(), self.count()),
            });
        }
        let outcomes = self.hash_all(run).into_iter().zip(expected);
        let states = outcomes.map(|(outcome, expected)| match outcome {
            PieceOutcome::Hashed(hash) if hash == *expected => PieceState::Ok,
            PieceOutcome::Hashed(_) => PieceState::Mismatch,
            PieceOutcome::Failed(error) => PieceState::Unreadable(error),
            PieceOutcome::Cancelled => PieceState::Unchecked,
        });
        let states = states.collect();
        Ok(conclude(self.piece_bytes(), states, self.subjects()))
    }

    fn subjects(&self) -> Vec<Subject> {
        let entries = self.group.entries.iter().enumerate();
        let files = entries.filter_map(|(entry, of_group)| match &of_group.body {
            Body::File { file, is_range, .. } => Some(Subject {
                entry,
                path: of_group.path.clone(),
                full_path: file.location().full_path(),
                range: self.group.layout.range_of(entry),
                declared_bytes: file.declared_bytes(),
                is_range: *is_range,
                present: file.present_bytes().map_err(SpanError::from),
            }),
            Body::Padding => None,
        });
        files.collect()
    }
}

/// A run over all pieces, shared by its threads.
struct Work<'a> {
    pieces: &'a Pieces<'a>,
    run: &'a HashRun<'a>,
    read_ahead: ReadAhead<'a>,
    threads: usize,
    /// Pieces a thread takes at a time.
    batch: usize,
    next: AtomicUsize,
    pieces_done: AtomicUsize,
    bytes_done: AtomicU64,
    outcomes: Mutex<Vec<PieceOutcome>>,
}

impl<'a> Work<'a> {
    fn new(pieces: &'a Pieces<'a>, run: &'a HashRun<'a>) -> Self {
        let threads = rayon::current_num_threads().max(1);
        let fair = pieces.count().div_ceil(threads).max(1);
        Self {
            pieces,
            run,
            read_ahead: ReadAhead::new(pieces.group),
            threads,
            batch: lanes().min(fair),
            next: AtomicUsize::new(0),
            pieces_done: AtomicUsize::new(0),
            bytes_done: AtomicU64::new(0),
            outcomes: Mutex::new(vec![PieceOutcome::Cancelled; pieces.count()]),
        }
    }

    fn on_all_threads(self) -> Vec<PieceOutcome> {
        rayon::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|_| self.on_this_thread());
            }
        });
        let outcomes = self.outcomes.into_inner();
        outcomes.unwrap_or_else(PoisonError::into_inner)
    }

    fn on_this_thread(&self) {
        let mut batches = Batches::new(self.pieces);
        while !self.run.is_cancelled() {
            let first = self.next.fetch_add(self.batch, Ordering::Relaxed);
            if first >= self.pieces.count() {
                break;
            }
            let batch = first..(first + self.batch).min(self.pieces.count());
            let bytes = self.pieces.range(batch.start).start..self.pieces.range(batch.end - 1).end;
            let reading = self.read_ahead.before(&bytes);
            let results = batches.hash(batch.clone(), &|| self.run.is_cancelled());
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
                Some(Ok(hash)) => PieceOutcome::Hashed(hash),
                Some(Err(error)) => PieceOutcome::Failed(Arc::new(error)),
                None => continue,
            };
            self.pieces_done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report(&self, bytes: Range<u64>) {
        let len = bytes.end - bytes.start;
        let bytes_done = self.bytes_done.fetch_add(len, Ordering::Relaxed) + len;
        if let Some(progress) = self.run.progress {
            progress(Progress {
                pieces_done: self.pieces_done.load(Ordering::Relaxed),
                pieces: self.pieces.count(),
                bytes_done,
                bytes: self.pieces.group.len(),
            });
        }
    }
}
