//! Client of a queue: the only process that changes the state.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use super::byte_access::{read_bytes, write_bytes};
use super::client_protocol::{ClientProtocol, PendingCommit};
use super::error::QueueError;
use super::layout::{Dimensions, Header, Layout, PAGE_BYTES, read_aux};
use super::mapped_words::{MappedWords, check_len, has_shrink_seal, header_of, len_of, reopen};
use super::shared_words::Words as _;
use crate::numbers::Generation;
use crate::sys::{flock, memfd, seek_data};

/// Dimensions of a new queue. They cannot be changed later.
#[derive(Clone, Debug)]
#[must_use]
pub struct QueueOptions {
    dimensions: Dimensions,
}

impl QueueOptions {
    /// Creates options for a state of `state_bytes` bytes, rounded up to a multiple of 4096.
    ///
    /// The queue holds three generations with up to 256 bytes of auxiliary data each.
    pub fn new(state_bytes: u64) -> Self {
        Self {
            dimensions: Dimensions {
                // `Client::open` refuses a length that cannot be rounded up.
                state_bytes: state_bytes
                    .checked_next_multiple_of(PAGE_BYTES as u64)
                    .unwrap_or(state_bytes),
                depth: 3,
                aux_bytes: 256,
            },
        }
    }

    /// Sets the number of generations that the queue holds, 2 to 64. Defaults to 3.
    ///
    /// Each generation takes as much memory as the state. A host can copy a generation until the
    /// client commits `depth - 1` further ones.
    pub fn depth(mut self, depth: u64) -> Self {
        self.dimensions.depth = depth;
        self
    }

    /// Sets the room for auxiliary data in each generation in bytes. Defaults to 256.
    ///
    /// The value must be a multiple of 8 and at most 65,536.
    pub fn aux_bytes(mut self, bytes: u64) -> Self {
        self.dimensions.aux_bytes = bytes;
        self
    }
}

/// Client of a queue, which commits generations of a state to a memfd.
///
/// The state is an array of bytes that starts as zeros. [`read`](Self::read) returns bytes of it.
/// [`begin`](Self::begin) or [`commit`](Self::commit) changes it. All changes of one commit become
/// visible to hosts and to later clients together, or not at all. A host copies committed
/// generations concurrently, and the client never waits for it.
///
/// A memfd has one client at a time. After its death the next client continues with the newest
/// committed generation.
///
/// # Examples
///
/// ```
/// use flatspan::shm::Memfd;
/// use flatspan::shm::queue::{Client, Generation, QueueOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memfd = Memfd::create("counter", 0)?;
/// let mut client = Client::open(memfd, QueueOptions::new(4096))?;
/// client.commit(|update| {
///     update.write(0, b"one")?;
///     update.write(8, b"two")?;
///     Ok(())
/// })?;
/// let mut state = [0; 3];
/// client.read(8, &mut state)?;
/// assert_eq!(&state, b"two");
/// assert_eq!(client.generation(), Generation::new(1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    memory: MappedWords,
    dimensions: Dimensions,
    layout: Layout,
    protocol: ClientProtocol,
    opened_by: u32,
}

/// Guard of a commit in progress: the state as it will be.
///
/// [`commit`](Self::commit) publishes the changes. Dropping the guard discards them.
///
/// # Examples
///
/// ```
/// use flatspan::shm::Memfd;
/// use flatspan::shm::queue::{Client, QueueOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let memfd = Memfd::create("counter", 0)?;
/// # let mut client = Client::open(memfd, QueueOptions::new(4096))?;
/// let mut update = client.begin()?;
/// update.write(0, &[1])?;
/// let first = update.commit()?;
///
/// let mut update = client.begin()?;
/// update.write(0, &[2])?;
/// drop(update);
///
/// let mut state = [0];
/// client.read(0, &mut state)?;
/// assert_eq!((state, client.generation()), ([1], Some(first)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it discards the changes"]
pub struct Update<'w> {
    memory: &'w MappedWords,
    pending: PendingCommit<'w, MappedWords>,
    dimensions: Dimensions,
    opened_by: u32,
}

