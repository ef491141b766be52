//! The client: the one process that changes the state.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::client_protocol::{Change, Committer};
use super::error::QueueError;
use super::layout::{Header, Lineage, PAGE_BYTES, tail_of};
use super::mapped_words::{Mapped, header_of, len_of};
use super::shared_words::Words;
use crate::snapshot::random;
use crate::sys::{flock, memfd, seek_data};

const WORD_BYTES: usize = 8;

/// The geometry of a new queue. It never changes.
#[derive(Clone, Debug)]
#[must_use]
pub struct QueueOptions {
    state_bytes: u64,
    depth: u64,
    tail_bytes: u64,
}

impl QueueOptions {
    /// A state of so many bytes, rounded up to pages of 4096; three buffers of it; room for 256 bytes of auxiliary data.
    pub fn new(state_bytes: u64) -> Self {
        Self {
            // What cannot be rounded up is refused by who opens.
            state_bytes: state_bytes
                .checked_next_multiple_of(PAGE_BYTES as u64)
                .unwrap_or(state_bytes),
            depth: 3,
            tail_bytes: 256,
        }
    }

    /// So many generations are there at once, 2 to 64. Each takes as much memory as the state. A host has as long as it
    /// takes to commit `depth - 1` more to copy one.
    pub fn depth(mut self, depth: u64) -> Self {
        self.depth = depth;
        self
    }

    /// Room for auxiliary data in each generation, in bytes, at most 65,536; a multiple of 8.
    pub fn tail_bytes(mut self, bytes: u64) -> Self {
        self.tail_bytes = bytes;
        self
    }
}

/// Commits generations of a state to a memfd; a host copies them meanwhile, and is never waited for.
///
/// The state is an array of bytes that begins as zeros. It is reached by [`read`](Self::read), and changed inside
/// [`commit`](Self::commit): what a commit has changed becomes visible to hosts, and to who recovers, together or not at all.
///
/// There is one writer at a time. When it dies, the next one recovers the newest generation that was committed.
#[derive(Debug)]
pub struct Writer {
    memory: Mapped,
    header: Header,
    committer: Committer,
    process: u32,
}

/// Inside a commit: the state as it will be. Dropped without the commit's end, nothing of it was.
#[derive(Debug)]
pub struct Commit<'w> {
    memory: &'w Mapped,
    change: Change<'w, Mapped>,
    state_bytes: u64,
}

impl Writer {
    /// Goes on with the queue in the memfd, or lays one out where there is none. The memfd grows as it must, and is sealed against
    /// shrinking.
    ///
    /// # Errors
    ///
    /// [`QueueError::InUse`]; [`QueueError::Geometry`] when the queue that is there has another one;
    /// [`QueueError::NotAQueue`] when something else is there; what is wrong with the header or the memfd.
    pub fn open(memfd: impl Into<OwnedFd>, options: QueueOptions) -> Result<Self, QueueError> {
        let file = take_lock(memfd.into())?;
        match header_of_complete(&file)? {
            Some(header) => {
                for (field, found, asked) in [
                    ("state_bytes", header.state_bytes, options.state_bytes),
                    ("depth", header.depth, options.depth),
                    ("tail_bytes", header.tail_bytes, options.tail_bytes),
                ] {
                    if found != asked {
                        return Err(QueueError::Geometry {
                            field,
                            found,
                            asked,
                        });
                    }
                }
                Self::go_on(file, header)
            }
            None => Self::lay_out(file, &options),
        }
    }

