//! Transfers between pinned ranges and a socket, pipe or file, without a copy in the process.
//!
//! # Safety
//!
//! Every address that is passed to the kernel is inside a pinned range, which keeps its window
//! mapped (docs/unsafe.md, U1). The lock of the range excludes references of this process. Ranges
//! that are sent are locked shared or exclusively. Ranges that are received into are locked
//! exclusively, and their owner borrows them as `&mut`.
#![expect(unsafe_code, reason = "addresses of mapped memory for system calls")]

use std::io;
use std::os::fd::BorrowedFd;

use crate::mapping_cache::pinning::PinnedRange;
use crate::sys::sendmsg::{self, PARTS_MAX, RawPart};
pub(crate) use crate::sys::sendmsg::{allow_zerocopy, next_completion, wait_for_completions};

/// Zeros that are sent for padding.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Consecutive bytes to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BufferRange<'p> {
    /// A pinned range, starting at this byte.
    Part(&'p PinnedRange<'p>, usize),
    /// This number of zeros.
    Zeros(usize),
    /// Bytes that were copied.
    Copy(&'p [u8]),
}

/// Sends buffers. Returns how many bytes one system call sent.
pub(crate) fn send<'p>(
    to: BorrowedFd<'_>,
    stretches: impl Iterator<Item = BufferRange<'p>>,
) -> io::Result<usize> {
    let raw_parts = raw_parts_of(stretches);
    // SAFETY: the addresses are inside pinned ranges (U1) or slices, which are borrowed for the
    // call, or in a static. They are only read.
    unsafe { sendmsg::send(to, &raw_parts) }
}

/// Does the same as [`send`] without a copy in the kernel (`MSG_ZEROCOPY` of `send(2)`).
///
/// # Safety
///
/// The ranges must stay pinned and locked, and copies allocated, until the completion of the send
/// was received.
pub(crate) unsafe fn send_zerocopy<'p>(
    to: BorrowedFd<'_>,
    stretches: impl Iterator<Item = BufferRange<'p>>,
) -> io::Result<usize> {
    let raw_parts = raw_parts_of(stretches);
    // SAFETY: the addresses are inside pinned ranges, which the caller keeps (U1), or in a static.
    // They are only read.
    unsafe { sendmsg::send_zerocopy(to, &raw_parts) }
}

fn raw_parts_of<'p>(stretches: impl Iterator<Item = BufferRange<'p>>) -> Vec<RawPart> {
    let raw = |stretch: BufferRange<'_>| match stretch {
        BufferRange::Part(part, from) => RawPart {
            start: part.as_ptr().wrapping_add(from).cast_mut(),
            len: part.len() - from,
        },
        // The next call sends the rest.
        BufferRange::Zeros(len) => RawPart {
            start: ZEROS.as_ptr().cast_mut(),
            len: len.min(ZEROS.len()),
        },
        BufferRange::Copy(bytes) => RawPart {
            start: bytes.as_ptr().cast_mut(),
            len: bytes.len(),
        },
    };
    let mut raw_parts = Vec::with_capacity(1);
    for stretch in stretches.take(PARTS_MAX) {
        let is_partial = matches!(stretch, BufferRange::Zeros(len) if len > ZEROS.len());
        raw_parts.push(raw(stretch));
        if is_partial {
            break;
        }
    }
    raw_parts
}

/// Receives into ranges that are pinned for writing. Returns how many bytes one system call
/// received.
///
/// # Panics
///
/// Panics if a range is pinned for reading.
pub(crate) fn receive<'p>(
    from: BorrowedFd<'_>,
    parts: impl Iterator<Item = (&'p PinnedRange<'p>, usize)>,
) -> io::Result<usize> {
    let raw = parts.take(PARTS_MAX).map(|(part, from)| RawPart {
        start: part
            .as_mut_ptr()
            .expect("the range is pinned for writing")
            .wrapping_add(from),
        len: part.len() - from,
    });
    let raw: Vec<_> = raw.collect();
    // SAFETY: the addresses are inside writable ranges (checked), which are borrowed for the call
    // (U1). They are locked exclusively, and the caller borrows their owner exclusively.
    unsafe { sendmsg::receive(from, &raw) }
}
