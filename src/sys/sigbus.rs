//! Process-wide handler of SIGBUS: replaces a bad page of a watched range by zeros and sets a flag.
//!
//! The handler is optional; ranges are watched with or without it. It forwards a fault outside of
//! the watched ranges to the previous handler. It reads its table without a lock: each entry has a
//! sequence number that is odd during a change. An entry that covers a faulting address is not
//! changing, since memory in use is not unmapped. The table grows by chunks, each twice as long as
//! the one before it, so there are entries for all mappings that fit into the address space.
//!
//! One thread at a time replaces a page. The spin lock for that is in memory that the kernel zeroes
//! in a child of fork(2) (`MADV_WIPEONFORK`). A child whose parent was replacing a page in another
//! thread would wait without end otherwise.
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

const FIRST_CHUNK_BITS: u32 = 10;
/// The smallest page of a supported system has 2^12 bytes, and each mapping has a page.
const CHUNKS: usize = (usize::BITS - 12 - FIRST_CHUNK_BITS + 1) as usize;

#[derive(Debug, Default)]
struct Entry {
    /// Odd while the entry changes.
    sequence: AtomicU32,
    start: AtomicUsize,
    /// Zero in a free entry.
    end: AtomicUsize,
    flag: AtomicPtr<AtomicBool>,
}

/// Chunk `k` has `chunk_entries(k)` entries.
static TABLE: [AtomicPtr<Entry>; CHUNKS] = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];
/// Indexes of the table. The handler does not use them.
static INDEXES: Mutex<Indexes> = Mutex::new(Indexes {
    free: Vec::new(),
    used: 0,
});
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
/// The spin lock of `patch`, in a page of its own. Null until the handler is installed.
static PATCHING: AtomicPtr<AtomicBool> = AtomicPtr::new(ptr::null_mut());
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

struct Indexes {
    /// Freed indexes.
    free: Vec<usize>,
    /// Number of indexes that were ever used.
    used: usize,
}

/// A range that is watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch(usize);

fn chunk_entries(chunk: usize) -> usize {
    1 << (chunk + FIRST_CHUNK_BITS as usize)
}

/// Returns the chunk of an index, and the index in the chunk.
fn position(index: usize) -> (usize, usize) {
    let number = index + chunk_entries(0);
    let chunk = (number.ilog2() - FIRST_CHUNK_BITS) as usize;
    (chunk, number - chunk_entries(chunk))
}

/// Watches a range of mapped memory: if one of its pages is bad, the handler sets `flag` and
/// replaces the page by zeros.
///
/// # Safety
///
/// Until the watch is dropped, `flag` stays valid, the range is one mapping of a file, and no other
/// code replaces it.
pub(crate) unsafe fn watch(start: *const u8, len: usize, flag: *const AtomicBool) -> Watch {
    let index = allocate_index();
    let entry = entry(index).expect("the chunk of an allocated index exists");
    entry.change(start.addr(), start.addr() + len, flag.cast_mut());
    Watch(index)
}

/// Returns a free index, whose chunk exists.
fn allocate_index() -> usize {
    let mut indexes = INDEXES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(index) = indexes.free.pop() {
        return index;
    }
    let index = indexes.used;
    indexes.used += 1;
    let (chunk, at) = position(index);
    if at == 0 {
        let new = std::iter::repeat_with(Entry::default).take(chunk_entries(chunk));
        let new: Box<[Entry]> = new.collect();
        // Never freed, since the handler may read it at any time.
        TABLE[chunk].store(Box::leak(new).as_mut_ptr(), Ordering::Release);
    }
    index
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(entry) = entry(self.0) {
            entry.change(0, 0, ptr::null_mut());
        }
        let mut indexes = INDEXES.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.free.push(self.0);
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
    let (number, at) = position(index);
    chunk(number)?.get(at)
}

/// Returns the entries of a chunk, or `None` if no index of it was allocated yet.
fn chunk(number: usize) -> Option<&'static [Entry]> {
    let start = TABLE.get(number)?.load(Ordering::Acquire);
    // SAFETY: if it is not null, it is a chunk of this length that was leaked before it was stored.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start, chunk_entries(number)) })
}

/// Installs the handler unless it is the current one.
///
/// If other code has replaced it by a handler that does not forward to it, it is installed again.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _guard = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    PAGE_BYTES.store(page_bytes(), Ordering::Relaxed);
    allocate_lock()?;
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

