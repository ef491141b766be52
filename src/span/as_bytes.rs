//! Spans as the traits of the crate `bytes`: `Bytes` without a copy, `Buf` and `BufMut`.
//!
//! # Safety
//!
//! What is handed to `BufMut` are the slices of a [`SpanMut`], which are initialised and borrowed
//! exclusively; what is told to be written stays within them (checked).
#![expect(unsafe_code, reason = "BufMut is an unsafe trait")]

use std::sync::Arc;

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes};

use super::group::Group;
use super::guard::{Span, SpanMut};
use super::parts::GroupHandle;

/// One slice of a span, which stays claimed and pinned as long as any of them is there.
struct Owner {
    span: Arc<Span<Arc<Group>>>,
    slice: usize,
}

impl AsRef<[u8]> for Owner {
    /// Called once, when the `Bytes` is made.
    fn as_ref(&self) -> &[u8] {
        self.span.slices().nth(self.slice).unwrap_or(&[])
    }
}

impl Span<Arc<Group>> {
    /// The bytes as `Bytes`, without a copy: one for each window they touch. The range is given back when
    /// the last of them, and of their clones, is dropped.
    ///
    /// # Panics
    ///
    /// As for [`slices`](Self::slices).
    #[must_use]
    pub fn into_bytes(self) -> Vec<Bytes> {
        let slices = self.slices().count();
        let span = Arc::new(self);
        let owner = |slice| Owner {
            span: span.clone(),
            slice,
        };
        (0..slices)
            .map(|slice| Bytes::from_owner(owner(slice)))
            .collect()
    }
}

/// A span read front to back.
#[derive(Debug)]
pub struct SpanBuf<'s> {
    current: &'s [u8],
    rest: std::vec::IntoIter<&'s [u8]>,
    remaining: usize,
}

/// A span written front to back.
#[derive(Debug)]
pub struct SpanBufMut<'s> {
    current: &'s mut [u8],
    rest: std::vec::IntoIter<&'s mut [u8]>,
    remaining: usize,
}

impl<G: GroupHandle> Span<G> {
    /// The bytes to be read by [`Buf`].
    ///
    /// # Panics
    ///
    /// As for [`slices`](Self::slices).
    #[must_use]
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
    /// The bytes to be written by [`BufMut`].
    ///
    /// # Panics
    ///
    /// As for [`slices_mut`](Self::slices_mut).
    #[must_use]
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

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced past the end of a span");
        self.remaining -= count;
        while count >= self.current.len() {
            count -= self.current.len();
            match self.rest.next() {
                Some(next) => self.current = next,
                None => {
                    self.current = &[];
                    return;
                }
            }
        }
        self.current = &self.current[count..];
    }
}

// SAFETY: `chunk_mut` gives the same memory until `advance_mut`, which moves by what is asked for and
// panics past the end; `remaining_mut` is what is left of all slices.
unsafe impl BufMut for SpanBufMut<'_> {
    fn remaining_mut(&self) -> usize {
        self.remaining
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::new(self.current)
    }

    unsafe fn advance_mut(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced past the end of a span");
        self.remaining -= count;
        while count >= self.current.len() {
            count -= self.current.len();
            match self.rest.next() {
                Some(next) => self.current = next,
                None => {
                    self.current = &mut [];
                    return;
                }
            }
        }
        let current = std::mem::take(&mut self.current);
        self.current = &mut current[count..];
    }
}
