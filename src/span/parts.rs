//! The memory of a span: claimed and pinned parts, in order, with the lifetime of their group erased.
//!
//! # Safety
//!
//! [`Parts`] hold [`Part`]s that borrow from the files of a group, under a lifetime that says nothing.
//! They are made only together with a [`GroupHandle`], which keeps the group where it is, and are dropped
//! before it (docs/unsafe.md, U5).
#![expect(unsafe_code, reason = "erases the lifetime of parts")]

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::entry::Body;
use super::error::SpanError;
use super::group::Group;
use super::layout::Extent;
use crate::mapping_cache::{Access, MappingError, Part, Patience, Refused, claim_patiently};

/// What a span keeps its group by: `&Group` for one that is borrowed, `Arc<Group>` for one that is owned and
/// may go anywhere.
///
/// # Safety
///
/// As long as it lives, the group stays where it is and is not changed: nobody gets a `&mut Group`. It always
/// leads to the same group.
pub unsafe trait GroupHandle: Deref<Target = Group> {}

// SAFETY: a shared borrow.
unsafe impl GroupHandle for &Group {}

// SAFETY: the group lies on the heap, and `Arc` gives a `&mut` only to the last handle, which this is one
// of; `Group` is not `Clone`, so `make_mut` is not there.
unsafe impl GroupHandle for Arc<Group> {}

/// A piece of a span.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    File(Part<'a>),
    /// Padding, in bytes.
    Zeros(usize),
}

/// The pieces of a span. One that was found mapped is kept apart so that it may stay in registers.
#[derive(Debug)]
pub(super) struct Parts<G> {
    /// As if they held the handle: so the compiler wants it alive when they are dropped.
    handle: PhantomData<G>,
    first: ManuallyDrop<Option<Part<'static>>>,
    rest: ManuallyDrop<Option<Box<[Piece<'static>]>>>,
}

impl<G> Drop for Parts<G> {
    #[inline(always)]
    fn drop(&mut self) {
        // In place: a part that is moved is read by wide loads, which wait for the narrow stores that
        // made it (docs/benchmarks.md).
        // SAFETY: dropped once, here; nothing looks at it afterwards.
        unsafe { ManuallyDrop::drop(&mut self.first) };
        // SAFETY: as above.
        if let Some(rest) = unsafe { ManuallyDrop::take(&mut self.rest) } {
            drop_rest(rest);
        }
    }
}

/// By value, so that what is on the fast path has no address.
#[inline(never)]
fn drop_rest(rest: Box<[Piece<'static>]>) {
    drop(rest);
}

impl<G> Parts<G> {
    /// The parts of a range, resolved before, for reading that lies in one mapped window, with nothing in the way.
    ///
    /// # Safety
    ///
    /// The group stays where it is, unchanged, until they are dropped.
    #[inline(always)]
    pub(super) unsafe fn if_mapped(group: &Group, range: Range<u64>) -> Option<Self> {
        let (entry, offset) = group.layout.locate(range.start, range.end)?;
        let Body::File { file, start, .. } = &group.entries[entry].body else {
            return None;
        };
        let len = usize::try_from(range.end - range.start).ok()?;
        let part = file.pinned_range_if_mapped(start + offset, len)?;
        // SAFETY: the caller keeps what it borrows from.
        let part = unsafe { std::mem::transmute::<Part<'_>, Part<'static>>(part) };
        Some(Self {
            handle: PhantomData,
            first: ManuallyDrop::new(Some(part)),
            rest: ManuallyDrop::new(None),
        })
    }

    /// The parts of any range.
    ///
    /// # Safety
    ///
    /// As for [`if_mapped`](Self::if_mapped).
    #[inline(always)]
    pub(super) unsafe fn new(
        group: &Group,
        range: Range<u64>,
        access: Access,
        patience: Patience,
    ) -> Result<Self, SpanError> {
        // SAFETY: as the caller promises.
        let pieces = unsafe { Self::pieces(group, range, access, patience)? };
        Ok(Self {
            handle: PhantomData,
            first: ManuallyDrop::new(None),
            rest: ManuallyDrop::new(Some(pieces)),
        })
    }

    /// Two words when they come out of the call, so that the fast path, which meets them, stays short.
    ///
    /// # Safety
    ///
    /// As for [`if_mapped`](Self::if_mapped).
    #[inline(never)]
    unsafe fn pieces(
        group: &Group,
        range: Range<u64>,
        access: Access,
        patience: Patience,
    ) -> Result<Box<[Piece<'static>]>, SpanError> {
        if usize::try_from(range.end - range.start).is_err() {
            return Err(SpanError::Argument {
                argument: "range",
                reason: "longer than memory".to_owned(),
            });
        }
        if access == Access::ReadWrite {
            refuse_padding(group, range.clone())?;
            refuse_read_only(group, range.clone())?;
        }
        let patience = match patience {
            // Its own other half would be waited for.
            Patience::Until(_)
                if access == Access::ReadWrite && group.meets_itself(range.clone())? =>
            {
                Patience::None
            }
            patience => patience,
        };
        let pieces = claim_patiently(patience, || pieces_of(group, range.clone(), access))?;
        // SAFETY: the caller keeps what they borrow from.
        let pieces = unsafe { std::mem::transmute::<Vec<Piece<'_>>, Vec<Piece<'static>>>(pieces) };
        Ok(pieces.into_boxed_slice())
    }

    /// The only part, if there is only one.
    #[inline(always)]
    pub(super) fn only(&self) -> Option<&Part<'static>> {
        match &*self.first {
            Some(part) => Some(part),
            None => self.only_of_rest(),
        }
    }

    #[inline(never)]
    fn only_of_rest(&self) -> Option<&Part<'static>> {
        match self.rest.as_deref() {
            Some([Piece::File(part)]) => Some(part),
            _ => None,
        }
    }

