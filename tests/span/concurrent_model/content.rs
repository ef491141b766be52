//! Content of bytes: segments of zeros, and of noise that identifies the write that stored it.

use std::ops::Range;

use crate::content::Rng;

#[derive(Clone, Copy, Debug)]
enum Source {
    Zeros,
    /// Noise of a write, from this offset in the write.
    Noise {
        key: u64,
        from: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    len: usize,
    source: Source,
}

/// Expected bytes, described by their sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content(Vec<Segment>);

impl Content {
    pub(crate) fn zeros(len: usize) -> Self {
        let source = Source::Zeros;
        Self(vec![Segment { len, source }])
    }

    /// Noise without zero bytes, which differs for every key.
    pub(crate) fn noise(key: u64, len: usize) -> Self {
        let source = Source::Noise { key, from: 0 };
        Self(vec![Segment { len, source }])
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|segment| segment.len).sum()
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        let mut slice = Vec::new();
        let mut start = 0;
        for segment in &self.0 {
            let end = start + segment.len;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                let source = match segment.source {
                    Source::Zeros => Source::Zeros,
                    Source::Noise { key, from: first } => Source::Noise {
                        key,
                        from: first + (from - start) as u64,
                    },
                };
                let len = to - from;
                slice.push(Segment { len, source });
            }
            start = end;
        }
        Self(slice)
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// This content with a part of it replaced by content of the same length.
    pub(crate) fn with(&self, range: &Range<usize>, part: Self) -> Self {
        assert_eq!(part.len(), range.len());
        let mut whole = self.slice(0..range.start);
        whole.append(part);
        whole.append(self.slice(range.end..self.len()));
        whole
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        let mut start = 0;
        for segment in &self.0 {
            let end = start + segment.len;
            if let Source::Noise { key, from } = segment.source {
                fill(key, from, &mut bytes[start..end]);
            }
            start = end;
        }
        bytes
    }
}

fn fill(key: u64, from: u64, buf: &mut [u8]) {
    let mut done = 0;
    while done < buf.len() {
        let at = from + done as u64;
        let word = Rng::new(key ^ (at / 8).rotate_left(32)).next() | 0x0101_0101_0101_0101;
        let skip = (at % 8) as usize;
        let len = (8 - skip).min(buf.len() - done);
        buf[done..done + len].copy_from_slice(&word.to_le_bytes()[skip..skip + len]);
        done += len;
    }
}
