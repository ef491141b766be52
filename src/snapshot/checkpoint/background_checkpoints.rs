//! Background thread: makes checkpoints when the journal is long and at an interval, and creates
//! the second heap after opening.

use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::checkpointer::StoreParts;
use super::second_heap::CopyProgress;
use super::store_inner::StoreInner;
use crate::snapshot::error::StoreError;
use crate::snapshot::modes::WriteMode;

/// Handle of the background thread. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct BackgroundCheckpoints {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Signal {
    requests: Mutex<Requests>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Requests {
    stop: bool,
    checkpoint: bool,
}

/// Pause after a failed checkpoint.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// Interval at which the creation of the second heap waits for readers.
const READERS_INTERVAL: Duration = Duration::from_millis(100);
/// Time after which the creation is left to the next base checkpoint, and the error is reported.
const READERS_TIMEOUT: Duration = Duration::from_secs(60);

impl Signal {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BackgroundCheckpoints {
    /// Starts the thread. Returns `None` if it would have no work.
    pub(crate) fn start(inner: &Arc<StoreInner>) -> Option<Self> {
        let options = &inner.parts.options;
        let limits_journal = options.write_mode == WriteMode::Transactions
            && options.journal_bytes_max != Some(u64::MAX);
        let makes_checkpoints = limits_journal || options.checkpoint_interval.is_some();
        if !makes_checkpoints && options.create_second_heap != Some(true) {
            return None;
        }
        let signal = Arc::new(Signal::default());
        let thread = std::thread::Builder::new().name("flatspan checkpoints".to_owned());
        let (inner, thread_signal) = (Arc::clone(inner), Arc::clone(&signal));
        // If the thread cannot start, the journal grows until the caller makes a checkpoint.
        let thread = thread.spawn(move || run(&inner, &thread_signal)).ok()?;
        Some(Self {
            signal,
            thread: Some(thread),
        })
    }

    /// Requests a checkpoint if the journal is long. Called after each transaction.
    pub(crate) fn notify_commit(&self, parts: &StoreParts) {
        if parts.files.journal.since_roll() > parts.journal_bytes_max() {
            let mut requests = self.signal.requests();
            if !std::mem::replace(&mut requests.checkpoint, true) {
                self.signal.changed.notify_all();
            }
        }
    }
}

impl Drop for BackgroundCheckpoints {
    fn drop(&mut self) {
        self.signal.requests().stop = true;
        self.signal.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook.
            drop(thread.join());
        }
    }
}

fn run(inner: &StoreInner, signal: &Signal) {
    let next = || {
        let interval = inner.parts.options.checkpoint_interval;
        interval.map(|interval| Instant::now() + interval)
    };
    let mut due = next();
    let mut heap_due = (inner.parts.options.create_second_heap != Some(false)).then(Instant::now);
    let begun = Instant::now();
    while let Some(work) = wait(signal, due, heap_due) {
        let done = match work {
            Work::SecondHeap => {
                // Waiting for readers would delay checkpoints, so do not wait.
                let step = inner.step_of_second_heap(Duration::ZERO);
                let pause = pause_before_next_step(&step, begun);
                heap_due = pause.map(|pause| Instant::now() + pause);
                match pause {
                    Some(_) => Ok(()),
                    None => step.map(drop),
                }
            }
            Work::Checkpoint => {
                let made = inner.checkpoint(None);
                due = next();
                made.map(drop)
            }
        };
        if let Err(error) = done {
            report(inner, error);
            if inner.parts.files.check().is_err() {
                // A poisoned store makes no more checkpoints.
                return;
            }
            if matches!(work, Work::Checkpoint) {
                pause_after_error(signal);
            }
        }
    }
}

/// Returns the pause before the next step of the second heap, or `None` at its end. The heap is
/// left to the next base checkpoint after an error, or after readers held it for
/// [`READERS_TIMEOUT`].
fn pause_before_next_step(
    step: &Result<CopyProgress, StoreError>,
    begun: Instant,
) -> Option<Duration> {
    match step {
        Ok(CopyProgress::More) => Some(Duration::ZERO),
        Err(error)
            if error.kind() == ErrorKind::ResourceBusy && begun.elapsed() < READERS_TIMEOUT =>
        {
            Some(READERS_INTERVAL)
        }
        Ok(CopyProgress::Made | CopyProgress::NotNeeded) | Err(_) => None,
    }
}

fn pause_after_error(signal: &Signal) {
    let waited = signal
        .changed
        .wait_timeout_while(signal.requests(), ERROR_PAUSE, |requests| !requests.stop);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

enum Work {
    Checkpoint,
    SecondHeap,
}

/// Waits for work, or returns `None` to end the thread. Checkpoints take precedence.
fn wait(signal: &Signal, due: Option<Instant>, heap_due: Option<Instant>) -> Option<Work> {
    let mut requests = signal.requests();
    loop {
        if requests.stop {
            return None;
        }
        let now = Instant::now();
        if requests.checkpoint || due.is_some_and(|due| due <= now) {
            requests.checkpoint = false;
            return Some(Work::Checkpoint);
        }
        if heap_due.is_some_and(|due| due <= now) {
            return Some(Work::SecondHeap);
        }
        let next = due.into_iter().chain(heap_due).min();
        let wait = next.map_or(Duration::from_secs(3600), |next| next - now);
        let waited = signal.changed.wait_timeout(requests, wait);
        requests = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Keeps an error for the caller and calls the callback of the options.
fn report(inner: &StoreInner, error: StoreError) {
    let error = Arc::new(error);
    *inner.background_error() = Some(Arc::clone(&error));
    if let Some(callback) = &inner.parts.options.on_background_error {
        (callback.0)(&error);
    }
}
