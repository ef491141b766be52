//! Checkpoints in the background: when the journal is long, and every so often.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::SnapshotError;
use super::inner::Inner;
use super::options::Changes;

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
        if !follows_journal && options.checkpoint_every.is_none() {
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
    let mut due = inner
        .options
        .checkpoint_every
        .map(|every| Instant::now() + every);
    loop {
        let mut rung = bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if rung.end {
                return;
            }
            let now = Instant::now();
            if rung.journal_is_long || due.is_some_and(|due| due <= now) {
                rung.journal_is_long = false;
                break;
            }
            let wait = due.map_or(Duration::from_secs(3600), |due| due - now);
            let waited = bell.changed.wait_timeout(rung, wait);
            rung = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(rung);
        let made = inner.checkpoint(None);
        due = inner
            .options
            .checkpoint_every
            .map(|every| Instant::now() + every);
        if let Err(error) = made {
            tell(inner, error);
            if inner.check().is_err() {
                // No other will be made.
                return;
            }
            let rung = bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = bell
                .changed
                .wait_timeout_while(rung, PAUSE, |rung| !rung.end);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
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