impl Client {
    /// Opens the queue in the memfd, or creates one in an empty memfd.
    ///
    /// The memfd is extended as needed and sealed against shrinking.
    ///
    /// # Errors
    ///
    /// - [`QueueError::InUse`] if another client has the queue open.
    /// - [`QueueError::LayoutMismatch`] if the memfd holds a queue with other dimensions.
    /// - [`QueueError::NotAQueue`] if the memfd holds other data.
    /// - [`QueueError::InvalidHeader`] if the options or the existing header are out of range.
    /// - [`QueueError::UnsupportedVersion`], [`QueueError::TooShort`] if the existing queue is not
    ///   usable.
    /// - [`QueueError::Io`] if a system call on the memfd fails.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "options are consumed, as by the other constructors"
    )]
    pub fn open(memfd: impl Into<OwnedFd>, options: QueueOptions) -> Result<Self, QueueError> {
        let dimensions = options.dimensions;
        let file = reopen_and_lock(memfd.into())?;
        match header_if_complete(&file)? {
            Some(header) => {
                header.dimensions().check_equal(&dimensions)?;
                Self::resume(file, &header)
            }
            None => Self::create(file, dimensions),
        }
    }

    /// Opens an existing queue with the dimensions that its header states.
    ///
    /// Returns `None` if the memfd holds no queue.
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open).
    pub fn open_existing(memfd: impl Into<OwnedFd>) -> Result<Option<Self>, QueueError> {
        let file = reopen_and_lock(memfd.into())?;
        match header_if_complete(&file)? {
            Some(header) => Self::resume(file, &header).map(Some),
            None => Ok(None),
        }
    }

    fn create(file: File, dimensions: Dimensions) -> Result<Self, QueueError> {
        let header = Header::new(dimensions)?;
        check_empty(&file)?;
        let layout = header.layout();
        extend(&file, layout.len_bytes() as u64)?;
        // The seal comes before the mapping, so that no other process can remove mapped pages. An
        // empty memfd counts as completely restored.
        memfd::seal_shrink(&file).map_err(QueueError::io("seal the memfd"))?;
        let memory = MappedWords::new(file, &layout, true)?;
        header.write(&memory);
        Self::start(memory, &header)
    }

    fn resume(file: File, header: &Header) -> Result<Self, QueueError> {
        let layout = header.layout();
        // A restored memfd ends after its first buffer.
        check_len(len_of(&file)?, layout.image_bytes())?;
        extend(&file, layout.len_bytes() as u64)?;
        let memory = MappedWords::new(file, &layout, true)?;
        Self::start(memory, header)
    }

    fn start(memory: MappedWords, header: &Header) -> Result<Self, QueueError> {
        let layout = header.layout();
        let protocol = ClientProtocol::resume(&memory, layout)?;
        Ok(Self {
            memory,
            dimensions: *header.dimensions(),
            layout,
            protocol,
            opened_by: std::process::id(),
        })
    }

    /// Returns the length of the state in bytes.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.dimensions.state_bytes
    }

    /// Returns the newest committed generation, `None` before the first commit.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        let (generation, _) = self.protocol.newest()?;
        Generation::new(generation)
    }

    /// Returns the auxiliary data of the newest generation. It is empty before the first commit.
    #[must_use]
    pub fn aux(&self) -> Vec<u8> {
        let Some((generation, entry)) = self.protocol.newest() else {
            return Vec::new();
        };
        let read = |at: usize, to: &mut [u64]| self.memory.load_own(at, to);
        read_aux(read, &self.layout, entry, generation).unwrap_or_default()
    }

    /// Copies bytes of the newest generation into `buf`.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::OutOfBounds`] if the range ends after the state.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), QueueError> {
        let at = check_range(offset, buf.len(), self.state_bytes())?;
        match self.protocol.newest() {
            Some((_, entry)) => read_bytes(self.memory.words(self.layout.buffer(entry)), at, buf),
            None => buf.fill(0),
        }
        Ok(())
    }

    /// Begins a commit. The changes take effect when [`Update::commit`] is called.
    ///
    /// # Errors
    ///
    /// - [`QueueError::Forked`] if this process is a fork of the one that opened the queue.
    /// - [`QueueError::GenerationOverflow`] if no higher generation exists.
    pub fn begin(&mut self) -> Result<Update<'_>, QueueError> {
        check_process(self.opened_by)?;
        Ok(Update {
            memory: &self.memory,
            pending: self.protocol.begin(&self.memory)?,
            dimensions: self.dimensions,
            opened_by: self.opened_by,
        })
    }

    /// Calls `change` and commits its changes as a new generation.
    ///
    /// If the closure returns an error or panics, nothing is committed. A closure with an error
    /// type of its own needs [`begin`](Self::begin) instead.
    ///
    /// # Errors
    ///
    /// The errors of [`begin`](Self::begin) and of the closure.
    pub fn commit<R>(
        &mut self,
        change: impl FnOnce(&mut Update<'_>) -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        self.commit_with_aux(&[], change)
    }

    /// Calls `change` and commits its changes as a new generation with auxiliary data.
    ///
    /// # Errors
    ///
    /// - The errors of [`commit`](Self::commit).
    /// - [`QueueError::AuxTooLong`] if `aux` is longer than the queue allows. The closure is not
    ///   called.
    pub fn commit_with_aux<R>(
        &mut self,
        aux: &[u8],
        change: impl FnOnce(&mut Update<'_>) -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        check_aux(aux, &self.dimensions)?;
        let mut update = self.begin()?;
        let result = change(&mut update)?;
        update.commit_with_aux(aux)?;
        Ok(result)
    }

    /// Returns the newest generation that a host has made durable, `None` if there is none.
    ///
    /// A host may be slow, stopped or absent. A client that waits for this number gives up the
    /// independence that the queue provides.
    #[must_use]
    pub fn last_persisted(&self) -> Option<Generation> {
        let word = self.memory.word(self.layout.persisted_at());
        Generation::new(word.load(Ordering::Acquire))
    }
}

impl Update<'_> {
    /// Returns the generation that the commit creates.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.pending.generation()
    }

    /// Returns the length of the state in bytes.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.dimensions.state_bytes
    }

    /// Changes bytes of the state.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::OutOfBounds`] if the range ends after the state.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), QueueError> {
        let at = check_range(offset, bytes.len(), self.state_bytes())?;
        if bytes.is_empty() {
            return Ok(());
        }
        for page in at / PAGE_BYTES..=(at + bytes.len() - 1) / PAGE_BYTES {
            self.pending.touch(page);
        }
        write_bytes(self.memory.words(self.pending.buffer()), at, bytes);
        Ok(())
    }

    /// Copies bytes of the state into `buf`, including the changes made so far.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::OutOfBounds`] if the range ends after the state.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), QueueError> {
        let at = check_range(offset, buf.len(), self.state_bytes())?;
        read_bytes(self.memory.words(self.pending.buffer()), at, buf);
        Ok(())
    }

    /// Publishes the changes and returns their generation.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Forked`] if this process is a fork of the one that opened the
    /// queue.
    pub fn commit(self) -> Result<Generation, QueueError> {
        self.commit_with_aux(&[])
    }

    /// Publishes the changes with auxiliary data and returns their generation.
    ///
    /// # Errors
    ///
    /// - The errors of [`commit`](Self::commit).
    /// - [`QueueError::AuxTooLong`] if `aux` is longer than the queue allows.
    pub fn commit_with_aux(self, aux: &[u8]) -> Result<Generation, QueueError> {
        check_aux(aux, &self.dimensions)?;
        check_process(self.opened_by)?;
        let generation = self.generation();
        self.pending.complete(aux);
        Ok(generation)
    }
}

