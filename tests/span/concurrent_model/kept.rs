//! Spans that are kept for a while.

use std::{
    fs::File, io::Write as _, ops::Range, os::unix::fs::FileExt as _, sync::Arc, time::Duration,
};

use bytes::{BufMut as _, Bytes};
use flatspan::span::{Group, Span, SpanMut};
use std::io::{Seek as _, SeekFrom};

use super::{
    activity::{Active, Use},
    allowed::Allowed,
    changes::Changes,
    content::Content,
    worker::{OpenGroup, Worker},
};
use crate::content::Rng;

#[derive(Debug)]
enum Held {
    Span(Span<Arc<Group>>),
    SpanMut(SpanMut<Arc<Group>>),
    Bytes(Vec<Bytes>),
}

/// A span and the bytes that it must have. No other thread may change them.
#[derive(Debug)]
pub(crate) struct Kept<'m> {
    held: Held,
    number: usize,
    range: Range<u64>,
    bytes: Vec<u8>,
    // Dropped after the span.
    _active: Active<'m>,
}

impl Kept<'_> {
    /// Checks the bytes once more, and drops the span.
    pub(crate) fn end(self) {
        self.check();
    }

    fn check(&self) {
        let found = match &self.held {
            Held::Span(span) => concat(span.slices()),
            Held::SpanMut(span) => concat(span.as_span().slices()),
            Held::Bytes(parts) => concat(parts.iter().map(AsRef::as_ref)),
        };
        self.assert_same(&found, 0);
        match &self.held {
            Held::Span(span) => span.check_intact().expect("no page is lost"),
            Held::SpanMut(span) => span.check_intact().expect("no page is lost"),
            Held::Bytes(_) => {}
        }
    }

    fn assert_same(&self, found: &[u8], at: usize) {
        let expected = &self.bytes[at..at + found.len()];
        let differs = |(a, b): (&u8, &u8)| a != b;
        if let Some(first) = found.iter().zip(expected).position(differs) {
            panic!(
                "a span of {:?} of group {} has {:#x} instead of {:#x} at byte {}",
                self.range,
                self.number,
                found[first],
                expected[first],
                at + first
            );
        }
    }

    /// Reads a part by a copy, and other queries of a span.
    fn query(&self, rng: &mut Rng) {
        let at = rng.below(self.bytes.len() as u64 + 1) as usize;
        let len = rng.below((self.bytes.len() - at) as u64 + 1) as usize;
        let mut buf = vec![0xEE; len];
        match &self.held {
            Held::Span(span) => {
                span.populate().expect("all bytes exist");
                span.read_at(at, &mut buf).expect("all bytes exist");
                let _ = span.is_resident();
            }
            Held::SpanMut(span) => span.read_at(at, &mut buf).expect("all bytes exist"),
            Held::Bytes(_) => return,
        }
        self.assert_same(&buf, at);
    }
}

pub(crate) fn concat<'s>(slices: impl Iterator<Item = &'s [u8]>) -> Vec<u8> {
    slices.fold(Vec::new(), |mut bytes, slice| {
        bytes.extend_from_slice(slice);
        bytes
    })
}

impl<'m> Worker<'m> {
    /// A span of a range for reading and its bytes; `None` if it is refused. Callers drop the span
    /// before the mark of the operation.
    pub(crate) fn span(
        &mut self,
        open: &OpenGroup,
        range: &Range<u64>,
    ) -> Option<(Active<'m>, Span<Arc<Group>>, Vec<u8>)> {
        let active = self.active(Use::Span, open, range);
        let reading = self.reading(open, range);
        let timeout = Duration::from_micros(self.rng.below(3000));
        let span = match self.rng.below(10) {
            0..6 => open.group.owned_span(range.clone()),
            6 => {
                let span = open.group.owned_span_async(range.clone());
                self.runtime.block_on(span)
            }
            _ => open.group.owned_span_timeout(range.clone(), timeout),
        };
        match span {
            Ok(span) => {
                let bytes = concat(span.slices());
                assert_eq!(bytes.len(), reading.len);
                self.assert_long_enough(open, range);
                reading.check(
                    &format!("span of {range:?} of group {}", open.number),
                    &bytes,
                    true,
                );
                self.count("span");
                Some((active, span, bytes))
            }
            Err(error) => {
                let allowed = Allowed {
                    locked: active.had_conflict(),
                    short: reading.may_be_short(),
                    missing: reading.may_be_missing(),
                    exhausted: open.may_exhaust,
                    ..Allowed::default()
                };
                self.refused("span", allowed, &error);
                None
            }
        }
    }

    /// All bytes of a span exist while the span does.
    #[track_caller]
    fn assert_long_enough(&self, open: &OpenGroup, range: &Range<u64>) {
        for part in self.model.plans[open.number].parts(range) {
            let Some(stripe) = part.stripe else { continue };
            let end = self.model.stripes[stripe].start + part.range.end as u64;
            let actual = open
                .group
                .actual_bytes(part.entry)
                .expect("the file exists");
            assert!(
                actual >= end,
                "a span of {range:?} of group {} ends at byte {end} of a file of {actual} bytes",
                open.number
            );
        }
    }

