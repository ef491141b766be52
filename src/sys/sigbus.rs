//! Process-wide handler of SIGBUS: replaces a bad page of a watched range by zeros and sets a flag.
//!
//! The handler is optional; ranges are watched with or without it. It forwards a fault outside of
//! the watched ranges to the previous handler. It reads its table without a lock: each entry has a
//! sequence number that is odd during a change. An entry that covers a faulting address is not
//! changing, since memory in use is not unmapped.
//!
//! The handler runs on the alternate stack of its thread, which std provides to all threads it
//! starts, or else on the normal stack. It needs little stack, and a bad page of a file is no stack
//! overflow.
//!
//! See [`sigaction(2)`](https://man7.org/linux/man-pages/man2/sigaction.2.html) and
//! [`signal-safety(7)`](https://man7.org/linux/man-pages/man7/signal-safety.7.html).
//!
//! # Safety
//!
//! The handler calls `madvise`, `mmap` and the previous handler, accesses atomics, and preserves
//! `errno`. It allocates nothing and takes no lock. The flag that it sets is alive, as its owner
//! has promised to [`watch`].
#![expect(unsafe_code, reason = "signal handlers, and mmap over a bad page")]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use libc::{c_int, c_void, siginfo_t};

use super::rlimits::page_bytes;

const CHUNK_ENTRIES: usize = 1024;
/// Enough for the default maximum number of mappings.
const CHUNKS: usize = 64;

#[derive(Debug, Default)]
struct Entry {
    /// Odd while the entry changes.
    sequence: AtomicU32,
    start: AtomicUsize,
    /// Zero in a free entry.
    end: AtomicUsize,
    flag: AtomicPtr<AtomicBool>,
}

type Chunk = [Entry; CHUNK_ENTRIES];

static TABLE: [AtomicPtr<Chunk>; CHUNKS] = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];
/// Indexes of the table. The handler does not use them.
static INDEXES: Mutex<Indexes> = Mutex::new(Indexes {
    free: Vec::new(),
    used: 0,
});
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
static PATCHING: AtomicBool = AtomicBool::new(false);
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

struct Indexes {
    /// Freed indexes.
    free: Vec<usize>,
    /// Number of indexes that were ever used.
    used: usize,
}

/// A range that is watched until this is dropped. `None` if the table was full.
#[derive(Debug)]
pub(crate) struct Watch(Option<usize>);

/// Watches a range of mapped memory: if one of its pages is bad, the handler sets `flag` and
/// replaces the page by zeros.
///
/// # Safety
///
/// Until the watch is dropped, `flag` stays valid, the range is one mapping of a file, and no other
/// code replaces it.
pub(crate) unsafe fn watch(start: *const u8, len: usize, flag: *const AtomicBool) -> Watch {
    let Some(index) = allocate_index() else {
        return Watch(None);
    };
    let entry = entry(index).expect("the chunk of an allocated index exists");
    entry.change(start.addr(), start.addr() + len, flag.cast_mut());
    Watch(Some(index))
}

/// A free index, whose chunk exists. `None` if the table is full.
fn allocate_index() -> Option<usize> {
    let mut indexes = INDEXES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(index) = indexes.free.pop() {
        return Some(index);
    }
    if indexes.used >= CHUNKS * CHUNK_ENTRIES {
        return None;
    }
    let index = indexes.used;
    indexes.used += 1;
    let chunk = &TABLE[index / CHUNK_ENTRIES];
    if chunk.load(Ordering::Acquire).is_null() {
        let new: Box<Chunk> = Box::new(std::array::from_fn(|_| Entry::default()));
        // Never freed, since the handler may read it at any time.
        chunk.store(Box::into_raw(new), Ordering::Release);
    }
    Some(index)
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(index) = self.0 else { return };
        if let Some(entry) = entry(index) {
            entry.change(0, 0, ptr::null_mut());
        }
        let mut indexes = INDEXES.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.free.push(index);
    }
}

impl Entry {
    /// Changes the entry. Only the owner of its index may call this.
    fn change(&self, start: usize, end: usize, flag: *mut AtomicBool) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        // Pairs with the fence of `Entry::flag_of`: a load that sees a store below also sees the
        // odd number.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.flag.store(flag, Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Returns the flag if the entry covers the address.
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

fn entry(index: usize) -> Option<&'static Entry> {
    let chunk = TABLE[index / CHUNK_ENTRIES].load(Ordering::Acquire);
    // SAFETY: null, or a chunk that was leaked before it was stored.
    let chunk = unsafe { chunk.as_ref()? };
    chunk.get(index % CHUNK_ENTRIES)
}

