//! A part of a file that is claimed and pinned: what spans are made of. And the claims of copies.

use std::io;
use std::ops::Range;
use std::time::Instant;

use super::claims::{Claims, Conflict, Sharing, Stay, Token, Waiting};
use super::entry::FileEntry;
use super::error::MappingError;
use super::file::CachedFile;
use super::options::{Access, Preallocation, Reservation};
use super::pin::Pin;
use super::shared::SharedFile;
use super::stripe::Stripe;
use super::window::Step;
use crate::sys::statx;

/// A range within one window of a file, claimed and pinned.
///
/// The claim is given back after the pin: whoever claims the range next finds all stores done.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    // Dropped before the claim.
    pin: Pin<'a>,
    /// Offset in the window.
    within: usize,
    len: usize,
    _claim: Claim<'a>,
}

/// A part that is claimed and not pinned yet.
#[derive(Debug)]
pub(crate) struct ClaimedPart<'a> {
    claim: Claim<'a>,
    step: Step,
}

/// A claim on a range of a file, given back on drop.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    claims: &'a Claims,
    token: Token<'a>,
}

impl<'a> Claim<'a> {
    /// Claims a range for a copy where there is no path to name: waits for other copies, and is
    /// `ResourceBusy` beside a span. Nothing for an empty range.
    pub(super) fn for_copy(
        claims: &'a Claims,
        offset: u64,
        len: usize,
        sharing: Sharing,
    ) -> io::Result<Option<Self>> {
        if len == 0 {
            return Ok(None);
        }
        let range = offset..offset + len as u64;
        let attempt = || claims.claim(range.clone(), sharing, Stay::Copy, Stripe::mine());
        let mut waiting = None;
        loop {
            match attempt() {
                Ok(token) => return Ok(Some(Self { claims, token })),
                Err(Conflict {
                    is_brief: false, ..
                }) => {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
                Err(_) => match &mut waiting {
                    None => {
                        let wanted = (sharing == Sharing::Exclusive).then(|| range.clone());
                        waiting = Some(claims.wait(wanted));
                    }
                    Some(waiting) => {
                        waiting.sleep(None);
                    }
                },
            }
        }
    }
}

impl Drop for Claim<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.claims.give_back(self.token);
    }
}

/// Why a claim, or a part, was not given.
#[derive(Debug)]
pub(crate) enum Refused<'a> {
    /// Others have the range; they may be waited for.
    Busy(Busy<'a>),
    Failed(MappingError),
}

impl From<MappingError> for Refused<'_> {
    fn from(error: MappingError) -> Self {
        Self::Failed(error)
    }
}

/// A range that others have.
#[derive(Debug)]
pub(crate) struct Busy<'a> {
    file: &'a CachedFile,
    shared: &'a SharedFile,
    range: Range<u64>,
    sharing: Sharing,
    stay: Stay,
    conflict: Conflict,
}

impl Busy<'_> {
    /// A copy that has to have the range to itself: those that come later wait behind it.
    fn is_for_copying_in(&self) -> bool {
        (self.sharing, self.stay) == (Sharing::Exclusive, Stay::Copy)
    }

    pub(crate) fn into_error(self) -> MappingError {
        let offset = self.range.start.max(self.conflict.from);
        MappingError::Busy {
            path: self.file.path(),
            offset,
            len: self.range.end - offset,
        }
    }
}

/// For whom to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// For copies, however long they take; a guard is an error at once.
    Copies,
    /// For nobody.
    None,
    /// For everybody, until then.
    Until(Instant),
}

