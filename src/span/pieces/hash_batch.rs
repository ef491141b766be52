//! Hashing of pieces: one alone, or several side by side, block by block.
//!
//! No reference to mapped memory is created [I34]. The kernel copies a block of each piece into a
//! buffer that fits in the L2 cache, and the buffers are hashed. Blocks are hashed in mapped memory
//! only if the caller of [`Pieces::hash_in_place`] promised that no other code changes the files.
//! Pieces that consist of holes or padding are not read.

use std::collections::HashMap;
use std::ops::Range;

use super::hasher::{PieceHasher, Sha1Digest};
use super::mapped_bytes::MappedBytes;
use super::pieces::Pieces;
use super::sha1_simd::Sha1Lanes;
use crate::span::error::GroupError;

/// Length of all buffers of a thread, which fits in the L2 cache together with other data.
const BUFFERS_BYTES: usize = 512 << 10;
/// Smallest read, so that system calls do not dominate.
const BLOCK_MIN_BYTES: usize = 32 << 10;

/// Block length in mapped memory. Longer blocks use no more cache, but cross windows and files more
/// often.
const BLOCK_IN_PLACE_BYTES: usize = 128 << 10;

/// Block length of a piece that is hashed alone; it fits in the L2 cache.
const BLOCK_ALONE_BYTES: usize = 128 << 10;

/// Hash of a piece.
pub(super) type Outcome = Result<Sha1Digest, GroupError>;

impl Pieces<'_> {
    /// Hashes one piece with SHA-1.
    ///
    /// # Errors
    ///
    /// - [`GroupError::InvalidArgument`] if there is no such piece.
    /// - [`GroupError::File`] if any byte of the piece cannot be read.
    pub fn hash(&self, piece: usize) -> Result<Sha1Digest, GroupError> {
        self.checked_range(piece)?;
        let mut hasher = BatchHasher::new(self);
        let mut results = hasher.hash(piece..piece + 1, &|| false);
        match results.pop().flatten() {
            Some(result) => result,
            None => unreachable!("a batch of one piece that nothing cancels has one result"),
        }
    }

    /// Hashes one piece with any hash function.
    ///
    /// # Errors
    ///
    /// The errors of [`hash`](Self::hash).
    pub fn hash_with<H: PieceHasher>(&self, piece: usize) -> Result<H::Digest, GroupError> {
        let Range { mut start, end } = self.checked_range(piece)?;
        let mut hasher = H::default();
        let mut buf = vec![0; BLOCK_ALONE_BYTES];
        while start < end {
            let len = usize::try_from(end - start).map_or(buf.len(), |left| left.min(buf.len()));
            self.group.read_exact_at(start, &mut buf[..len])?;
            hasher.update(&buf[..len]);
            start += len as u64;
        }
        Ok(hasher.finish())
    }
}

/// Hasher of several pieces at once, with the buffers of one thread.
#[derive(Debug)]
pub(super) struct BatchHasher<'p> {
    pieces: &'p Pieces<'p>,
    buffers: Vec<u8>,
    /// Hashes of zeros by their length.
    zeros: HashMap<u64, Sha1Digest>,
}

impl<'p> BatchHasher<'p> {
    pub(super) fn new(pieces: &'p Pieces<'p>) -> Self {
        Self {
            pieces,
            buffers: Vec::new(),
            zeros: HashMap::new(),
        }
    }

    /// Hashes a batch of pieces, at most as many as the SIMD hasher has lanes. Returns one result
    /// for each, or `None` for a piece that `stop`, which is called before each block, interrupted.
    pub(super) fn hash(
        &mut self,
        batch: Range<usize>,
        stop: &dyn Fn() -> bool,
    ) -> Vec<Option<Outcome>> {
        let mut results: Vec<Option<Outcome>> = Vec::new();
        let mut streams: Vec<Stream> = Vec::new();
        for piece in batch.clone() {
            let range = self.pieces.bounds(piece);
            let len = range.end - range.start;
            match self.pieces.group.has_data(range.clone()) {
                Ok(true) => {
                    streams.push(Stream::new(piece - batch.start, range));
                    results.push(None);
                }
                Ok(false) => results.push(Some(Ok(self.hash_of_zeros(len)))),
                Err(error) => results.push(Some(Err(error))),
            }
        }
        // The last piece of the group may be shorter than the others: hash it alone.
        let full = self.pieces.piece_bytes();
        let (even, short): (Vec<_>, Vec<_>) =
            streams.into_iter().partition(|stream| stream.len() == full);
        for streams in [even, short] {
            for (index, result) in self.hash_streams(streams, stop) {
                results[index] = Some(result);
            }
        }
        results
    }