/// Installs the handler unless it is the current one.
///
/// If other code has replaced it by a handler that does not forward to it, it is installed again.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _guard = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    PAGE_BYTES.store(page_bytes(), Ordering::Relaxed);
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_sigbus;
    let handler = handler as *const () as usize;
    let mut before = empty_action();
    // SAFETY: `before` is borrowed for the call, and a query changes nothing.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if before.sa_sigaction == handler {
        return Ok(());
    }
    // A later handler may forward to this one, so only the first one found is called.
    if PREVIOUS.load(Ordering::Relaxed).is_null() {
        // Stored before the handler can run. Never freed, since a handler may read it.
        PREVIOUS.store(Box::into_raw(Box::new(before)), Ordering::Release);
    }
    let mut action = empty_action();
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // With all signals blocked nothing interrupts this thread, so the spin lock of `patch` is
    // released. SAFETY: the mask is borrowed for the call.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: the handler has the signature that SA_SIGINFO requires, and is async-signal-safe
    // (module documentation).
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn empty_action() -> libc::sigaction {
    // SAFETY: zeros are a valid `sigaction`: default action, empty mask, no flags.
    unsafe { std::mem::zeroed() }
}

fn errno_location() -> *mut c_int {
    // SAFETY: the call has no preconditions. The location is valid in the calling thread.
    unsafe { libc::__errno_location() }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = errno_location();
    // SAFETY: the location is valid in this thread.
    let saved = unsafe { *errno };
    // SAFETY: the kernel passes a valid `siginfo_t` (SA_SIGINFO), which outlives the handler.
    let fault = unsafe { &*info };
    // SAFETY: the kernel fills the address for a fault. For other codes it is not used.
    let address = unsafe { fault.si_addr() }.addr();
    let code = fault.si_code;
    // Only these codes mean an access by this thread. A signal that was sent has no address, and an
    // announced memory failure may name a page that no thread uses.
    let is_access = matches!(code, libc::BUS_ADRERR | libc::BUS_MCEERR_AR);
    if !(is_access && patch(address)) {
        forward(signal, code > 0, info, context);
    }
    // SAFETY: the location is valid in this thread.
    unsafe { *errno = saved };
}

fn patch(address: usize) -> bool {
    let Some(flag) = flag_of(address) else {
        return false;
    };
    // SAFETY: the entry covers an address in use, so it is not changing, and its owner keeps the
    // flag valid.
    unsafe { (*flag).store(true, Ordering::SeqCst) };
    let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
    let page = ptr::without_provenance_mut::<c_void>(address & !(page_bytes - 1));
    // A spin lock: a page that is replaced twice would lose the stores in between.
    while PATCHING.swap(true, Ordering::Acquire) {
        std::hint::spin_loop();
    }
    let done = is_good(page, page_bytes) || replace(page, page_bytes);
    PATCHING.store(false, Ordering::Release);
    done
}

/// Whether another thread has replaced the page, or the page has become good.
fn is_good(page: *mut c_void, page_bytes: usize) -> bool {
    let populate = |advice| {
        // SAFETY: populating changes no content. The page is inside a watched range.
        if unsafe { libc::madvise(page, page_bytes, advice) } == 0 {
            return None;
        }
        // SAFETY: the location is valid in this thread.
        Some(unsafe { *errno_location() })
    };
    if populate(libc::MADV_POPULATE_READ).is_some() {
        return false;
    }
    // The page must be writable, too. A read-only mapping returns EINVAL.
    matches!(
        populate(libc::MADV_POPULATE_WRITE),
        None | Some(libc::EINVAL)
    )
}

fn replace(page: *mut c_void, page_bytes: usize) -> bool {
    // SAFETY: the page is inside a range whose owner permits this (`watch`).
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
        .find_map(|index| entry(index)?.flag_of(address))
}

/// Handles the signal as the process would without this handler.
fn forward(signal: c_int, is_fault: bool, info: *mut siginfo_t, context: *mut c_void) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: leaked before the handler was installed.
    let Some(previous) = (unsafe { previous.as_ref() }) else {
        return;
    };
    let handler = previous.sa_sigaction;
    if handler == libc::SIG_IGN && !is_fault {
        // The kernel would ignore a signal that was sent.
        return;
    }
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // A fault occurs again when the handler returns. It ends the process, as the kernel does
        // even if the signal is ignored. A signal that was sent is raised again. SAFETY: `signal`
        // is async-signal-safe, and SIG_DFL is a valid action.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: `raise` is async-signal-safe.
        unsafe { libc::raise(signal) };
    } else if previous.sa_flags & libc::SA_SIGINFO != 0 {
        type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
        // SAFETY: with this flag the previous handler has this signature.
        let handler: Handler = unsafe { std::mem::transmute(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without the flag the previous handler has this signature.
        let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
        handler(signal);
    }
}