fn check_aux(aux: &[u8], dimensions: &Dimensions) -> Result<(), QueueError> {
    let tail_bytes = dimensions.aux_bytes;
    if aux.len() as u64 > tail_bytes {
        let len = aux.len();
        return Err(QueueError::AuxTooLong {
            len,
            aux_bytes: tail_bytes,
        });
    }
    Ok(())
}

/// Refuses to commit in a fork, which shares the memory and the lock with its parent.
fn check_process(opened_by: u32) -> Result<(), QueueError> {
    let here = std::process::id();
    if here != opened_by {
        return Err(QueueError::Forked { opened_by, here });
    }
    Ok(())
}

/// A new open file description with an exclusive flock(2) that ends with it.
fn reopen_and_lock(memfd: OwnedFd) -> Result<File, QueueError> {
    let file = reopen(&File::from(memfd), true)?;
    let locked = flock::lock_timeout(&file, flock::DEFAULT_TIMEOUT);
    if locked.map_err(QueueError::io("lock the memfd"))? {
        Ok(file)
    } else {
        Err(QueueError::InUse)
    }
}

/// The header of the memfd, unless the shrink seal is missing: such a memfd is only partly restored
/// and its content is not used [I25].
fn header_if_complete(file: &File) -> Result<Option<Header>, QueueError> {
    if has_shrink_seal(file)? {
        header_of(file)
    } else {
        Ok(None)
    }
}

