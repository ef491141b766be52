//! Backend on which a call can be made to wait or fail.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use flatspan::snapshot::{Array, GroupDisk};

use crate::watched_disk::{Call, Watch, WatchedDisk};

/// Backend whose next journal creation waits once. From then on every checkpoint fails because the
/// disk is full.
pub(crate) type GatedDisk = WatchedDisk<Gated>;

#[derive(Debug)]
pub(crate) struct Gated {
    gate: Mutex<Option<(SyncSender<()>, Receiver<()>)>>,
    fails: Mutex<bool>,
    fails_to_sync: AtomicBool,
}

/// Test's side of the blocked call.
#[derive(Debug)]
pub(crate) struct Gate {
    reached: Receiver<()>,
    open: SyncSender<()>,
}

impl Gate {
    pub(crate) fn wait_reached(&self) {
        self.reached.recv().expect("a journal is created");
    }

    pub(crate) fn open(&self) {
        self.open.send(()).expect("it waits");
    }
}

impl GatedDisk {
    pub(crate) fn new(disk: GroupDisk) -> (Self, Gate) {
        let (reaching, reached) = sync_channel(1);
        let (open, opened) = sync_channel(1);
        let watch = Gated::behind(Some((reaching, opened)));
        (Self::over(disk, watch), Gate { reached, open })
    }

    /// Opens a backend that does not block.
    pub(crate) fn open(disk: GroupDisk) -> Self {
        Self::over(disk, Gated::behind(None))
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

impl Gated {
    fn behind(gate: Option<(SyncSender<()>, Receiver<()>)>) -> Self {
        Self {
            gate: Mutex::new(gate),
            fails: Mutex::new(false),
            fails_to_sync: AtomicBool::new(false),
        }
    }

    fn fails(&self) -> std::sync::MutexGuard<'_, bool> {
        self.fails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Gated {
    fn before(&self, call: Call) -> io::Result<()> {
        match call {
            Call::Create => {
                let gate = self.gate.lock().expect("a lock").take();
                if let Some((reaching, opened)) = gate {
                    reaching.send(()).expect("the other side");
                    opened.recv().expect("the other side");
                    *self.fails() = true;
                }
                Ok(())
            }
            Call::Write(Array::Table(_)) | Call::CloneTo(Array::Table(_)) if *self.fails() => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Call::Sync if self.fails_to_sync.load(Ordering::Relaxed) => {
                Err(io::Error::other("injected sync failure"))
            }
            _ => Ok(()),
        }
    }
}