    /// The parts in order, with how many bytes each has; `None` for padding.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<&Part<'static>>, usize)> {
        let first = self.first.iter().map(|part| (Some(part), part.len()));
        let rest = self.rest.iter().flat_map(|rest| rest.iter());
        first.chain(rest.map(|piece| match piece {
            Piece::File(part) => (Some(part), part.len()),
            Piece::Zeros(len) => (None, *len),
        }))
    }

    /// Was a page of any of them lost?
    #[inline(always)]
    pub(super) fn are_poisoned(&self) -> bool {
        let first = self.first.as_ref();
        first.is_some_and(Part::is_poisoned) || (self.rest.is_some() && self.rest_is_poisoned())
    }

    #[inline(never)]
    fn rest_is_poisoned(&self) -> bool {
        self.iter()
            .any(|(part, _)| part.is_some_and(Part::is_poisoned))
    }
}

/// Claims all of it, then maps: what is refused was held for a moment only.
fn pieces_of(
    group: &Group,
    range: Range<u64>,
    access: Access,
) -> Result<Vec<Piece<'_>>, Refused<'_>> {
    let mut claimed = Vec::new();
    let extents = group.layout.extents(range);
    for extent in extents.expect("resolved by the caller") {
        let Some((file, mut place)) = group.entries[extent.entry].place(extent) else {
            // Lossless: the whole range fits a usize.
            claimed.push(Err(extent.len as usize));
            continue;
        };
        while place.start < place.end {
            let (claim, end) = file.lock_window_range(place.clone(), access)?;
            claimed.push(Ok((file, claim)));
            place.start = end;
        }
    }
    let pieces = claimed.into_iter().map(|piece| match piece {
        Ok((file, claim)) => Ok(Piece::File(file.pin_locked_range(claim, access)?)),
        Err(zeros) => Ok(Piece::Zeros(zeros)),
    });
    pieces.collect()
}

fn refuse_read_only(group: &Group, range: Range<u64>) -> Result<(), SpanError> {
    let file = |extent: Extent| group.entries[extent.entry].file();
    match group.layout.extents(range)?.find_map(file) {
        Some(file) if group.options.access == Access::ReadOnly => {
            let path = file.location().full_path();
            Err(MappingError::ReadOnly { path }.into())
        }
        _ => Ok(()),
    }
}

fn refuse_padding(group: &Group, range: Range<u64>) -> Result<(), SpanError> {
    let mut extents = group.layout.extents(range)?;
    match extents.find(|extent| group.entries[extent.entry].file().is_none()) {
        Some(padding) => Err(SpanError::Padding {
            entry: padding.entry,
        }),
        None => Ok(()),
    }
}
