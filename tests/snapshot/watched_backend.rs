//! Backend that passes every call to an observer, which may delay or reject it.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;

use flatspan::snapshot::{Array, Disk, GroupDisk};

/// Calls that tests can observe.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Create,
    Read { bytes: usize },
    Write(Array),
    Reserve(Range<u64>),
    Sync,
    CloneTo(Array),
    Other,
}

pub(crate) trait Watch: Debug + Send + Sync {
    /// Called before the call is made. An error becomes the result of the call.
    fn before(&self, call: Call) -> io::Result<()>;

    fn after(&self) {}
}

#[derive(Debug)]
pub(crate) struct WatchedBackend<W> {
    disk: GroupDisk,
    pub(crate) watch: W,
}

impl<W: Watch> WatchedBackend<W> {
    pub(crate) fn over(disk: GroupDisk, watch: W) -> Self {
        Self { disk, watch }
    }

    fn watched<R>(
        &self,
        call: Call,
        make: impl FnOnce(&GroupDisk) -> io::Result<R>,
    ) -> io::Result<R> {
        self.watch.before(call)?;
        let made = make(&self.disk);
        self.watch.after();
        made
    }
}

impl<W: Watch> Disk for WatchedBackend<W> {
    fn part_bytes(&self) -> u64 {
        self.disk.part_bytes()
    }
    fn set_part_bytes(&self, array: Array, part_bytes: u64) -> io::Result<()> {
        self.disk.set_part_bytes(array, part_bytes)
    }
    fn arrays(&self) -> io::Result<Vec<Array>> {
        self.watched(Call::Other, Disk::arrays)
    }
    fn create(&self, array: Array) -> io::Result<()> {
        self.watched(Call::Create, |disk| disk.create(array))
    }
    fn len(&self, array: Array) -> io::Result<u64> {
        self.watched(Call::Other, |disk| disk.len(array))
    }
    fn read(&self, array: Array, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = buf.len();
        self.watched(Call::Read { bytes }, |disk| disk.read(array, offset, buf))
    }
    fn write(&self, array: Array, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.watched(Call::Write(array), |disk| disk.write(array, offset, buf))
    }
    fn reserve(&self, array: Array, range: Range<u64>) -> io::Result<()> {
        self.watched(Call::Reserve(range.clone()), |disk| {
            disk.reserve(array, range)
        })
    }
    fn set_len(&self, array: Array, len: u64) -> io::Result<()> {
        self.watched(Call::Other, |disk| disk.set_len(array, len))
    }
    fn discard(&self, array: Array, range: Range<u64>) -> io::Result<()> {
        self.watched(Call::Other, |disk| disk.discard(array, range))
    }
    fn next_data(&self, array: Array, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.watched(Call::Other, |disk| disk.next_data(array, offset))
    }
    fn sync(&self, array: Array) -> io::Result<()> {
        self.watched(Call::Sync, |disk| disk.sync(array))
    }
    fn forget_cached(&self, array: Array) -> io::Result<()> {
        self.watched(Call::Other, |disk| disk.forget_cached(array))
    }
    fn remove(&self, array: Array) -> io::Result<()> {
        self.watched(Call::Other, |disk| disk.remove(array))
    }
    fn clone_range(&self, from: Array, to: Array, range: Range<u64>) -> io::Result<()> {
        self.watched(Call::CloneTo(to), |disk| disk.clone_range(from, to, range))
    }
    fn publish(&self) -> io::Result<()> {
        self.watched(Call::Other, Disk::publish)
    }
    fn part_file(&self, array: Array, part: u64) -> io::Result<Option<File>> {
        self.watched(Call::Other, |disk| disk.part_file(array, part))
    }
}