    pub(crate) fn keep_span(&mut self, open: &OpenGroup) {
        let range = self.any_range(open);
        let Some((active, span, bytes)) = self.span(open, &range) else {
            return;
        };
        let held = if self.rng.percent(30) {
            Held::Bytes(span.into_bytes())
        } else {
            Held::Span(span)
        };
        self.kept.push(Kept {
            held,
            number: open.number,
            range,
            bytes,
            _active: active,
        });
    }

    pub(crate) fn keep_span_mut(&mut self, open: &OpenGroup) {
        let Some(range) = self.own_range(open, false) else {
            return;
        };
        let active = self.active(Use::SpanMut, open, &range);
        let reading = self.reading(open, &range);
        let timeout = Duration::from_micros(self.rng.below(3000));
        let span = match self.rng.below(10) {
            0..5 => open.group.owned_span_mut(range.clone()),
            5 => {
                let span = open.group.owned_span_mut_async(range.clone());
                self.runtime.block_on(span)
            }
            _ => open.group.owned_span_mut_timeout(range.clone(), timeout),
        };
        let span = match span {
            Ok(span) => span,
            Err(error) => {
                let allowed = Allowed {
                    locked: active.had_conflict() || self.model.repeats(open.number, &range),
                    exhausted: open.may_exhaust,
                    ..Allowed::default()
                };
                return self.refused("span_mut", allowed, &error);
            }
        };
        let bytes = concat(span.as_span().slices());
        reading.check(&format!("span_mut of {range:?}"), &bytes, true);
        self.note_extended(open, &range);
        self.count("span_mut");
        self.kept.push(Kept {
            held: Held::SpanMut(span),
            number: open.number,
            range,
            bytes,
            _active: active,
        });
        if self.rng.percent(80) {
            self.store(self.kept.len() - 1);
        }
    }

    /// A span for writing has extended the files to the end of its range.
    fn note_extended(&self, open: &OpenGroup, range: &Range<u64>) {
        for part in self.model.plans[open.number].parts(range) {
            let stripe = &self.model.stripes[part.stripe.expect("a range without padding")];
            let file = &self.model.files[stripe.file];
            file.note_reaches(stripe.start + part.range.end as u64);
        }
    }

    pub(crate) fn use_kept(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let which = self.rng.below(self.kept.len() as u64) as usize;
        self.kept[which].check();
        let mut rng = Rng::new(self.rng.next());
        self.kept[which].query(&mut rng);
        if matches!(self.kept[which].held, Held::SpanMut(_)) {
            self.store(which);
        }
        self.count("use of a kept span");
    }

    /// Stores new bytes in a part of a span for writing.
    fn store(&mut self, which: usize) {
        let number = self.model.next_number(self.me);
        let key = ((self.me as u64) << 48) ^ number;
        let kept = &mut self.kept[which];
        let Held::SpanMut(span) = &mut kept.held else {
            return;
        };
        let all = kept.bytes.len();
        let (at, len, way) = match self.rng.below(5) {
            way @ (0 | 1) => {
                let at = self.rng.below(all as u64) as usize;
                (at, 1 + self.rng.below((all - at) as u64) as usize, way)
            }
            way => (0, all, way),
        };
        let content = Content::noise(key, len);
        let bytes = content.bytes();
        let stored = kept.range.start + at as u64..kept.range.start + (at + len) as u64;
        let mut changes = Changes::new(self.model, number);
        changes.replace(kept.number, &stored, &content);
        changes.begin();
        store_bytes(span, at, &bytes, way, &mut self.scratch);
        changes.settle();
        kept.bytes[at..at + len].copy_from_slice(&bytes);
    }
}

/// Stores bytes by one of five methods. The last three store all of the span.
fn store_bytes(
    span: &mut SpanMut<Arc<Group>>,
    at: usize,
    bytes: &[u8],
    way: u64,
    scratch: &mut File,
) {
    match way {
        0 => span.write_at(at, bytes).expect("all bytes exist"),
        1 => {
            let (mut skip, mut left) = (at, bytes);
            for slice in span.slices_mut() {
                let from = skip.min(slice.len());
                skip -= from;
                let len = (slice.len() - from).min(left.len());
                slice[from..from + len].copy_from_slice(&left[..len]);
                left = &left[len..];
            }
            assert!(left.is_empty());
        }
        2 => match span.as_mut_slice() {
            Some(slice) => slice.copy_from_slice(bytes),
            None => span.write_at(0, bytes).expect("all bytes exist"),
        },
        3 => span.buf_mut().put_slice(bytes),
        _ => {
            scratch.set_len(0).expect("truncated");
            scratch.write_all_at(bytes, 0).expect("written");
            scratch.flush().expect("flushed");
            scratch.seek(SeekFrom::Start(0)).expect("a seek");
            span.read_exact_from(&*scratch).expect("all bytes arrive");
        }
    }
}
