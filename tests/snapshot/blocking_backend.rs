//! Backend on which a call can be made to wait or fail.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use flatspan::snapshot::{DirectoryBackend, LogicalFile};

use crate::watched_backend::{Call, Watch, WatchedBackend};

/// Backend whose next journal creation waits once. From then on every checkpoint fails because the
/// disk is full.
pub(crate) type BlockingBackend = WatchedBackend<Blocking>;

#[derive(Debug)]
pub(crate) struct Blocking {
    blocker: Mutex<Option<(SyncSender<()>, Receiver<()>)>>,
    fails: Mutex<bool>,
    fails_to_sync: AtomicBool,
}

/// Test's side of the blocked call.
#[derive(Debug)]
pub(crate) struct Blocker {
    reached: Receiver<()>,
    open: SyncSender<()>,
}

impl Blocker {
    pub(crate) fn wait_reached(&self) {
        self.reached.recv().expect("a journal is created");
    }

    pub(crate) fn open(&self) {
        self.open.send(()).expect("call is blocked");
    }
}

impl BlockingBackend {
    pub(crate) fn new(disk: DirectoryBackend) -> (Self, Blocker) {
        let (reaching, reached) = sync_channel(1);
        let (open, opened) = sync_channel(1);
        let watch = Blocking::with_blocker(Some((reaching, opened)));
        (Self::over(disk, watch), Blocker { reached, open })
    }

    /// Opens a backend that does not block.
    pub(crate) fn open(disk: DirectoryBackend) -> Self {
        Self::over(disk, Blocking::with_blocker(None))
    }

    /// Sets whether checkpoints and the creation of a second heap fail.
    pub(crate) fn set_full(&self, full: bool) {
        *self.watch.fails() = full;
    }

    /// Makes every later sync fail.
    pub(crate) fn fail_syncs(&self) {
        self.watch.fails_to_sync.store(true, Ordering::Relaxed);
    }
}

impl Blocking {
    fn with_blocker(blocker: Option<(SyncSender<()>, Receiver<()>)>) -> Self {
        Self {
            blocker: Mutex::new(blocker),
            fails: Mutex::new(false),
            fails_to_sync: AtomicBool::new(false),
        }
    }

    fn fails(&self) -> std::sync::MutexGuard<'_, bool> {
        self.fails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Blocking {
    fn before(&self, call: Call) -> io::Result<()> {
        match call {
            Call::Create => {
                let blocker = self.blocker.lock().expect("a lock").take();
                if let Some((reaching, opened)) = blocker {
                    reaching.send(()).expect("peer is connected");
                    opened.recv().expect("peer is connected");
                    *self.fails() = true;
                }
                Ok(())
            }
            Call::Write(LogicalFile::Table(_)) | Call::CloneTo(LogicalFile::Table(_))
                if *self.fails() =>
            {
                Err(io::ErrorKind::StorageFull.into())
            }
            Call::Sync if self.fails_to_sync.load(Ordering::Relaxed) => {
                Err(io::Error::other("injected sync failure"))
            }
            _ => Ok(()),
        }
    }
}
