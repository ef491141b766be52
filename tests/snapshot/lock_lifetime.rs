//! Lifetime of the store lock: it ends when every process that inherited it has ended.
#![expect(unsafe_code, reason = "fork(2)")]

use std::{io, os::fd::AsRawFd as _};

use flatspan::snapshot::{Store, StoreError, StoreOptions};

use crate::support::temp_dir;

#[test]
fn i16_a_forked_child_keeps_the_store_locked_until_it_exits() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    let open = || Store::open(&path, StoreOptions::default().initial_bytes(1 << 16));
    let store = open().expect("a store");
    let (reader, writer) = io::pipe().expect("a pipe");
    let (read_end, write_end) = (reader.as_raw_fd(), writer.as_raw_fd());
    // SAFETY: the child calls only close(2), read(2) and _exit(2), which are async-signal-safe.
    let child = unsafe { libc::fork() };
    if child == 0 {
        wait_for_close(read_end, write_end);
    }
    assert!(child > 0, "fork: {}", io::Error::last_os_error());

    drop(store);
    let refused = open().expect_err("the child holds the lock");
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");

    drop(writer);
    let mut status = 0;
    // SAFETY: `status` is valid for writes, and the child is a child of this process.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
    open().expect("the lock ended with the child");
}

/// Waits in the child until the parent closes its end of the pipe, then exits.
fn wait_for_close(read_end: libc::c_int, write_end: libc::c_int) -> ! {
    let mut byte = 0_u8;
    // SAFETY: the descriptor is the child's own copy, and is not used afterwards.
    unsafe { libc::close(write_end) };
    // SAFETY: `byte` is valid for a write of one byte.
    unsafe { libc::read(read_end, (&raw mut byte).cast(), 1) };
    // SAFETY: ends the child without running any code of the parent.
    unsafe { libc::_exit(0) }
}
