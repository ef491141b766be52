//! One dispatcher of `SIGBUS` for the process: a bad page of a watched range becomes a page of zeros and a
//! flag. See [`sigaction(2)`](https://man7.org/linux/man-pages/man2/sigaction.2.html).
//!
//! It is installed by whoever asks for it, once; ranges are watched whether or not it is. A fault
//! outside of them goes to the handler that was there before. The table is read by the handler without a
//! lock: each entry has a sequence number that is odd while it changes, and an entry that covers a
//! faulting address is not changing, since nobody unmaps what is in use.
//!
//! It runs on the alternate stack of its thread, which std gives to all threads it starts, or on the
//! thread's own: it needs little, and a bad page of a file is not a full stack.
//!
//! # Safety
//!
//! The handler calls `mmap` and the handler before it, loads and stores atomics, and keeps `errno`; it
//! allocates nothing and takes no lock. The flag it sets is alive: its owner promised so to [`watch`].
#![expect(unsafe_code, reason = "signal handlers, and mmap over a bad page")]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use libc::{c_int, c_void, siginfo_t};

use super::rlimits::page_bytes;

const CHUNK_ENTRIES: usize = 1024;
/// As many mappings as the kernel grants by default.
const CHUNKS: usize = 64;

#[derive(Debug, Default)]
struct Entry {
    /// Odd while the entry changes.
    sequence: AtomicU32,
    start: AtomicUsize,
    /// Zero in an entry that is free.
    end: AtomicUsize,
    flag: AtomicPtr<AtomicBool>,
}

type Chunk = [Entry; CHUNK_ENTRIES];

static TABLE: [AtomicPtr<Chunk>; CHUNKS] = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];
/// Places of the table: those given back, and how many were ever used. Not touched by the handler.
static PLACES: Mutex<Places> = Mutex::new(Places {
    free: Vec::new(),
    used: 0,
});
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
static PATCHING: AtomicBool = AtomicBool::new(false);
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

struct Places {
    free: Vec<usize>,
    used: usize,
}

/// A range that is watched until this is dropped. Nothing when the table is full.
#[derive(Debug)]
pub(crate) struct Watch(Option<usize>);

/// Watches a range of mapped memory: when one of its pages is bad, `flag` is set, then the page is
/// replaced by zeros.
///
/// # Safety
///
/// `flag` stays where it is until the watch is dropped, and the range is one mapping of a file until
/// then, which nobody else replaces.
pub(crate) unsafe fn watch(start: *const u8, len: usize, flag: *const AtomicBool) -> Watch {
    let place = {
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        match places.free.pop() {
            Some(place) => place,
            None if places.used < CHUNKS * CHUNK_ENTRIES => {
                let place = places.used;
                places.used += 1;
                let chunk = &TABLE[place / CHUNK_ENTRIES];
                if chunk.load(Ordering::Acquire).is_null() {
                    let made: Box<Chunk> = Box::new(std::array::from_fn(|_| Entry::default()));
                    // Never freed: the handler may be reading it.
                    chunk.store(Box::into_raw(made), Ordering::Release);
                }
                place
            }
            None => return Watch(None),
        }
    };
    let entry = entry(place).expect("its chunk was made");
    entry.change(start.addr(), start.addr() + len, flag.cast_mut());
    Watch(Some(place))
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(place) = self.0 else { return };
        if let Some(entry) = entry(place) {
            entry.change(0, 0, ptr::null_mut());
        }
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        places.free.push(place);
    }
}

impl Entry {
    /// By the owner of the place only.
    fn change(&self, start: usize, end: usize, flag: *mut AtomicBool) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        // Pairs with the fence of `flag_of`: who sees one of the stores below sees the odd number.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.flag.store(flag, Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// The flag, if the entry covers the address.
    fn flag_of(&self, address: usize) -> Option<*const AtomicBool> {
        let before = self.sequence.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        let end = self.end.load(Ordering::Relaxed);
        let flag = self.flag.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let after = self.sequence.load(Ordering::Relaxed);
        let covers = before == after && before.is_multiple_of(2) && (start..end).contains(&address);
        covers.then_some(flag.cast_const())
    }
}

fn entry(place: usize) -> Option<&'static Entry> {
    let chunk = TABLE[place / CHUNK_ENTRIES].load(Ordering::Acquire);
    // SAFETY: null, or a chunk that was leaked when it was put there.
    let chunk = unsafe { chunk.as_ref()? };
    chunk.get(place % CHUNK_ENTRIES)
}

