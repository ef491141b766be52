//! Backend in memory that records its file operations in the order in which `DirectoryBackend`
//! makes them.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, ErrorKind},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flatspan::snapshot::{LogicalFile, StorageBackend};

use super::{
    faults::Fault,
    model::{Model, State},
    mutation::Mutation,
    op::Op,
    recorder_state::RecorderState,
};

/// Backend that records its operations. Clones share the state.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    part_bytes: u64,
    inner: Arc<Mutex<RecorderState>>,
}

impl Recorder {
    /// Creates the empty directory of a published store.
    pub(crate) fn new(part_bytes: u64) -> Self {
        let base = State {
            published: true,
            ..State::default()
        };
        Self::of_image(base, part_bytes, Vec::new())
    }

    /// Creates the directory of a store that is not published yet.
    pub(crate) fn unpublished(part_bytes: u64) -> Self {
        Self::of_image(State::default(), part_bytes, Vec::new())
    }

    /// Creates a backend whose content is the durable image, with an empty log and the marks before
    /// the crash.
    pub(crate) fn of_image(image: State, part_bytes: u64, marks: Vec<u64>) -> Self {
        let inner = RecorderState {
            next_inode: image.files.keys().max().map_or(0, |last| last + 1),
            model: Model::new(image.clone()),
            base: image,
            marks_of_base: marks,
            ..RecorderState::default()
        };
        Self::of_state(inner, part_bytes)
    }

    pub(super) fn of_state(state: RecorderState, part_bytes: u64) -> Self {
        Self {
            part_bytes,
            inner: Arc::new(Mutex::new(state)),
        }
    }

    /// Returns the recorder of a store with this fault; `None` if the log has no position for it.
    pub(crate) fn mutated(&self, mutation: Mutation) -> Option<Self> {
        let inner = self.lock();
        let mut log = inner.log.clone();
        mutation.apply(&mut log).then(|| {
            let recorder = Self::of_image(
                inner.base.clone(),
                self.part_bytes,
                inner.marks_of_base.clone(),
            );
            recorder.lock().log = log;
            recorder
        })
    }

    /// Notes an acknowledgement: images of later crashes have this mark.
    pub(crate) fn mark(&self, mark: u64) {
        self.lock().record(Op::Mark(mark));
    }

    /// Returns all marks, starting with those before the crash.
    pub(crate) fn marks(&self) -> Vec<u64> {
        let inner = self.lock();
        let new = inner.log.iter().filter_map(|op| match op {
            Op::Mark(mark) => Some(*mark),
            _ => None,
        });
        inner.marks_of_base.iter().copied().chain(new).collect()
    }

    /// Returns whether the store is published. After a crash, nothing remains of an unpublished
    /// store.
    pub(crate) fn is_published(&self) -> bool {
        self.lock().model.visible.published
    }

    pub(crate) fn log(&self) -> Vec<Op> {
        self.lock().log.clone()
    }

    pub(super) fn base(&self) -> State {
        self.lock().base.clone()
    }

    pub(super) fn marks_of_base(&self) -> Vec<u64> {
        self.lock().marks_of_base.clone()
    }

    pub(super) fn part_bytes_of_store(&self) -> u64 {
        self.part_bytes
    }

    /// Returns the number of calls.
    pub(crate) fn calls(&self) -> u64 {
        self.lock().faults.calls
    }

    /// Makes the `n`-th call from now on fail; 0 is the next call.
    pub(crate) fn fail_nth(&self, n: u64, fault: Fault) {
        let mut inner = self.lock();
        let call = inner.faults.calls + n;
        inner.faults.plan(call, fault);
    }

    /// Makes that call and all later calls fail.
    pub(crate) fn fail_from_nth(&self, n: u64, fault: Fault) {
        let mut inner = self.lock();
        let call = inner.faults.calls + n;
        inner.faults.plan_from(call, fault);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, RecorderState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and returns an error if it is to fail.
    fn call(&self) -> io::Result<MutexGuard<'_, RecorderState>> {
        let mut inner = self.lock();
        match inner.faults.next() {
            Some(fault) => Err(fault.error()),
            None => Ok(inner),
        }
    }

    fn part_bytes_of(&self, inner: &RecorderState, array: LogicalFile) -> u64 {
        let said = inner.part_bytes.get(&array);
        said.copied().unwrap_or(self.part_bytes)
    }