    /// Goes on with the queue in the memfd, whatever its geometry. `None` where there is none.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn recover(memfd: impl Into<OwnedFd>) -> Result<Option<Self>, QueueError> {
        let file = take_lock(memfd.into())?;
        let header = header_of_complete(&file)?;
        header.map(|header| Self::go_on(file, header)).transpose()
    }

    fn lay_out(file: File, options: &QueueOptions) -> Result<Self, QueueError> {
        let header = Header {
            state_bytes: options.state_bytes,
            depth: options.depth,
            tail_bytes: options.tail_bytes,
            lineage: Lineage([random::word().max(1), random::word()]),
            parent: Lineage::NONE,
            restored_at: 0,
        };
        header.check()?;
        refuse_content(&file)?;
        let shape = header.shape().expect("checked");
        lengthen(&file, shape.len_bytes() as u64)?;
        // Before it is mapped: nobody may take its pages away. What it has so far is as complete as it must be: nothing.
        memfd::seal_against_shrinking(&file).map_err(QueueError::io("seal the memfd"))?;
        let memory = Mapped::new(file, &shape, true)?;
        header.write(&memory);
        Self::begin(memory, header)
    }

    fn go_on(file: File, header: Header) -> Result<Self, QueueError> {
        let shape = header.shape().expect("checked");
        // A restored one ends behind its first buffer.
        let len = len_of(&file)?;
        if len < shape.image_bytes() as u64 {
            return Err(QueueError::TooShort {
                len,
                needed: shape.image_bytes() as u64,
            });
        }
        lengthen(&file, shape.len_bytes() as u64)?;
        let memory = Mapped::new(file, &shape, true)?;
        Self::begin(memory, header)
    }

    fn begin(memory: Mapped, header: Header) -> Result<Self, QueueError> {
        let shape = header.shape().expect("checked");
        let committer = Committer::begin(&memory, shape)?;
        Ok(Self {
            memory,
            header,
            committer,
            process: std::process::id(),
        })
    }

    /// Length of the state in bytes.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.header.state_bytes
    }

    /// The newest generation that was committed; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.committer
            .newest()
            .map_or(0, |(generation, _)| generation)
    }

    /// The auxiliary data of the newest generation.
    #[must_use]
    pub fn tail(&self) -> Vec<u8> {
        let shape = self.header.shape().expect("checked");
        let newest = self.committer.newest();
        let read = |at: usize, to: &mut [u64]| self.memory.load_own(at, to);
        let tail = newest.and_then(|(generation, entry)| tail_of(read, &shape, entry, generation));
        tail.unwrap_or_default()
    }

    /// Copies bytes of the newest generation.
    ///
    /// # Errors
    ///
    /// [`QueueError::Range`].
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), QueueError> {
        let at = check_range(offset, buf.len(), self.state_bytes())?;
        let shape = self.header.shape().expect("checked");
        match self.committer.newest() {
            Some((_, entry)) => read_bytes(self.memory.words(shape.buffer(entry)), at, buf),
            None => buf.fill(0),
        }
        Ok(())
    }

    /// Makes a change, and with it a new generation when the closure returns `Ok`. When it returns an error or panics,
    /// the state is as before.
    ///
    /// # Errors
    ///
    /// What the closure returns; [`QueueError::OtherProcess`] in a fork.
    pub fn commit<R, E: From<QueueError>>(
        &mut self,
        change: impl FnOnce(&mut Commit<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.commit_with(&[], change)
    }

    /// As [`commit`](Self::commit), with auxiliary data that belongs to this generation.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit); [`QueueError::Tail`].
    pub fn commit_with<R, E: From<QueueError>>(
        &mut self,
        tail: &[u8],
        change: impl FnOnce(&mut Commit<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.check_process()?;
        let (state_bytes, tail_bytes) = (self.header.state_bytes, self.header.tail_bytes);
        if tail.len() as u64 > tail_bytes {
            let len = tail.len();
            return Err(QueueError::Tail { len, tail_bytes }.into());
        }
        let mut commit = Commit {
            memory: &self.memory,
            change: self.committer.start(&self.memory)?,
            state_bytes,
        };
        let result = change(&mut commit)?;
        commit.change.complete(tail);
        Ok(result)
    }

    /// The newest generation that a host has made durable; `None` for none of this memfd.
    ///
    /// A host may be slow, stopped, or not there at all: who waits for this number to grow gives up what the queue is for.
    #[must_use]
    pub fn last_persisted(&self) -> Option<u64> {
        let shape = self.header.shape().expect("checked");
        let word = self.memory.word(shape.persisted_at());
        match word.load(Ordering::Acquire) {
            0 => None,
            generation => Some(generation),
        }
    }

    fn check_process(&self) -> Result<(), QueueError> {
        match std::process::id() {
            here if here == self.process => Ok(()),
            here => Err(QueueError::OtherProcess {
                opened_by: self.process,
                here,
            }),
        }
    }
}

impl Commit<'_> {
    /// The generation that this becomes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.change.generation()
    }

    /// Length of the state in bytes.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.state_bytes
    }

    /// Changes bytes.
    ///
    /// # Errors
    ///
    /// [`QueueError::Range`].
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), QueueError> {
        let at = check_range(offset, bytes.len(), self.state_bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        for page in at / PAGE_BYTES..=(at + bytes.len() - 1) / PAGE_BYTES {
            self.change.touch(page);
        }
        write_bytes(self.memory.words(self.change.buffer()), at, bytes);
        Ok(())
    }

    /// Copies bytes of the state with what was changed so far.
    ///
    /// # Errors
    ///
    /// [`QueueError::Range`].
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), QueueError> {
        let at = check_range(offset, buf.len(), self.state_bytes)?;
        read_bytes(self.memory.words(self.change.buffer()), at, buf);
        Ok(())
    }
}

/// A description of our own, and its lock, which ends with it.
fn take_lock(memfd: OwnedFd) -> Result<File, QueueError> {
    let file = memfd::reopen(&File::from(memfd), true);
    let file = file.map_err(QueueError::io("open the memfd anew by /proc/self/fd"))?;
    match flock::try_for(&file, flock::PATIENCE).map_err(QueueError::io("lock the memfd"))? {
        true => Ok(file),
        false => Err(QueueError::InUse),
    }
}

