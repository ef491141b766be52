#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

// Tests of stores are compiled into this crate's own, too.
#[cfg(all(test, not(loom)))]
extern crate self as flatspan;

pub mod mapping_cache;
mod numbers;
pub mod shm;
pub mod snapshot;
pub mod span;
mod sys;