    fn row(&self, inner: &RecorderState, array: LogicalFile) -> io::Result<(u64, u64)> {
        inner.row(array, self.part_bytes_of(inner, array))
    }

    /// Splits a range by parts: part number, range in the part, range in the buffer.
    fn pieces(
        part_bytes: u64,
        range: Range<u64>,
    ) -> impl Iterator<Item = (u64, u64, Range<usize>)> + use<> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            let within = at % part_bytes;
            let len = (part_bytes - within).min(range.end.saturating_sub(at));
            let from = (at - range.start) as usize;
            let piece = (at / part_bytes, within, from..from + len as usize);
            at += len;
            (len > 0).then_some(piece)
        })
    }

    fn add_parts_for(
        &self,
        inner: &mut RecorderState,
        array: LogicalFile,
        end: u64,
    ) -> io::Result<()> {
        let part_bytes = self.part_bytes_of(inner, array);
        loop {
            let parts = self.row(inner, array)?.0;
            if parts * part_bytes >= end {
                return Ok(());
            }
            let last = (array, parts - 1);
            let inode = inner.inode(last);
            inner.refuse_failed(array)?;
            inner.record(Op::SetLen(last, inode, part_bytes));
            inner.record(Op::Sync(last, inode));
            inner.sync_entries(array);
            inner.create((array, parts));
        }
    }

    fn set_len_of(
        &self,
        inner: &mut RecorderState,
        array: LogicalFile,
        len: u64,
    ) -> io::Result<()> {
        let part_bytes = self.part_bytes_of(inner, array);
        self.row(inner, array)?;
        self.add_parts_for(inner, array, len)?;
        let mut last = self.row(inner, array)?.0 - 1;
        while last > 0 && last * part_bytes >= len {
            inner.remove((array, last));
            inner.sync_entries(array);
            last -= 1;
        }
        let file = (array, last);
        let op = Op::SetLen(file, inner.inode(file), len - last * part_bytes);
        inner.record(op);
        Ok(())
    }

    fn write_to(
        &self,
        inner: &mut RecorderState,
        array: LogicalFile,
        offset: u64,
        buf: &[u8],
    ) -> io::Result<()> {
        let range = offset..offset + buf.len() as u64;
        self.row(inner, array)?;
        inner.refuse_unreserved(array, range.end)?;
        self.add_parts_for(inner, array, range.end)?;
        let part_bytes = self.part_bytes_of(inner, array);
        for (part, within, bytes) in Self::pieces(part_bytes, range) {
            let file = (array, part);
            let op = Op::Write(file, inner.inode(file), within, buf[bytes].into());
            inner.record(op);
        }
        Ok(())
    }

    fn read_from(
        &self,
        inner: &RecorderState,
        array: LogicalFile,
        offset: u64,
        buf: &mut [u8],
    ) -> io::Result<()> {
        let range = offset..offset + buf.len() as u64;
        let part_bytes = self.part_bytes_of(inner, array);
        for (part, within, bytes) in Self::pieces(part_bytes, range.clone()) {
            inner.must_have(array)?;
            let inode = inner.model.visible.names.get(&(array, part));
            let file = inode.and_then(|inode| inner.model.visible.files.get(inode));
            let end = within + bytes.len() as u64;
            let Some(file) = file.filter(|file| file.len >= end) else {
                self.row(inner, array)?;
                return Err(ErrorKind::UnexpectedEof.into());
            };
            file.read(within, &mut buf[bytes]);
        }
        Ok(())
    }

    fn data_from(
        &self,
        inner: &RecorderState,
        array: LogicalFile,
        offset: u64,
    ) -> io::Result<Option<Range<u64>>> {
        let len = self.row(inner, array)?.1;
        let part_bytes = self.part_bytes_of(inner, array);
        for part in offset / part_bytes..len.div_ceil(part_bytes) {
            let start = part * part_bytes;
            let file = inner.model.visible.files.get(&inner.inode((array, part)));
            let from = offset.saturating_sub(start);
            if let Some(run) = file.and_then(|file| file.next_data(from)) {
                return Ok(Some(start + run.start..start + run.end));
            }
        }
        Ok(None)
    }
}

