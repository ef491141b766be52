//! Checkpoints in the background: when the journal is long, and every so often. And the second heap, at first.

use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::SnapshotError;
use super::inner::Inner;
use super::options::Changes;
use super::second_heap::Progress;

/// The thread that makes them; ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    end: bool,
    journal_is_long: bool,
}

const JOURNAL_BYTES_MIN: u64 = 64 << 20;
/// After a checkpoint that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// So often it is looked whether readers have left the place of the second heap, and for so long: then it is told, and left to
/// the next base.
const READERS_PAUSE: Duration = Duration::from_millis(100);
const READERS_PATIENCE: Duration = Duration::from_secs(60);

impl Inner {
    /// So long the journal may become.
    pub(crate) fn journal_bytes_max(&self) -> u64 {
        let given = self.options.journal_bytes_max;
        given.unwrap_or_else(|| JOURNAL_BYTES_MIN.max(self.len() / 4))
    }
}

impl Background {
    /// `None` where nothing would ever wake it.
    pub(crate) fn start(inner: &Arc<Inner>) -> Option<Self> {
        let options = &inner.options;
        let follows_journal =
            options.changes == Changes::Transactions && options.journal_bytes_max != Some(u64::MAX);
        let makes_checkpoints = follows_journal || options.checkpoint_every.is_some();
        if !makes_checkpoints && options.second_heap != Some(true) {
            return None;
        }
        let bell = Arc::new(Bell::default());
        let (theirs, inner) = (Arc::clone(&bell), Arc::clone(inner));
        let thread = std::thread::Builder::new().name("flatspan checkpoints".to_owned());
        // Without it the journal grows until somebody asks for a checkpoint.
        let thread = thread.spawn(move || run(&inner, &theirs)).ok()?;
        Some(Self {
            bell,
            thread: Some(thread),
        })
    }

    /// After a transaction: is the journal long?
    pub(crate) fn nudge(&self, inner: &Inner) {
        if inner.journal.since_roll() > inner.journal_bytes_max() {
            let mut rung = self
                .bell
                .rung
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if !std::mem::replace(&mut rung.journal_is_long, true) {
                self.bell.changed.notify_all();
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.bell
            .rung
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .end = true;
        self.bell.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It panics only by a fault of ours, which it has told already.
            let _ = thread.join();
        }
    }
}

fn run(inner: &Inner, bell: &Bell) {
    let next = || {
        let every = inner.options.checkpoint_every;
        every.map(|every| Instant::now() + every)
    };
    let mut due = next();
    let mut heap_due = (inner.options.second_heap != Some(false)).then(Instant::now);
    let begun = Instant::now();
    while let Some(work) = wait(bell, due, heap_due) {
        let done = match work {
            Work::SecondHeap => {
                // Who waits for readers there keeps checkpoints waiting too.
                let step = inner.step_of_second_heap(Duration::ZERO);
                let next = next_step(&step, begun);
                heap_due = next.map(|pause| Instant::now() + pause);
                match next {
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
            tell(inner, error);
            if inner.check().is_err() {
                // Nothing more will be made.
                return;
            }
            if matches!(work, Work::Checkpoint) {
                pause(bell);
            }
        }
    }
}

/// After which pause the second heap is gone on with. After an error it is left to the next base; that readers are there is none, at
/// first.
fn next_step(step: &Result<Progress, SnapshotError>, begun: Instant) -> Option<Duration> {
    match step {
        Ok(Progress::More) => Some(Duration::ZERO),
        Err(error)
            if error.kind() == ErrorKind::ResourceBusy && begun.elapsed() < READERS_PATIENCE =>
        {
            Some(READERS_PAUSE)
        }
        Ok(Progress::Made | Progress::NotNeeded) | Err(_) => None,
    }
}

fn pause(bell: &Bell) {
    let rung = bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = bell
        .changed
        .wait_timeout_while(rung, PAUSE, |rung| !rung.end);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

enum Work {
    Checkpoint,
    SecondHeap,
}

/// What is to be done next; `None` at the end. Checkpoints go first.
fn wait(bell: &Bell, due: Option<Instant>, heap_due: Option<Instant>) -> Option<Work> {
    let mut rung = bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if rung.end {
            return None;
        }
        let now = Instant::now();
        if rung.journal_is_long || due.is_some_and(|due| due <= now) {
            rung.journal_is_long = false;
            return Some(Work::Checkpoint);
        }
        if heap_due.is_some_and(|due| due <= now) {
            return Some(Work::SecondHeap);
        }
        let next = due.into_iter().chain(heap_due).min();
        let wait = next.map_or(Duration::from_secs(3600), |next| next - now);
        let waited = bell.changed.wait_timeout(rung, wait);
        rung = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Nobody waits for it: it is kept, and given to who wants to be told.
fn tell(inner: &Inner, error: SnapshotError) {
    let error = Arc::new(error);
    *inner.background_error() = Some(error.clone());
    if let Some(told) = &inner.options.on_background_error {
        (told.0)(&error);
    }
}
