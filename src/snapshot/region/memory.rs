//! The region: its memory, length and backing.
//!
//! # Safety
//!
//! The only unsafe call registers a SIGBUS watch with a flag. The flag is in an `Arc` that the
//! region holds. By the order of the fields, the watch is dropped before the flag and before the
//! addresses.
#![expect(unsafe_code, reason = "the SIGBUS watch keeps a pointer to a flag")]

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::options::{FilePart, RegionKind};
use crate::sys::address_space::AddressReservation;
use crate::sys::sigbus::Watch;

/// Contiguous memory whose content is persisted. Its length is a multiple of the page size, 4096
/// bytes, and it never moves.
///
/// All methods take `&self` and may be called from any thread. Plain loads and stores are only
/// possible through [`as_ptr`](Self::as_ptr). Code that creates references from the pointer must
/// not call methods that change the same bytes while a reference exists. These methods are
/// [`write_at`](Self::write_at), [`discard`](Self::discard), [`shrink`](Self::shrink) and
/// `drop_private_pages`.
///
/// With `mapping_cache::install_sigbus_handler`, a page of a file that lost its storage becomes
/// zero when it is accessed, and the region is [poisoned](Self::is_poisoned).
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::{Region, RegionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let region = Region::new_anonymous(4096, RegionOptions::default().reserve_bytes(1 << 30))?;
/// let start = region.as_ptr();
/// region.write_at(10, b"hello")?;
/// region.grow(1 << 20)?;
/// let mut bytes = [0; 5];
/// region.read_at(10, &mut bytes)?;
/// assert_eq!((&bytes, region.as_ptr()), (b"hello", start));
/// # Ok(())
/// # }
/// ```
pub struct Region {
    // The fields are dropped in this order.
    watch: Option<Watch>,
    poisoned: Arc<AtomicBool>,
    pub(super) memory: AddressReservation,
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
    /// A page of a file, as the file and the offset, for testing trackers.
    Restored(Option<(File, u64)>),
}

/// State that changes with the length. Its lock is held while memory is mapped or freed.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Files of a region of files.
    pub(super) files: Vec<FilePart>,
    /// Ranges of a region over private mappings that show files, in ascending order.
    pub(super) file_ranges: Vec<Range<usize>>,
}

impl Region {
    pub(super) fn new(
        memory: AddressReservation,
        len: usize,
        backing: Backing,
        shape: Shape,
        huge_pages: bool,
    ) -> Self {
        let poisoned = Arc::new(AtomicBool::new(false));
        let on_files = matches!(backing, Backing::Files | Backing::Restored(_));
        // SAFETY: the flag is in an `Arc` that is dropped after the watch, as is the memory
        // (module documentation).
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

    /// Returns the length in bytes, a multiple of 4096.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Returns whether the length is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the maximum length in bytes, for which addresses are reserved.
    #[must_use]
    pub fn reserved_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Returns the address of the region, which is valid until the region is dropped.
    ///
    /// Only the first [`len`](Self::len) bytes may be accessed. Other threads and processes may
    /// write them, and a page of a file may have no storage (SIGBUS).
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.memory.start()
    }

    /// Returns the kind of the region.
    #[must_use]
    pub fn kind(&self) -> RegionKind {
        match self.backing {
            Backing::Anonymous => RegionKind::Anonymous,
            Backing::Memfd(_) => RegionKind::Memfd,
            Backing::Files => RegionKind::Files,
            Backing::Restored(_) => RegionKind::PrivateFiles,
        }
    }

    /// Returns the memfd, to be passed to other processes, or `None` for other kinds. The memfd may
    /// be longer than the region.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::Memfd(file) => Some(file.as_fd()),
            _ => None,
        }
    }

    /// Returns whether a page without storage was replaced by zeros when a thread accessed it.
    ///
    /// The state is permanent: data was lost, so the content must not be persisted any more.
    /// Callers check this after each capture.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }

    pub(in crate::snapshot) fn memory(&self) -> &AddressReservation {
        &self.memory
    }

    /// Lock for the one tracker that reads the page tables of the region [I13]; `None` if another
    /// tracker has it.
    pub(in crate::snapshot) fn lock_tracking(&self) -> Option<TrackingLock> {
        let was_locked = self.tracking.swap(true, Ordering::AcqRel);
        (!was_locked).then(|| TrackingLock(Arc::clone(&self.tracking)))
    }

    pub(super) fn shape(&self) -> MutexGuard<'_, Shape> {
        // The state is changed only after the system call that makes it true, so a panic leaves it
        // consistent.
        self.shape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requires the lock of the shape.
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
            .field("reserve_bytes", &self.reserved_bytes())
            .field("is_watched", &self.watch.is_some())
            .finish_non_exhaustive()
    }
}

/// Lock held by the tracker that reads the page tables of a region.
#[derive(Debug)]
pub(in crate::snapshot) struct TrackingLock(Arc<AtomicBool>);

impl TrackingLock {
    /// Whether the lock belongs to this region.
    pub(in crate::snapshot) fn is_of(&self, region: &Region) -> bool {
        Arc::ptr_eq(&self.0, &region.tracking)
    }
}

impl Drop for TrackingLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
