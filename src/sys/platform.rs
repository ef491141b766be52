//! Platforms that this crate supports, checked before other code fails to compile.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "flatspan runs on Linux only: it is built on openat2, fallocate, madvise and process_vm_readv"
);