impl StorageBackend for Recorder {
    fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    /// Changes no stored data.
    fn set_part_bytes(&self, array: LogicalFile, part_bytes: u64) -> io::Result<()> {
        self.lock().part_bytes.insert(array, part_bytes);
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<LogicalFile>> {
        let inner = self.call()?;
        let names = inner.model.visible.names.keys().map(|(array, _)| *array);
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn create(&self, array: LogicalFile) -> io::Result<()> {
        let mut inner = self.call()?;
        if !inner.parts(array).is_empty() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        inner.failed.remove(&array);
        inner.create((array, 0));
        Ok(())
    }

    fn len(&self, array: LogicalFile) -> io::Result<u64> {
        let inner = self.call()?;
        Ok(self.row(&inner, array)?.1)
    }

    fn read(&self, array: LogicalFile, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let inner = self.call()?;
        inner.must_have(array)?;
        self.read_from(&inner, array, offset, buf)
    }

    fn write(&self, array: LogicalFile, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        match inner.faults.next() {
            None => self.write_to(&mut inner, array, offset, buf),
            Some(fault) => {
                if fault == Fault::ShortWrite {
                    self.write_to(&mut inner, array, offset, &buf[..buf.len() / 2])?;
                }
                Err(fault.error())
            }
        }
    }

    fn reserve(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        let mut inner = self.call()?;
        self.row(&inner, array)?;
        inner.reserve(array, range)
    }

    fn set_len(&self, array: LogicalFile, len: u64) -> io::Result<()> {
        let mut inner = self.call()?;
        self.set_len_of(&mut inner, array, len)
    }

    fn discard(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        let mut inner = self.call()?;
        if range.end > self.row(&inner, array)?.1 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let part_bytes = self.part_bytes_of(&inner, array);
        for (part, within, bytes) in Self::pieces(part_bytes, range) {
            let file = (array, part);
            let place = within..within + bytes.len() as u64;
            let op = Op::Discard(file, inner.inode(file), place);
            inner.record(op);
        }
        Ok(())
    }

    fn next_data(&self, array: LogicalFile, offset: u64) -> io::Result<Option<Range<u64>>> {
        let inner = self.call()?;
        self.data_from(&inner, array, offset)
    }

    fn sync(&self, array: LogicalFile) -> io::Result<()> {
        let mut inner = self.lock();
        let fault = inner.faults.next();
        inner.sync(array, fault)
    }

    fn drop_page_cache(&self, array: LogicalFile) -> io::Result<()> {
        self.call()?.forget_cached(array)
    }

    fn remove(&self, array: LogicalFile) -> io::Result<()> {
        let mut inner = self.call()?;
        inner.must_have(array)?;
        for (part, _) in inner.parts(array).into_iter().rev() {
            inner.remove((array, part));
            if part > 0 {
                inner.sync_entries(array);
            }
        }
        // No caller waits for the last sync.
        inner.moved.remove(&array);
        inner.failed.remove(&array);
        Ok(())
    }

    fn clone_range(&self, from: LogicalFile, to: LogicalFile, range: Range<u64>) -> io::Result<()> {
        let mut inner = self.call()?;
        if range.end > self.row(&inner, from)?.1 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if self.row(&inner, to)?.1 < range.end {
            self.set_len_of(&mut inner, to, range.end)?;
        }
        let part_bytes = self.part_bytes_of(&inner, to);
        for (part, within, bytes) in Self::pieces(part_bytes, range.clone()) {
            let file = (to, part);
            let place = within..within + bytes.len() as u64;
            let op = Op::Discard(file, inner.inode(file), place);
            inner.record(op);
        }
        let mut at = range.start;
        while let Some(run) = self.data_from(&inner, from, at)? {
            let run = run.start.min(range.end)..run.end.min(range.end);
            if run.is_empty() {
                break;
            }
            let mut buf = vec![0; (run.end - run.start) as usize];
            self.read_from(&inner, from, run.start, &mut buf)?;
            self.write_to(&mut inner, to, run.start, &buf)?;
            at = run.end;
        }
        Ok(())
    }

    fn publish(&self) -> io::Result<()> {
        let mut inner = self.call()?;
        if inner.model.visible.published {
            return Err(ErrorKind::InvalidInput.into());
        }
        inner.record(Op::Publish);
        inner.record(Op::SyncParent);
        Ok(())
    }

    fn part_file(&self, array: LogicalFile, _: u64) -> io::Result<Option<File>> {
        self.call()?.must_have(array)?;
        Ok(None)
    }
}
