//! Memory that a cache allocates for each window that was touched, with a budget far below the
//! file.
//!
//! Counts the bytes of all allocations, so the result is the same in each run.

#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use flatspan::mapping_cache::{Access, CacheOptions, FileOptions, Location, MappingCache};

const WINDOWS: u64 = 131_072;
const WINDOW_BYTES: u64 = 64 << 10;
const BUDGET_BYTES: u64 = 64 << 20;
const BUDGET_WINDOWS: u64 = BUDGET_BYTES / WINDOW_BYTES;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: all calls are passed to the allocator of the system.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of the trait.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of the trait.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let directory = tempfile::TempDir::with_prefix("flatspan-bench-").expect("a directory");
    let file = std::fs::File::create(directory.path().join("a")).expect("a file");
    file.set_len(WINDOWS * WINDOW_BYTES).expect("a sparse file");
    let options = CacheOptions::default()
        .window_bytes(WINDOW_BYTES as usize)
        .budget_bytes(BUDGET_BYTES);
    let cache = MappingCache::new(options).expect("options are valid");
    let location = Location::beneath(directory.path().into(), "a".into()).expect("a plain name");
    let file = cache.file(location, WINDOWS * WINDOW_BYTES, FileOptions::default());
    let pin = |window| file.pin(window, Access::ReadOnly).expect("a pin");
    for window in 0..BUDGET_WINDOWS {
        black_box(pin(window).as_ptr());
    }
    let full = ALLOCATED.load(Ordering::Relaxed);
    for window in BUDGET_WINDOWS..WINDOWS {
        black_box(pin(window).as_ptr());
    }
    let grown = ALLOCATED.load(Ordering::Relaxed).saturating_sub(full);
    let touched = WINDOWS - BUDGET_WINDOWS;
    println!(
        "RATIO memory of windows: {:.1} bytes for each window that was touched ({grown} bytes for {touched} windows; {full} before, with {BUDGET_WINDOWS} mapped)",
        grown as f64 / touched as f64,
    );
    assert_eq!(cache.stats().mappings as u64, BUDGET_WINDOWS);
}
