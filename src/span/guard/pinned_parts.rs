//! Memory of a span: locked and pinned parts in order, with the lifetime of their group erased.
//!
//! # Safety
//!
//! [`PinnedParts`] hold [`PinnedRange`]s that borrow from the files of a group, under a `'static`
//! lifetime. They are created only together with a [`GroupHandle`], which keeps the group in place,
//! and are dropped before it (docs/unsafe.md, U5).
#![expect(unsafe_code, reason = "erases the lifetime of parts")]

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::mapping_cache::{
    Access, MappingError, PinnedRange, RangeLockError, Ticket, Timeout, lock_range_timeout,
};
use crate::span::error::GroupError;
use crate::span::group::{EntryBody, Extent, Group};

/// Handle that keeps the group of a span alive: `&Group` for a borrowed span, `Arc<Group>` for an
/// owned one.
///
/// The crate implements it for these two types. Other crates are not meant to implement it.
///
/// # Safety
///
/// While the handle exists, the group does not move and no `&mut Group` to it exists. The handle
/// always dereferences to the same group.
pub unsafe trait GroupHandle: Deref<Target = Group> {}

// SAFETY: a shared borrow.
unsafe impl GroupHandle for &Group {}

// SAFETY: the group is heap-allocated, and `Arc::get_mut` requires that no other handle exists.
// `Group` is not `Clone`, so `Arc::make_mut` is not available.
unsafe impl GroupHandle for Arc<Group> {}

/// Part of a span that is in one window, or padding.
#[derive(Debug)]
pub(super) enum PartOrPadding<'a> {
    File(PinnedRange<'a>),
    /// Length of padding in bytes.
    Padding(usize),
}

/// Parts of a span. A single part that was already mapped has its own field, so that it can stay in
/// registers.
#[derive(Debug)]
pub(super) struct PinnedParts<G> {
    /// Makes the drop checker require that the handle outlives the parts.
    handle: PhantomData<G>,
    first: ManuallyDrop<Option<PinnedRange<'static>>>,
    rest: ManuallyDrop<Option<Box<[PartOrPadding<'static>]>>>,
}

impl<G> Drop for PinnedParts<G> {
    #[inline(always)]
    fn drop(&mut self) {
        // Dropped in place. Moving a part would read it by wide loads, which wait for the narrow
        // stores that created it (docs/benchmarks.md). SAFETY: this is the only drop, and nothing
        // accesses the field afterwards.
        unsafe { ManuallyDrop::drop(&mut self.first) };
        // SAFETY: as above.
        if let Some(rest) = unsafe { ManuallyDrop::take(&mut self.rest) } {
            drop_rest(rest);
        }
    }
}

/// Takes the box by value, so that the fast path takes no address of it.
#[inline(never)]
fn drop_rest(rest: Box<[PartOrPadding<'static>]>) {
    drop(rest);
}

impl<G> PinnedParts<G> {
    /// The part of a resolved range for reading. `None` unless the range is in one mapped window
    /// and no writer has locked it.
    ///
    /// # Safety
    ///
    /// The group neither moves nor changes until the parts are dropped.
    #[inline(always)]
    pub(super) unsafe fn if_mapped(group: &Group, range: Range<u64>) -> Option<Self> {
        let (entry, offset) = group.layout.locate(range.start, range.end)?;
        let EntryBody::File { file, start, .. } = &group.entries[entry].body else {
            return None;
        };
        let len = usize::try_from(range.end - range.start).ok()?;
        let part = file.pinned_range_if_mapped(start + offset, len)?;
        // SAFETY: the caller keeps the group, from which the part borrows.
        let part = unsafe { std::mem::transmute::<PinnedRange<'_>, PinnedRange<'static>>(part) };
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
    /// The requirements of [`if_mapped`](Self::if_mapped).
    #[inline(always)]
    pub(super) unsafe fn new(
        group: &Group,
        range: Range<u64>,
        access: Access,
        timeout: Timeout,
    ) -> Result<Self, GroupError> {
        // SAFETY: the caller meets the same requirements.
        let parts = unsafe { Self::slow_parts(group, range, access, timeout)? };
        Ok(Self {
            handle: PhantomData,
            first: ManuallyDrop::new(None),
            rest: ManuallyDrop::new(Some(parts)),
        })
    }

    /// The parts as two words, which keeps the fast path short where it joins this one.
    ///
    /// # Safety
    ///
    /// The requirements of [`if_mapped`](Self::if_mapped).
    #[inline(never)]
    unsafe fn slow_parts(
        group: &Group,
        range: Range<u64>,
        access: Access,
        timeout: Timeout,
    ) -> Result<Box<[PartOrPadding<'static>]>, GroupError> {
        if usize::try_from(range.end - range.start).is_err() {
            return Err(GroupError::InvalidArgument {
                argument: "range",
                reason: "the range exceeds the address space".to_owned(),
            });
        }
        if access == Access::ReadWrite {
            refuse_padding(group, range.clone())?;
            refuse_read_only(group, range.clone())?;
        }
        let timeout = match timeout {
            // Waiting would be for the other half of the same span.
            Timeout::Until(_)
                if access == Access::ReadWrite && group.overlaps_itself(range.clone())? =>
            {
                Timeout::None
            }
            timeout => timeout,
        };
        let attempt = |ticket| lock_and_pin(group, range.clone(), access, ticket);
        let parts = lock_range_timeout(timeout, attempt)?;
        // SAFETY: the caller keeps the group, from which the parts borrow.
        let parts = unsafe {
            std::mem::transmute::<Vec<PartOrPadding<'_>>, Vec<PartOrPadding<'static>>>(parts)
        };
        Ok(parts.into_boxed_slice())
    }

    /// The only part of the span; `None` if it has no part, several parts or padding.
    #[inline(always)]
    pub(super) fn only(&self) -> Option<&PinnedRange<'static>> {
        match &*self.first {
            Some(part) => Some(part),
            None => self.only_of_rest(),
        }
    }

    #[inline(never)]
    fn only_of_rest(&self) -> Option<&PinnedRange<'static>> {
        match self.rest.as_deref() {
            Some([PartOrPadding::File(part)]) => Some(part),
            _ => None,
        }
    }

    /// The parts in order and their lengths in bytes; `None` for padding.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<&PinnedRange<'static>>, usize)> {
        let first = self.first.iter().map(|part| (Some(part), part.len()));
        let rest = self.rest.iter().flat_map(|rest| rest.iter());
        first.chain(rest.map(|part| match part {
            PartOrPadding::File(part) => (Some(part), part.len()),
            PartOrPadding::Padding(len) => (None, *len),
        }))
    }

