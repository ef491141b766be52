#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "flatspan runs on Linux only: it is built on openat2, fallocate, madvise and process_vm_readv"
);

pub mod mapping_cache;
pub mod span;
mod sys;
