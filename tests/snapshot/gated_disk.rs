//! A disk on which a call can be made to wait, or to fail.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use flatspan::snapshot::{Array, Disk, GroupDisk};

/// The next journal that is created waits, once, and from then on no checkpoint comes to its end: the disk is full.
#[derive(Debug)]
pub(crate) struct GatedDisk {
    disk: GroupDisk,
    gate: Mutex<Option<(SyncSender<()>, Receiver<()>)>>,
    fails: Mutex<bool>,
    fails_to_sync: AtomicBool,
}

/// The other side of the gate.
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
        let gated = Self {
            disk,
            gate: Mutex::new(Some((reaching, opened))),
            fails: Mutex::new(false),
            fails_to_sync: AtomicBool::new(false),
        };
        (gated, Gate { reached, open })
    }

    /// Without a gate.
    pub(crate) fn open(disk: GroupDisk) -> Self {
        Self {
            disk,
            gate: Mutex::new(None),
            fails: Mutex::new(false),
            fails_to_sync: AtomicBool::new(false),
        }
    }

    /// From now on no checkpoint comes to its end, and no second heap, or each does.
    pub(crate) fn set_full(&self, full: bool) {
        *self.fails() = full;
    }

    /// From now on no sync succeeds.
    pub(crate) fn fail_syncs(&self) {
        self.fails_to_sync.store(true, Ordering::Relaxed);
    }

    fn fails(&self) -> std::sync::MutexGuard<'_, bool> {
        self.fails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for GatedDisk {
    fn part_bytes(&self) -> u64 {
        self.disk.part_bytes()
    }
    fn set_part_bytes(&self, array: Array, part_bytes: u64) -> io::Result<()> {
        self.disk.set_part_bytes(array, part_bytes)
    }
    fn arrays(&self) -> io::Result<Vec<Array>> {
        self.disk.arrays()
    }
    fn create(&self, array: Array) -> io::Result<()> {
        let gate = self.gate.lock().expect("a lock").take();
        if let Some((reaching, opened)) = gate {
            reaching.send(()).expect("the other side");
            opened.recv().expect("the other side");
            *self.fails() = true;
        }
        self.disk.create(array)
    }
    fn len(&self, array: Array) -> io::Result<u64> {
        self.disk.len(array)
    }
    fn read(&self, array: Array, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.disk.read(array, offset, buf)
    }
    fn write(&self, array: Array, offset: u64, buf: &[u8]) -> io::Result<()> {
        if matches!(array, Array::Table(_)) && *self.fails() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.write(array, offset, buf)
    }
    fn reserve(&self, array: Array, range: Range<u64>) -> io::Result<()> {
        self.disk.reserve(array, range)
    }
    fn set_len(&self, array: Array, len: u64) -> io::Result<()> {
        self.disk.set_len(array, len)
    }
    fn discard(&self, array: Array, range: Range<u64>) -> io::Result<()> {
        self.disk.discard(array, range)
    }
    fn next_data(&self, array: Array, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.disk.next_data(array, offset)
    }
    fn sync(&self, array: Array) -> io::Result<()> {
        if self.fails_to_sync.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk fails to sync"));
        }
        self.disk.sync(array)
    }
    fn forget_cached(&self, array: Array) -> io::Result<()> {
        self.disk.forget_cached(array)
    }
    fn remove(&self, array: Array) -> io::Result<()> {
        self.disk.remove(array)
    }
    fn clone_range(&self, from: Array, to: Array, range: Range<u64>) -> io::Result<()> {
        if matches!(to, Array::Table(_)) && *self.fails() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.clone_range(from, to, range)
    }
    fn publish(&self) -> io::Result<()> {
        self.disk.publish()
    }
    fn part_file(&self, array: Array, part: u64) -> io::Result<Option<File>> {
        self.disk.part_file(array, part)
    }
}
