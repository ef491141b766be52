#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod mapping_cache;
pub mod span;
mod sys;
