//! Hashing a few pieces side by side, block by block, by kernel copies.
//!
//! No reference to mapped memory is made (hazard 34): the kernel copies a block of each piece into a
//! buffer that stays in the second cache, and the buffers are hashed. Only where the caller of
//! [`Pieces::in_place`] has promised that nobody changes the files are blocks hashed where they are
//! mapped. Whole pieces in holes or padding are not read at all.

use std::collections::HashMap;
use std::ops::Range;

use super::error::SpanError;
use super::hasher::Sha1Digest;
use super::mapped_bytes::MappedBytes;
use super::pieces::Pieces;
use super::sha1_lanes::Sha1Lanes;

/// Bytes of all buffers of a thread: what a second cache holds beside other things.
const BUFFERS_BYTES: usize = 512 << 10;
/// No less than this is read at a time, so that system calls do not dominate.
const BLOCK_MIN_BYTES: usize = 32 << 10;

/// Bytes looked at in place at a time: more costs no cache, but crosses windows and files more often.
const BLOCK_IN_PLACE_BYTES: usize = 128 << 10;

/// What hashing a piece gives.
pub(super) type Outcome = Result<Sha1Digest, SpanError>;

/// One thread's tools for hashing pieces of a group.
#[derive(Debug)]
pub(super) struct Batches<'p> {
    pieces: &'p Pieces<'p>,
    buffers: Vec<u8>,
    /// Hashes of zeros, by length.
    zeros: HashMap<u64, Sha1Digest>,
}

impl<'p> Batches<'p> {
    pub(super) fn new(pieces: &'p Pieces<'p>) -> Self {
        Self {
            pieces,
            buffers: Vec::new(),
            zeros: HashMap::new(),
        }
    }

    /// Hashes a run of pieces, as many as the hasher has lanes at the most; one result for each, or none
    /// for those that were under way when `stop` said so. It is asked before each block.
    pub(super) fn hash(
        &mut self,
        run: Range<usize>,
        stop: &dyn Fn() -> bool,
    ) -> Vec<Option<Outcome>> {
        let mut results: Vec<Option<Outcome>> = Vec::new();
        let mut streams: Vec<Stream> = Vec::new();
        for piece in run.clone() {
            let range = self.pieces.range(piece);
            let len = range.end - range.start;
            match self.pieces.group.has_data(range.clone()) {
                Ok(true) => {
                    streams.push(Stream::new(piece - run.start, range));
                    results.push(None);
                }
                Ok(false) => results.push(Some(Ok(self.hash_of_zeros(len)))),
                Err(error) => results.push(Some(Err(error))),
            }
        }
        // The last piece of the group may be shorter than its neighbours: it goes alone.
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

    /// Hashes streams of one length; gives nothing if it is stopped.
    fn hash_streams(
        &mut self,
        mut streams: Vec<Stream>,
        stop: &dyn Fn() -> bool,
    ) -> Vec<(usize, Outcome)> {
        let Some(first) = streams.first() else {
            return Vec::new();
        };
        let len = first.len();
        // Whole blocks of the hash until the end: a multiple of 64, and of the page.
        let block = if self.pieces.promise.is_some() {
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
                stream.failed = Some(self.pieces.group.lost(stream.range.start + at));
            }
            at += part as u64;
        }
        let digests = hasher.finish();
        streams
            .into_iter()
            .zip(digests)
            .map(|(stream, digest)| (stream.index, stream.failed.map_or(Ok(digest), Err)))
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
            hasher.finish()[0]
        })
    }
}

/// A piece on its way through the hasher.
#[derive(Debug)]
struct Stream {
    /// Its place in the run.
    index: usize,
    range: Range<u64>,
    failed: Option<SpanError>,
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

    /// Reads the next block. A stream that failed goes on with whatever is in its buffer.
    fn read<'b>(&mut self, pieces: &'b Pieces<'_>, at: u64, buf: &'b mut [u8]) -> View<'b> {
        let offset = self.range.start + at;
        if self.failed.is_none()
            && let Some(promise) = pieces.promise
            && let Some(mapped) = MappedBytes::new(promise, pieces.group, offset, buf.len())
        {
            return View::Mapped(mapped);
        }
        if self.failed.is_none() {
            self.failed = pieces.group.read_exact_at(offset, buf).err();
        }
        View::Copied(buf)
    }
}

/// The block of a stream.
#[derive(Debug)]
enum View<'b> {
    Copied(&'b [u8]),
    Mapped(MappedBytes<'b>),
}

impl View<'_> {
    /// Was a page of it replaced by zeros while it was hashed?
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
