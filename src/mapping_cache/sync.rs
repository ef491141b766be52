//! Atomics and locks of the lock-free protocols: those of `std`, or those of loom in its tests.

#[cfg(all(loom, test))]
pub(in crate::mapping_cache) use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
#[cfg(not(all(loom, test)))]
pub(in crate::mapping_cache) use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