/// Tries until all claims are granted, as far as `patience` goes. `attempt` holds nothing when it is
/// refused, so nobody waits while holding (hazard 38).
pub(crate) fn claim_patiently<'a, T>(
    patience: Patience,
    mut attempt: impl FnMut() -> Result<T, Refused<'a>>,
) -> Result<T, MappingError> {
    let mut waiting: Option<Waiting<'a>> = None;
    loop {
        let busy = match attempt() {
            Ok(done) => return Ok(done),
            Err(Refused::Failed(error)) => return Err(error),
            Err(Refused::Busy(busy)) => busy,
        };
        let deadline = match patience {
            Patience::Copies if busy.conflict.is_brief => None,
            Patience::Copies | Patience::None => return Err(busy.into_error()),
            Patience::Until(deadline) => Some(deadline),
        };
        match &mut waiting {
            Some(waiting) if waiting.is_for(&busy.shared.claims) => {
                if !waiting.sleep(deadline) {
                    return Err(busy.into_error());
                }
            }
            // Counted in before the next attempt, so that nothing given back meanwhile is missed.
            _ if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Err(busy.into_error());
            }
            other => {
                let wanted = busy.is_for_copying_in().then(|| busy.range.clone());
                *other = Some(busy.shared.claims.wait(wanted));
            }
        }
    }
}

impl<'a> Part<'a> {
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.pin.as_ptr().wrapping_add(self.within)
    }

    /// `None` for a part for reading.
    #[inline(always)]
    pub(crate) fn as_mut_ptr(&self) -> Option<*mut u8> {
        Some(self.pin.as_mut_ptr()?.wrapping_add(self.within))
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Brings the pages in for reading; an error where the file has none.
    pub(crate) fn populate(&self) -> io::Result<()> {
        self.pin.populate(self.within, self.len)
    }

    /// Are all pages in memory?
    pub(crate) fn is_resident(&self) -> bool {
        self.pin.is_resident(self.within, self.len).unwrap_or(true)
    }

    /// Was a page of the window lost? Then what was read may be zeros, and what was stored may be gone.
    #[inline(always)]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.pin.is_poisoned()
    }
}

