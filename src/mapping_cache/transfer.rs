//! Sending parts to a descriptor and receiving into them, without a copy of ours.
//!
//! # Safety
//!
//! Every address handed to the kernel lies in a [`Part`], which keeps its window mapped (docs/unsafe.md,
//! U1); the claim of the part keeps every reference of this process away: parts that are sent are claimed at
//! least shared, parts that are received into exclusively, and lent as `&mut` by their owner.
#![expect(unsafe_code, reason = "addresses of mapped memory for system calls")]

use std::io;
use std::os::fd::BorrowedFd;

use super::part::Part;
use crate::sys::sendmsg::{self, PARTS_MAX, RawPart};
pub(crate) use crate::sys::sendmsg::{allow_zerocopy, reap, wait_for_completions};

/// What padding is sent as.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A stretch of bytes to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stretch<'p> {
    /// A part, from this byte on.
    Part(&'p Part<'p>, usize),
    /// So many zeros.
    Zeros(usize),
}

/// Sends stretches, as many bytes as the descriptor takes at once.
pub(crate) fn send<'p>(
    to: BorrowedFd<'_>,
    stretches: impl Iterator<Item = Stretch<'p>>,
) -> io::Result<usize> {
    let raw_parts = raw_parts_of(stretches);
    // SAFETY: inside parts, which are borrowed for the call (U1), or in a static; only read.
    unsafe { sendmsg::send(to, &raw_parts) }
}

/// As [`send`], without a copy by the kernel.
///
/// # Safety
///
/// The parts are kept, claimed, until the completion is reaped.
pub(crate) unsafe fn send_zerocopy<'p>(
    to: BorrowedFd<'_>,
    stretches: impl Iterator<Item = Stretch<'p>>,
) -> io::Result<usize> {
    let raw_parts = raw_parts_of(stretches);
    // SAFETY: inside parts, which the caller keeps (U1), or in a static; only read.
    unsafe { sendmsg::send_zerocopy(to, &raw_parts) }
}

fn raw_parts_of<'p>(stretches: impl Iterator<Item = Stretch<'p>>) -> Vec<RawPart> {
    let raw = |stretch: Stretch<'_>| match stretch {
        Stretch::Part(part, from) => RawPart {
            start: part.as_ptr().wrapping_add(from).cast_mut(),
            len: part.len() - from,
        },
        // What does not fit is left for the next call.
        Stretch::Zeros(len) => RawPart {
            start: ZEROS.as_ptr().cast_mut(),
            len: len.min(ZEROS.len()),
        },
    };
    let mut raw_parts = Vec::with_capacity(1);
    for stretch in stretches.take(PARTS_MAX) {
        let cut = matches!(stretch, Stretch::Zeros(len) if len > ZEROS.len());
        raw_parts.push(raw(stretch));
        if cut {
            break;
        }
    }
    raw_parts
}

/// Receives into parts for writing, as many bytes as are there.
///
/// # Panics
///
/// When a part is for reading.
pub(crate) fn receive<'p>(
    from: BorrowedFd<'_>,
    parts: impl Iterator<Item = (&'p Part<'p>, usize)>,
) -> io::Result<usize> {
    let raw = parts.take(PARTS_MAX).map(|(part, from)| RawPart {
        start: part
            .as_mut_ptr()
            .expect("claimed for writing")
            .wrapping_add(from),
        len: part.len() - from,
    });
    let raw: Vec<_> = raw.collect();
    // SAFETY: inside writable parts (checked), which are borrowed for the call (U1); they are claimed
    // exclusively, and their owner is borrowed exclusively by who calls.
    unsafe { sendmsg::receive(from, &raw) }
}