/// A header in a memfd that is not sealed is that of one half restored: what is there is worth nothing.
fn header_of_complete(file: &File) -> Result<Option<Header>, QueueError> {
    let seals = memfd::seals(file).map_err(QueueError::io("ask for the seals of the memfd"))?;
    match seals.shrink {
        true => header_of(file),
        false => Ok(None),
    }
}

/// Where a queue is to be laid out nothing may be; but for the fields of a header whose magic was never written.
fn refuse_content(file: &File) -> Result<(), QueueError> {
    let mut page = [0; PAGE_BYTES];
    let there = len_of(file)?.min(PAGE_BYTES as u64) as usize;
    let failed = QueueError::io("read the memfd");
    std::os::unix::fs::FileExt::read_exact_at(file, &mut page[..there], 0).map_err(failed)?;
    let fields = 8..80;
    let is_empty = page[..fields.start].iter().chain(&page[fields.end..]);
    let behind = seek_data::next_data(file, PAGE_BYTES as u64);
    let behind = behind.map_err(QueueError::io("look for data in the memfd"))?;
    match is_empty.into_iter().all(|byte| *byte == 0) && behind.is_none() {
        true => Ok(()),
        false => Err(QueueError::NotAQueue),
    }
}

fn lengthen(file: &File, len: u64) -> Result<(), QueueError> {
    if len_of(file)? >= len {
        return Ok(());
    }
    file.set_len(len)
        .map_err(QueueError::io("make the memfd longer"))
}

fn check_range(offset: u64, len: usize, state_bytes: u64) -> Result<usize, QueueError> {
    match offset.checked_add(len as u64) {
        // Lossless: the state is in memory.
        Some(end) if end <= state_bytes => Ok(offset as usize),
        _ => Err(QueueError::Range {
            offset,
            len: len as u64,
            state_bytes,
        }),
    }
}

fn read_bytes(words: &[AtomicU64], at: usize, buf: &mut [u8]) {
    let word = |index: usize| words[index].load(Ordering::Relaxed).to_le_bytes();
    let (mut index, skip) = (at / WORD_BYTES, at % WORD_BYTES);
    let first = buf.len().min((WORD_BYTES - skip) % WORD_BYTES);
    let (head, rest) = buf.split_at_mut(first);
    if !head.is_empty() {
        head.copy_from_slice(&word(index)[skip..skip + head.len()]);
        index += 1;
    }
    let (whole, last) = rest.as_chunks_mut::<WORD_BYTES>();
    for (to, from) in whole.iter_mut().zip(&words[index..]) {
        *to = from.load(Ordering::Relaxed).to_le_bytes();
    }
    if !last.is_empty() {
        let bytes = word(index + whole.len());
        last.copy_from_slice(&bytes[..last.len()]);
    }
}

/// Nobody else writes these words: what is beside the bytes in the first and the last one stays.
fn write_bytes(words: &[AtomicU64], at: usize, bytes: &[u8]) {
    let change = |index: usize, skip: usize, part: &[u8]| {
        let mut word = words[index].load(Ordering::Relaxed).to_le_bytes();
        word[skip..skip + part.len()].copy_from_slice(part);
        words[index].store(u64::from_le_bytes(word), Ordering::Relaxed);
    };
    let (mut index, skip) = (at / WORD_BYTES, at % WORD_BYTES);
    let first = bytes.len().min((WORD_BYTES - skip) % WORD_BYTES);
    let (head, rest) = bytes.split_at(first);
    if !head.is_empty() {
        change(index, skip, head);
        index += 1;
    }
    let (whole, last) = rest.as_chunks::<WORD_BYTES>();
    for (to, from) in words[index..].iter().zip(whole) {
        to.store(u64::from_le_bytes(*from), Ordering::Relaxed);
    }
    if !last.is_empty() {
        change(index + whole.len(), 0, last);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_and_out_at_every_offset_and_length() {
        for at in 0..20 {
            for len in 0..40 {
                let words: Vec<_> = (0..8).map(|_| AtomicU64::new(u64::MAX)).collect();
                let mut model = [0xff; 64];
                let bytes: Vec<u8> = (1..=len as u8).collect();
                write_bytes(&words, at, &bytes);
                model[at..at + len].copy_from_slice(&bytes);
                let mut all = [0; 64];
                read_bytes(&words, 0, &mut all);
                assert_eq!(all, model, "{at} {len}");
                let mut back = vec![0; len];
                read_bytes(&words, at, &mut back);
                assert_eq!(back, bytes, "{at} {len}");
            }
        }
    }
}