/// Refuses to create a queue over other data. Header fields without the magic are allowed: a client
/// that died while it created the queue leaves them.
fn check_empty(file: &File) -> Result<(), QueueError> {
    let mut page = [0; PAGE_BYTES];
    let len = len_of(file)?.min(PAGE_BYTES as u64) as usize;
    let failed = QueueError::io("read the memfd");
    file.read_exact_at(&mut page[..len], 0).map_err(failed)?;
    let header_fields = 8..80;
    let (magic, rest) = (&page[..header_fields.start], &page[header_fields.end..]);
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let data = seek_data::next_data(file, PAGE_BYTES as u64);
    let data = data.map_err(QueueError::io("search the memfd for data"))?;
    if is_zero(magic) && is_zero(rest) && data.is_none() {
        Ok(())
    } else {
        Err(QueueError::NotAQueue)
    }
}

fn extend(file: &File, len: u64) -> Result<(), QueueError> {
    if len_of(file)? >= len {
        return Ok(());
    }
    file.set_len(len)
        .map_err(QueueError::io("extend the memfd"))
}

/// The offset as an index into the state, if the range is inside of it.
fn check_range(offset: u64, len: usize, state_bytes: u64) -> Result<usize, QueueError> {
    match offset.checked_add(len as u64) {
        // Lossless: the state is mapped.
        Some(end) if end <= state_bytes => Ok(offset as usize),
        _ => Err(QueueError::OutOfBounds {
            offset,
            len: len as u64,
            state_bytes,
        }),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn state(client: &Client) -> Vec<u8> {
        let mut state = vec![0; client.state_bytes() as usize];
        client.read(0, &mut state).expect("the state");
        state
    }

    #[test]
    fn i31_dropped_and_forgotten_updates_leave_no_trace() {
        let memfd = memfd::create("flatspan-test").expect("a memfd");
        let options = QueueOptions::new(2 * PAGE_BYTES as u64).depth(2);
        let mut client = Client::open(memfd, options).expect("a client");
        client
            .commit(|update| update.write(0, &[1; 2 * PAGE_BYTES]))
            .expect("a commit");
        let mut update = client.begin().expect("an update");
        update.write(10, &[2; PAGE_BYTES]).expect("a change");
        drop(update);
        let mut update = client.begin().expect("an update");
        update.write(0, &[3; 5]).expect("a change");
        #[expect(
            clippy::forget_non_drop,
            reason = "a leaked update must leave no trace"
        )]
        std::mem::forget(update);
        assert_eq!(state(&client), [1; 2 * PAGE_BYTES]);

        let mut update = client.begin().expect("an update");
        update.write(0, &[4]).expect("a change");
        let generation = update.commit().expect("a commit");
        assert_eq!(client.generation(), Some(generation));
        let mut expected = vec![1; 2 * PAGE_BYTES];
        expected[0] = 4;
        assert_eq!(state(&client), expected);
    }
}