    /// Hashes streams of equal length. Returns nothing if `stop` interrupts it.
    fn hash_streams(
        &mut self,
        mut streams: Vec<Stream>,
        stop: &dyn Fn() -> bool,
    ) -> Vec<(usize, Outcome)> {
        let Some(first) = streams.first() else {
            return Vec::new();
        };
        let len = first.len();
        // A multiple of the block length of SHA-1 (64 bytes) and of the page size.
        let block = if self.pieces.no_writers.is_some() {
            BLOCK_IN_PLACE_BYTES
        } else {
            (BUFFERS_BYTES / streams.len()).max(BLOCK_MIN_BYTES) & !4095
        };
        self.buffers.resize(block * streams.len(), 0);
        let mut hasher = Sha1Lanes::new(streams.len());
        let mut at = 0;
        while at < len && streams.iter().any(|stream| stream.failed.is_none()) {
            if stop() {
                return Vec::new();
            }
            let part = usize::try_from(len - at).map_or(block, |left| left.min(block));
            let buffers = self.buffers.chunks_exact_mut(block);
            let views: Vec<View<'_>> = streams
                .iter_mut()
                .zip(buffers)
                .map(|(stream, buf)| stream.read(self.pieces, at, &mut buf[..part]))
                .collect();
            let blocks: Vec<&[u8]> = views.iter().map(View::bytes).collect();
            hasher.update(&blocks);
            let lost: Vec<bool> = views.iter().map(View::is_lost).collect();
            for (stream, _) in streams.iter_mut().zip(lost).filter(|(_, lost)| *lost) {
                stream.failed = Some(self.pieces.group.page_lost(stream.range.start + at));
            }
            at += part as u64;
        }
        let digests = hasher.finish();
        streams
            .into_iter()
            .zip(digests)
            .map(|(stream, digest)| match stream.failed {
                None => (stream.index, Ok(Sha1Digest::new(digest))),
                Some(error) => (stream.index, Err(error)),
            })
            .collect()
    }

    fn hash_of_zeros(&mut self, len: u64) -> Sha1Digest {
        *self.zeros.entry(len).or_insert_with(|| {
            let zeros = vec![0; BLOCK_MIN_BYTES];
            let mut hasher = Sha1Lanes::new(1);
            let mut left = len;
            while left > 0 {
                let part = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
                hasher.update(&[&zeros[..part]]);
                left -= part as u64;
            }
            Sha1Digest::new(hasher.finish()[0])
        })
    }
}

/// Piece that is being hashed.
#[derive(Debug)]
struct Stream {
    /// Index in the batch.
    index: usize,
    range: Range<u64>,
    failed: Option<GroupError>,
}

impl Stream {
    fn new(index: usize, range: Range<u64>) -> Self {
        Self {
            index,
            range,
            failed: None,
        }
    }

    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Reads the block at offset `at` of the piece. A stream that failed keeps the content of its
    /// buffer, since all streams advance in lock step.
    fn read<'b>(&mut self, pieces: &'b Pieces<'_>, at: u64, buf: &'b mut [u8]) -> View<'b> {
        let offset = self.range.start + at;
        if self.failed.is_none()
            && let Some(no_writers) = pieces.no_writers
            && let Some(mapped) = MappedBytes::new(no_writers, pieces.group, offset, buf.len())
        {
            return View::Mapped(mapped);
        }
        if self.failed.is_none() {
            self.failed = pieces.group.read_exact_at(offset, buf).err();
        }
        View::Copied(buf)
    }
}

/// Block of a stream.
#[derive(Debug)]
enum View<'b> {
    Copied(&'b [u8]),
    Mapped(MappedBytes<'b>),
}

impl View<'_> {
    /// Whether a page of the block was replaced by zeros while it was hashed.
    fn is_lost(&self) -> bool {
        matches!(self, Self::Mapped(mapped) if mapped.is_poisoned())
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Mapped(mapped) => mapped.bytes(),
        }
    }
}
