//! The region itself: what it has, and what it tells.
//!
//! # Safety
//!
//! One call here is unsafe, that of the SIGBUS watch: the flag is in an `Arc` that the region holds, and the watch is
//! dropped before it and before the addresses (order of fields).
#![expect(unsafe_code, reason = "a watched flag must stay where it is")]

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::options::{FilePart, RegionKind};
use crate::sys::address_space::Reservation;
use crate::sys::sigbus::Watch;

/// Contiguous memory whose state is to be persisted; its length is always whole pages of 4096 bytes.
///
/// Everything takes `&self` and may be called from any thread. [`as_ptr`](Self::as_ptr) is the only way to plain loads
/// and stores; whoever makes references from it promises that nothing here that changes the same bytes is called while
/// they live: [`copy_in`](Self::copy_in), [`discard`](Self::discard), [`shrink`](Self::shrink), `give_back`.
///
/// Where `mapping_cache::install_sigbus_dispatcher` was called, a page of a file that lost its
/// storage becomes zeros when it is touched, and the region is [poisoned](Self::is_poisoned).
pub struct Region {
    // Dropped in this order.
    watch: Option<Watch>,
    poisoned: Arc<AtomicBool>,
    pub(super) memory: Reservation,
    len: AtomicUsize,
    pub(super) backing: Backing,
    shape: Mutex<Shape>,
    pub(super) huge_pages: bool,
    tracking: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(super) enum Backing {
    Anonymous,
    Memfd(File),
    Files,
    /// A file beneath and an offset of a page in it, for tests of trackers.
    Restored(Option<(File, u64)>),
}

/// What changes with the length. Its lock is held while memory is mapped or given back.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// The files of a region of files.
    pub(super) files: Vec<FilePart>,
    /// Where a restored region lies over files, in order.
    pub(super) beneath: Vec<Range<usize>>,
}

impl Region {
    pub(super) fn new(
        memory: Reservation,
        len: usize,
        backing: Backing,
        shape: Shape,
        huge_pages: bool,
    ) -> Self {
        let poisoned = Arc::new(AtomicBool::new(false));
        let on_files = matches!(backing, Backing::Files | Backing::Restored(_));
        // SAFETY: the flag lies in an `Arc` that is dropped after the watch, as is the memory (module documentation).
        let watch = on_files.then(|| unsafe { memory.watch(Arc::as_ptr(&poisoned)) });
        Self {
            watch,
            poisoned,
            memory,
            len: AtomicUsize::new(len),
            backing,
            shape: Mutex::new(shape),
            huge_pages,
            tracking: Arc::default(),
        }
    }

    /// Present length in bytes, whole pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Has it no bytes at present?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long it may become.
    #[must_use]
    pub fn reserve_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Where it begins, for as long as it lives. Using the pointer is `unsafe`: only the first [`len`](Self::len) bytes
    /// may be used, other threads and processes may write them, and a page of a file may have no storage (SIGBUS).
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.memory.start()
    }

    /// What lies behind it.
    #[must_use]
    pub fn kind(&self) -> RegionKind {
        match self.backing {
            Backing::Anonymous => RegionKind::Anonymous,
            Backing::Memfd(_) => RegionKind::Memfd,
            Backing::Files => RegionKind::Files,
            Backing::Restored(_) => RegionKind::Restored,
        }
    }

    /// The memfd, to be handed to other processes; `None` for the other kinds. It may be longer than the region.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::Memfd(file) => Some(file.as_fd()),
            _ => None,
        }
    }

    /// Was a page without storage replaced by zeros, because a thread touched it? For good: what was stored there is
    /// lost, so no state of the region may be persisted any more (hazard 12). To be asked after each capture.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }

    pub(in crate::snapshot) fn memory(&self) -> &Reservation {
        &self.memory
    }

    /// The one tracker that reads the page tables of the region (hazard 13); `None` when there is one already.
    pub(in crate::snapshot) fn claim_tracking(&self) -> Option<TrackingClaim> {
        let taken = self.tracking.swap(true, Ordering::AcqRel);
        (!taken).then(|| TrackingClaim(Arc::clone(&self.tracking)))
    }

    pub(super) fn shape(&self) -> MutexGuard<'_, Shape> {
        // What is under it is changed only after the system call that makes it true.
        self.shape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the shape locked.
    pub(super) fn set_len(&self, len: usize) {
        self.len.store(len, Ordering::Release);
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("kind", &self.kind())
            .field("start", &self.as_ptr())
            .field("len", &self.len())
            .field("reserve_bytes", &self.reserve_bytes())
            .field("is_watched", &self.watch.is_some())
            .finish_non_exhaustive()
    }
}

/// Held by the tracker that reads the page tables of a region.
#[derive(Debug)]
pub(in crate::snapshot) struct TrackingClaim(Arc<AtomicBool>);

impl TrackingClaim {
    /// Is it of this region?
    pub(in crate::snapshot) fn is_of(&self, region: &Region) -> bool {
        Arc::ptr_eq(&self.0, &region.tracking)
    }
}

impl Drop for TrackingClaim {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