/// Installs the dispatcher, unless it is installed. Where somebody else has put a handler over it that does
/// not call it, it is installed anew, over that one.
pub(crate) fn install() -> io::Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    PAGE_BYTES.store(page_bytes(), Ordering::Relaxed);
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_sigbus;
    let handler = handler as *const () as usize;
    // SAFETY: a `sigaction` of zeros is one: default action, empty mask, no flags.
    let (mut action, mut before): (libc::sigaction, libc::sigaction) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: both pointers are to structs of our own; nothing is changed by asking.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if before.sa_sigaction == handler {
        return Ok(());
    }
    // A handler over ours may call ours: the one before is asked only the first time.
    if PREVIOUS.load(Ordering::Relaxed).is_null() {
        // Before ours can run. Never freed: a handler may be reading it.
        PREVIOUS.store(Box::into_raw(Box::new(before)), Ordering::Release);
    }
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // Nothing else runs on this thread meanwhile, so that the wait in `patch` ends.
    // SAFETY: the mask is part of a struct of our own.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: the handler has the signature that SA_SIGINFO asks for and keeps to what a handler may
    // do (module documentation).
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: errno of this thread is always there; `info` comes from the kernel (SA_SIGINFO), which
    // fills the address for a fault.
    let (errno, address, code) = unsafe {
        let errno = libc::__errno_location();
        (errno, (*info).si_addr().addr(), (*info).si_code)
    };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    // This thread's own access: one that was sent has no address, and a failure of memory that is only
    // announced may name a page that nobody uses.
    let is_ours = matches!(code, libc::BUS_ADRERR | libc::BUS_MCEERR_AR);
    if !(is_ours && patch(address)) {
        pass_on(signal, code > 0, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}

fn patch(address: usize) -> bool {
    let Some(flag) = flag_of(address) else {
        return false;
    };
    // SAFETY: the entry covers an address that is being used, so it is not being changed, and its owner
    // keeps the flag as long as it is there.
    unsafe { (*flag).store(true, Ordering::SeqCst) };
    let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
    let page = ptr::without_provenance_mut::<c_void>(address & !(page_bytes - 1));
    // One thread at a time, so that no page is replaced twice, with what was stored in between.
    while PATCHING.swap(true, Ordering::Acquire) {
        std::hint::spin_loop();
    }
    let done = is_good(page, page_bytes) || replace(page, page_bytes);
    PATCHING.store(false, Ordering::Release);
    done
}

/// Has another thread replaced the page meanwhile, or did it become good?
fn is_good(page: *mut c_void, page_bytes: usize) -> bool {
    // SAFETY: populating changes no content; the page lies in a range that is watched.
    let populate = |advice| match unsafe { libc::madvise(page, page_bytes, advice) } {
        0 => None,
        // SAFETY: errno of this thread is always there.
        _ => Some(unsafe { *libc::__errno_location() }),
    };
    match populate(libc::MADV_POPULATE_READ) {
        // May it be stored to? A mapping for reading only says EINVAL.
        None => matches!(
            populate(libc::MADV_POPULATE_WRITE),
            None | Some(libc::EINVAL)
        ),
        Some(_) => false,
    }
}

fn replace(page: *mut c_void, page_bytes: usize) -> bool {
    // SAFETY: the page lies in a range whose owner allowed this (`watch`).
    let mapped = unsafe {
        libc::mmap(
            page,
            page_bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    mapped == page
}

fn flag_of(address: usize) -> Option<*const AtomicBool> {
    (0..CHUNKS)
        .map_while(|chunk| entry(chunk * CHUNK_ENTRIES).map(|_| chunk))
        .flat_map(|chunk| (0..CHUNK_ENTRIES).map(move |at| chunk * CHUNK_ENTRIES + at))
        .find_map(|place| entry(place)?.flag_of(address))
}

/// Does what would have been done without us.
fn pass_on(signal: c_int, is_fault: bool, info: *mut siginfo_t, context: *mut c_void) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: leaked before our handler was installed.
    let Some(previous) = (unsafe { previous.as_ref() }) else {
        return;
    };
    let handler = previous.sa_sigaction;
    if handler == libc::SIG_IGN && !is_fault {
        // As the kernel would have done.
    } else if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // The access is tried again and ends the process, as the kernel does where it is ignored; what
        // was sent is sent again.
        // SAFETY: async-signal-safe; a plain default action.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    } else if previous.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: with this flag it is a handler of this signature, installed by somebody for this
        // signal; it gets what we got.
        unsafe {
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                std::mem::transmute(handler);
            handler(signal, info, context);
        }
    } else {
        // SAFETY: without the flag it is a handler of this signature.
        unsafe {
            let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
            handler(signal);
        }
    }
}
