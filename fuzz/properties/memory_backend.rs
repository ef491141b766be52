//! Storage backend in memory, for stores whose files are generated.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flatspan::snapshot::{LogicalFile, StorageBackend};

/// Limit of the length of a file.
const LEN_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(crate) struct MemoryBackend {
    part_bytes: u64,
    arrays: Mutex<BTreeMap<LogicalFile, Vec<u8>>>,
}

impl MemoryBackend {
    pub(crate) fn new(part_bytes: u64, arrays: BTreeMap<LogicalFile, Vec<u8>>) -> Self {
        Self {
            part_bytes,
            arrays: Mutex::new(arrays),
        }
    }

    fn arrays(&self) -> MutexGuard<'_, BTreeMap<LogicalFile, Vec<u8>>> {
        self.arrays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(
        &self,
        array: LogicalFile,
        work: impl FnOnce(&mut Vec<u8>) -> io::Result<R>,
    ) -> io::Result<R> {
        match self.arrays().get_mut(&array) {
            Some(bytes) => work(bytes),
            None => Err(ErrorKind::NotFound.into()),
        }
    }
}

fn within(range: Range<u64>) -> io::Result<Range<usize>> {
    if range.end <= LEN_MAX {
        Ok(range.start as usize..range.end as usize)
    } else {
        Err(ErrorKind::StorageFull.into())
    }
}

impl StorageBackend for MemoryBackend {
    fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    fn files(&self) -> io::Result<Vec<LogicalFile>> {
        Ok(self.arrays().keys().copied().collect())
    }

    fn create(&self, array: LogicalFile) -> io::Result<()> {
        match self.arrays().insert(array, Vec::new()) {
            None => Ok(()),
            Some(_) => Err(ErrorKind::AlreadyExists.into()),
        }
    }

    fn len(&self, array: LogicalFile) -> io::Result<u64> {
        self.with(array, |bytes| Ok(bytes.len() as u64))
    }

    fn read(&self, array: LogicalFile, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.with(array, |bytes| {
            let there = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
            let there = there.and_then(|there| there.get(..buf.len()));
            buf.copy_from_slice(there.ok_or(ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write(&self, array: LogicalFile, offset: u64, buf: &[u8]) -> io::Result<()> {
        let range = within(offset..offset.saturating_add(buf.len() as u64))?;
        self.with(array, |bytes| {
            bytes.resize(bytes.len().max(range.end), 0);
            bytes[range].copy_from_slice(buf);
            Ok(())
        })
    }

    fn reserve(&self, _array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        within(range).map(drop)
    }

    fn set_len(&self, array: LogicalFile, len: u64) -> io::Result<()> {
        let len = within(0..len)?.end;
        self.with(array, |bytes| {
            bytes.resize(len, 0);
            Ok(())
        })
    }

    fn discard(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        let range = within(range)?;
        self.with(array, |bytes| {
            bytes[range].fill(0);
            Ok(())
        })
    }

    fn next_data(&self, array: LogicalFile, offset: u64) -> io::Result<Option<Range<u64>>> {
        let len = self.len(array)?;
        Ok((offset < len).then_some(offset..len))
    }

    fn sync(&self, array: LogicalFile) -> io::Result<()> {
        self.with(array, |_| Ok(()))
    }

    fn drop_page_cache(&self, array: LogicalFile) -> io::Result<()> {
        self.sync(array)
    }

    fn remove(&self, array: LogicalFile) -> io::Result<()> {
        let removed = self.arrays().remove(&array);
        removed.map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn clone_range(&self, from: LogicalFile, to: LogicalFile, range: Range<u64>) -> io::Result<()> {
        let mut bytes = vec![0; within(range.clone())?.len()];
        self.read(from, range.start, &mut bytes)?;
        self.write(to, range.start, &bytes)
    }

    fn publish(&self) -> io::Result<()> {
        Ok(())
    }

    fn part_file(&self, _array: LogicalFile, _part: u64) -> io::Result<Option<File>> {
        Ok(None)
    }
}