impl CachedFile {
    /// Claims and pins a range for reading if it lies in one window that is mapped, and nothing is in
    /// the way. What is in the way, [`part`](Self::part) tells.
    #[inline(always)]
    pub(crate) fn part_if_mapped(&self, offset: u64, len: usize) -> Option<Part<'_>> {
        let (window, within) = self.core.windows.only(offset, len)?;
        let opened = self.opened()?;
        let end = offset + len as u64;
        if end > opened.entry.known_bytes() {
            return None;
        }
        let stripe = Stripe::mine();
        let claims = &opened.shared.claims;
        let token = claims.share_at_once(offset..end, Stay::Guard, stripe)?;
        let Some(pin) = self.pin_opened(opened, stripe, window, within + len) else {
            claims.take_off(token);
            return None;
        };
        // Made last: what may be dropped before lies in memory (docs/benchmarks.md).
        let _claim = Claim { claims, token };
        Some(Part {
            pin,
            within,
            len,
            _claim,
        })
    }

    /// Claims and pins the first part of a range, as far as its window goes; says where the next begins.
    pub(crate) fn part(
        &self,
        range: Range<u64>,
        access: Access,
    ) -> Result<(Part<'_>, u64), Refused<'_>> {
        let (claimed, end) = self.claim_part(range, access)?;
        Ok((self.pin_part(claimed, access)?, end))
    }

    /// Claims the first part of a range, as far as its window goes; says where the next begins.
    pub(crate) fn claim_part(
        &self,
        range: Range<u64>,
        access: Access,
    ) -> Result<(ClaimedPart<'_>, u64), Refused<'_>> {
        let sharing = match access {
            Access::ReadOnly => Sharing::Shared,
            Access::ReadWrite => Sharing::Exclusive,
        };
        let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let step = self.core.windows.step(range.start, left);
        let end = range.start + step.len as u64;
        let claim = self.claim(range.start..end, sharing, Stay::Guard)?;
        Ok((ClaimedPart { claim, step }, end))
    }

    /// Pins a part that is claimed.
    pub(crate) fn pin_part<'a>(
        &'a self,
        claimed: ClaimedPart<'a>,
        access: Access,
    ) -> Result<Part<'a>, MappingError> {
        let ClaimedPart { claim, step } = claimed;
        let start = self.core.windows.start(step.window) + step.within as u64;
        let end = start + step.len as u64;
        let entry = self.entry()?;
        if access == Access::ReadOnly && end > entry.known_bytes() {
            // The rest of a last page reads as zeros: it is not there all the same. Under the length
            // lock, so that no length counts that a failed write will take back; from now on this one
            // does, and will not be cut.
            let (file, _) = self.descriptor(Access::ReadOnly)?;
            let _length = entry.lock_length();
            let present = statx::len(&file).map_err(|error| self.io("ask its length", error))?;
            if end > present {
                return Err(self.short(end, present));
            }
            entry.saw_len(present);
        }
        let pin = self.pin_covering(step.window, step.end(), access)?;
        if access == Access::ReadWrite && !self.is_storage_promised(entry) {
            // No storage is promised to the stores that will come (hazard 35): ask for it now.
            let populated = pin.populate_for_stores(step.within, step.len);
            populated.map_err(|error| self.page_error(start..end, access, error))?;
        }
        Ok(Part {
            pin,
            within: step.within,
            len: step.len,
            _claim: claim,
        })
    }

    /// Is there storage for every store into the declared length? A window may have been mapped by a
    /// handle that reserves nothing, so only what was reserved whole counts.
    fn is_storage_promised(&self, entry: &FileEntry) -> bool {
        self.options.preallocation == Preallocation::Full
            && self.is_reserved_whole(entry)
            && entry.reservation() == Reservation::Reserved
    }

    /// Claims a range that is not empty. The file is opened if it was not, and created if it is to be
    /// written and may be.
    pub(crate) fn claim(
        &self,
        range: Range<u64>,
        sharing: Sharing,
        stay: Stay,
    ) -> Result<Claim<'_>, Refused<'_>> {
        if self.opened().is_none() && sharing == Sharing::Exclusive {
            self.ensure_exists()?;
        }
        let shared = &self.entry()?.shared;
        let claims = &shared.claims;
        match claims.claim(range.clone(), sharing, stay, Stripe::mine()) {
            Ok(token) => Ok(Claim { claims, token }),
            Err(conflict) => Err(Refused::Busy(Busy {
                file: self,
                shared,
                range,
                sharing,
                stay,
                conflict,
            })),
        }
    }

    /// The same number for all handles that reach the same file, in this and other caches. The file is
    /// opened if it was not; created if it is to be written and may be.
    pub(crate) fn number(&self, sharing: Sharing) -> Result<usize, MappingError> {
        if self.opened().is_none() && sharing == Sharing::Exclusive {
            self.ensure_exists()?;
        }
        Ok(std::sync::Arc::as_ptr(&self.entry()?.shared).addr())
    }

    /// Claims a range for a copy, waiting for other copies. Nothing for an empty range.
    pub(super) fn claim_for_copy(
        &self,
        offset: u64,
        len: usize,
        sharing: Sharing,
    ) -> Result<Option<Claim<'_>>, MappingError> {
        if len == 0 {
            return Ok(None);
        }
        let range = offset..offset + len as u64;
        let claim = claim_patiently(Patience::Copies, || {
            self.claim(range.clone(), sharing, Stay::Copy)
        })?;
        Ok(Some(claim))
    }

    /// Does the file have bytes up to here, now?
    pub(crate) fn must_reach(&self, end: u64) -> Result<(), MappingError> {
        match self.present_bytes()? {
            present if present < end => Err(self.short(end, present)),
            _ => Ok(()),
        }
    }

    /// What went wrong when the pages of a range were asked for.
    pub(crate) fn page_error(
        &self,
        range: Range<u64>,
        access: Access,
        error: io::Error,
    ) -> MappingError {
        match error.raw_os_error() {
            Some(libc::EFAULT) => self.bad_page(range, access),
            _ => self.io("bring its pages in", error),
        }
    }

    /// The error for a page that could not be read, stored or populated in a range: what is wrong with
    /// the file, as positioned I/O would say.
    pub(crate) fn bad_page(&self, range: Range<u64>, access: Access) -> MappingError {
        match self.present_bytes() {
            Err(error) => error,
            Ok(present) if present < range.end => self.short(range.end, present),
            Ok(_) if access == Access::ReadWrite => {
                let len = range.end - range.start;
                self.storage_full(len, io::ErrorKind::StorageFull.into())
            }
            Ok(_) => MappingError::Poisoned {
                path: self.path(),
                offset: range.start,
            },
        }
    }
}