    /// The part with this number. `None` for padding.
    #[cfg(feature = "bytes")]
    pub(super) fn part(&self, number: usize) -> Option<&PinnedRange<'static>> {
        if let Some(first) = &*self.first {
            return (number == 0).then_some(first);
        }
        match self.rest.as_deref()?.get(number)? {
            PartOrPadding::File(part) => Some(part),
            PartOrPadding::Padding(_) => None,
        }
    }

    /// Whether a page of any part was lost.
    #[inline(always)]
    pub(super) fn are_poisoned(&self) -> bool {
        let first = self.first.as_ref();
        first.is_some_and(PinnedRange::is_poisoned)
            || (self.rest.is_some() && self.rest_is_poisoned())
    }

    #[inline(never)]
    fn rest_is_poisoned(&self) -> bool {
        self.iter()
            .any(|(part, _)| part.is_some_and(PinnedRange::is_poisoned))
    }
}

/// Locks the whole range before mapping any of it, so that a refused range maps nothing.
///
/// The locks are those of a copy until all of the range is locked and pinned. A copy waits for an
/// attempt, which may still fail, and fails only because of a span that exists.
fn lock_and_pin(
    group: &Group,
    range: Range<u64>,
    access: Access,
    ticket: Ticket,
) -> Result<Vec<PartOrPadding<'_>>, RangeLockError<'_>> {
    let mut locked = Vec::new();
    let extents = group.layout.extents(range);
    for extent in extents.expect("the caller has resolved the range") {
        let Some((file, mut rest)) = group.entries[extent.entry].file_range(extent) else {
            // Lossless: the length of the whole range is a `usize`.
            locked.push(Err(extent.len as usize));
            continue;
        };
        while rest.start < rest.end {
            let (lock, end) = file.lock_window_range(rest.clone(), access, ticket)?;
            locked.push(Ok((file, lock)));
            rest.start = end;
        }
    }
    let parts = locked.into_iter().map(|part| match part {
        Ok((file, lock)) => Ok(PartOrPadding::File(file.pin_locked_range(lock, access)?)),
        Err(len) => Ok(PartOrPadding::Padding(len)),
    });
    let parts = parts.collect::<Result<Vec<_>, RangeLockError<'_>>>()?;
    for part in &parts {
        if let PartOrPadding::File(part) = part {
            part.make_guard();
        }
    }
    Ok(parts)
}

fn refuse_read_only(group: &Group, range: Range<u64>) -> Result<(), GroupError> {
    let file = |extent: Extent| group.entries[extent.entry].file();
    match group.layout.extents(range)?.find_map(file) {
        Some(file) if group.options.access == Access::ReadOnly => {
            let path = file.location().full_path();
            Err(MappingError::ReadOnly { path }.into())
        }
        _ => Ok(()),
    }
}

fn refuse_padding(group: &Group, range: Range<u64>) -> Result<(), GroupError> {
    let mut extents = group.layout.extents(range)?;
    match extents.find(|extent| group.entries[extent.entry].file().is_none()) {
        Some(padding) => Err(GroupError::WriteToPadding {
            entry: padding.entry,
        }),
        None => Ok(()),
    }
}
