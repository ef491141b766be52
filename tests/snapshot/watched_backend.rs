//! Backend that passes every call to an observer, which may delay or reject it.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;

use flatspan::snapshot::{DirectoryBackend, LogicalFile, StorageBackend};

/// Calls that tests can observe.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Create,
    Read { bytes: usize },
    Write(LogicalFile),
    Reserve(Range<u64>),
    Sync,
    CloneTo(LogicalFile),
    Other,
}

pub(crate) trait Watch: Debug + Send + Sync {
    /// Called before the call is made. An error becomes the result of the call.
    fn before(&self, call: Call) -> io::Result<()>;

    fn after(&self) {}
}

#[derive(Debug)]
pub(crate) struct WatchedBackend<W> {
    disk: DirectoryBackend,
    pub(crate) watch: W,
}

impl<W: Watch> WatchedBackend<W> {
    pub(crate) fn over(disk: DirectoryBackend, watch: W) -> Self {
        Self { disk, watch }
    }

    fn watched<R>(
        &self,
        call: Call,
        make: impl FnOnce(&DirectoryBackend) -> io::Result<R>,
    ) -> io::Result<R> {
        self.watch.before(call)?;
        let made = make(&self.disk);
        self.watch.after();
        made
    }
}

impl<W: Watch> StorageBackend for WatchedBackend<W> {
    fn part_bytes(&self) -> u64 {
        self.disk.part_bytes()
    }
    fn set_part_bytes(&self, array: LogicalFile, part_bytes: u64) -> io::Result<()> {
        self.disk.set_part_bytes(array, part_bytes)
    }
    fn files(&self) -> io::Result<Vec<LogicalFile>> {
        self.watched(Call::Other, StorageBackend::files)
    }
    fn create(&self, array: LogicalFile) -> io::Result<()> {
        self.watched(Call::Create, |disk| disk.create(array))
    }
    fn len(&self, array: LogicalFile) -> io::Result<u64> {
        self.watched(Call::Other, |disk| disk.len(array))
    }
    fn read(&self, array: LogicalFile, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = buf.len();
        self.watched(Call::Read { bytes }, |disk| disk.read(array, offset, buf))
    }
    fn write(&self, array: LogicalFile, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.watched(Call::Write(array), |disk| disk.write(array, offset, buf))
    }
    fn reserve(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.watched(Call::Reserve(range.clone()), |disk| {
            disk.reserve(array, range)
        })
    }
    fn set_len(&self, array: LogicalFile, len: u64) -> io::Result<()> {
        self.watched(Call::Other, |disk| disk.set_len(array, len))
    }
    fn discard(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.watched(Call::Other, |disk| disk.discard(array, range))
    }
    fn next_data(&self, array: LogicalFile, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.watched(Call::Other, |disk| disk.next_data(array, offset))
    }
    fn sync(&self, array: LogicalFile) -> io::Result<()> {
        self.watched(Call::Sync, |disk| disk.sync(array))
    }
    fn drop_page_cache(&self, array: LogicalFile) -> io::Result<()> {
        self.watched(Call::Other, |disk| disk.drop_page_cache(array))
    }
    fn remove(&self, array: LogicalFile) -> io::Result<()> {
        self.watched(Call::Other, |disk| disk.remove(array))
    }
    fn clone_range(&self, from: LogicalFile, to: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.watched(Call::CloneTo(to), |disk| disk.clone_range(from, to, range))
    }
    fn publish(&self) -> io::Result<()> {
        self.watched(Call::Other, StorageBackend::publish)
    }
    fn part_file(&self, array: LogicalFile, part: u64) -> io::Result<Option<File>> {
        self.watched(Call::Other, |disk| disk.part_file(array, part))
    }
}
