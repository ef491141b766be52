//! Spans as types of the crate `bytes`: `Bytes` without a copy, `Buf` and `BufMut`.
//!
//! # Safety
//!
//! The memory of `BufMut` consists of the slices of a [`SpanMut`], which are initialised and
//! borrowed exclusively. Advancing past their end panics.
#![expect(unsafe_code, reason = "BufMut is an unsafe trait")]

use std::sync::Arc;

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes};

use super::pinned_parts::GroupHandle;
use super::span_guard::{Span, SpanMut, zeros};
use crate::span::group::Group;

/// One part of a span. The span stays locked and pinned until all of its owners are dropped.
struct Owner {
    span: Arc<Span<Arc<Group>>>,
    part: usize,
}

impl AsRef<[u8]> for Owner {
    /// Called once, when the `Bytes` is created.
    fn as_ref(&self) -> &[u8] {
        self.span.slice_of_part(self.part).unwrap_or(&[])
    }
}

impl Span<Arc<Group>> {
    /// Converts the span to `Bytes` without a copy: one for each window of mapped memory, and
    /// static zeros for padding.
    ///
    /// The range stays locked and pinned until the last of those in mapped memory, and of their
    /// clones, is dropped.
    ///
    /// # Panics
    ///
    /// Panics if the group does not [allow slices](Group::allows_slices).
    #[must_use]
    #[track_caller]
    pub fn into_bytes(self) -> Vec<Bytes> {
        self.assert_slices_allowed();
        let parts = self.parts.iter();
        let padding: Vec<_> = parts
            .map(|(part, len)| part.is_none().then_some(len))
            .collect();
        let span = Arc::new(self);
        let mut all = Vec::new();
        for (part, padding) in padding.into_iter().enumerate() {
            if let Some(len) = padding {
                all.extend(zeros(len).map(Bytes::from_static));
            } else {
                let span = Arc::clone(&span);
                all.push(Bytes::from_owner(Owner { span, part }));
            }
        }
        all
    }
}

/// Reader of a span for the trait [`Buf`], from [`Span::buf`].
#[derive(Debug)]
pub struct SpanBuf<'s> {
    current: &'s [u8],
    rest: std::vec::IntoIter<&'s [u8]>,
    remaining: usize,
}

/// Writer of a span for the trait [`BufMut`], from [`SpanMut::buf_mut`].
#[derive(Debug)]
pub struct SpanBufMut<'s> {
    current: &'s mut [u8],
    rest: std::vec::IntoIter<&'s mut [u8]>,
    remaining: usize,
}

impl<G: GroupHandle> Span<G> {
    /// Returns a [`Buf`] that reads the span from its start.
    ///
    /// # Panics
    ///
    /// Panics if the group does not [allow slices](Group::allows_slices).
    #[must_use]
    #[track_caller]
    pub fn buf(&self) -> SpanBuf<'_> {
        let slices: Vec<_> = self.slices().collect();
        let mut rest = slices.into_iter();
        SpanBuf {
            current: rest.next().unwrap_or(&[]),
            rest,
            remaining: self.len(),
        }
    }
}

impl<G: GroupHandle> SpanMut<G> {
    /// Returns a [`BufMut`] that writes the span from its start.
    ///
    /// # Panics
    ///
    /// Panics if the group does not [allow slices](Group::allows_slices).
    #[must_use]
    #[track_caller]
    pub fn buf_mut(&mut self) -> SpanBufMut<'_> {
        let remaining = self.len();
        let slices: Vec<_> = self.slices_mut().collect();
        let mut rest = slices.into_iter();
        SpanBufMut {
            current: rest.next().unwrap_or(&mut []),
            rest,
            remaining,
        }
    }
}

impl Buf for SpanBuf<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.current
    }

    fn advance(&mut self, mut cnt: usize) {
        assert!(cnt <= self.remaining, "advanced past the end of a span");
        self.remaining -= cnt;
        while cnt >= self.current.len() {
            cnt -= self.current.len();
            let Some(next) = self.rest.next() else {
                self.current = &[];
                return;
            };
            self.current = next;
        }
        self.current = &self.current[cnt..];
    }
}

// SAFETY: `chunk_mut` returns the same memory until `advance_mut`, which advances by the requested
// count and panics past the end. `remaining_mut` is the length of all remaining slices.
unsafe impl BufMut for SpanBufMut<'_> {
    fn remaining_mut(&self) -> usize {
        self.remaining
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::new(self.current)
    }

    unsafe fn advance_mut(&mut self, mut cnt: usize) {
        assert!(cnt <= self.remaining, "advanced past the end of a span");
        self.remaining -= cnt;
        while cnt >= self.current.len() {
            cnt -= self.current.len();
            let Some(next) = self.rest.next() else {
                self.current = &mut [];
                return;
            };
            self.current = next;
        }
        let current = std::mem::take(&mut self.current);
        self.current = &mut current[cnt..];
    }
}