/// Allocates the spin lock of `patch` on the first call. It is never freed.
fn allocate_lock() -> io::Result<()> {
    if !PATCHING.load(Ordering::Relaxed).is_null() {
        return Ok(());
    }
    // SAFETY: a new mapping, which replaces none.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            page_bytes(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page of the mapping above, which no other code knows.
    if unsafe { libc::madvise(page, page_bytes(), libc::MADV_WIPEONFORK) } != 0 {
        let error = io::Error::last_os_error();
        // SAFETY: as above.
        unsafe { libc::munmap(page, page_bytes()) };
        return Err(error);
    }
    // Stored before the handler can run. Zeros are `false`.
    PATCHING.store(page.cast(), Ordering::Release);
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
    // SAFETY: null, or the lock that `allocate_lock` has mapped and that is never unmapped.
    let Some(patching) = (unsafe { PATCHING.load(Ordering::Acquire).as_ref() }) else {
        return false;
    };
    // SAFETY: the entry covers an address in use, so it is not changing, and its owner keeps the
    // flag valid.
    unsafe { (*flag).store(true, Ordering::SeqCst) };
    let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
    let page = ptr::without_provenance_mut::<c_void>(address & !(page_bytes - 1));
    // A spin lock: a page that is replaced twice would lose the stores in between.
    while patching.swap(true, Ordering::Acquire) {
        std::hint::spin_loop();
    }
    let done = is_good(page, page_bytes) || replace(page, page_bytes);
    patching.store(false, Ordering::Release);
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
        .map_while(chunk)
        .flatten()
        .find_map(|entry| entry.flag_of(address))
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_watched_range_is_found_beyond_65_536() {
        const RANGES: usize = 70_000;
        let pages = memmap2::MmapMut::map_anon(RANGES * page_bytes()).expect("address space");
        let page = |index| pages.as_ptr().wrapping_add(index * page_bytes());
        let flag = AtomicBool::new(false);
        let watches: Vec<_> = (0..RANGES)
            // SAFETY: the flag outlives the watches. No code accesses the pages, so the handler
            // does not use the ranges.
            .map(|index| unsafe { watch(page(index), page_bytes(), &raw const flag) })
            .collect();
        for index in [0, 1023, 1024, 65_535, 65_536, RANGES - 1] {
            let found = flag_of(page(index).addr());
            assert_eq!(found, Some(&raw const flag), "range {index}");
        }
        drop(watches);
        assert_eq!(flag_of(page(RANGES - 1).addr()), None);
    }

    /// A child of fork(2) has only the thread that called it. If another thread of the parent was
    /// replacing a page, no thread of the child unlocks the lock.
    #[test]
    fn a_child_forked_while_a_page_is_replaced_replaces_its_own() {
        install().expect("a handler");
        let file = tempfile::tempfile().expect("a file");
        file.set_len(page_bytes() as u64).expect("a length");
        let map = memmap2::MmapOptions::new().len(page_bytes()).map_raw(&file);
        let map = map.expect("a mapping");
        file.set_len(0).expect("a length");
        let flag = AtomicBool::new(false);
        // SAFETY: the flag and the mapping outlive the watch.
        let watched = unsafe { watch(map.as_ptr(), map.len(), &raw const flag) };
        // SAFETY: allocated by `install`.
        let patching = unsafe { PATCHING.load(Ordering::Relaxed).as_ref() }.expect("a lock");
        while patching.swap(true, Ordering::Acquire) {}
        // SAFETY: the child calls async-signal-safe functions only.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: inside the mapping. The handler replaces the missing page.
            let byte = unsafe { map.as_ptr().read_volatile() };
            let is_patched = byte == 0 && flag.load(Ordering::SeqCst);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if is_patched { 0 } else { 1 }) };
        }
        patching.store(false, Ordering::Release);
        assert!(child > 0, "fork failed");
        assert_eq!(status_within_30_seconds(child), Some(0));
        drop(watched);
    }

    /// Returns the wait status of a child, or `None` if it had to be killed.
    fn status_within_30_seconds(child: libc::pid_t) -> Option<c_int> {
        let mut status = 0;
        for _ in 0..3000 {
            // SAFETY: the status is borrowed for the call.
            if unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child {
                return Some(status);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // SAFETY: a child of this process that was not waited for.
        unsafe { libc::kill(child, libc::SIGKILL) };
        // SAFETY: the status is borrowed for the call.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        None
    }
}
