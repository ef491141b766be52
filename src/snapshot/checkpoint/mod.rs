//! Checkpoints: the checkpointer above the memory and the files of an open store.

mod background_checkpoints;
mod base_checkpoint;
mod checkpoint_policy;
mod checkpointer;
mod delta_checkpoint;
mod heap_writer;
mod report;
mod second_heap;
mod store_inner;

pub(crate) use background_checkpoints::BackgroundCheckpoints;
pub(crate) use checkpointer::{Checkpointer, StoreParts};
pub use report::{CheckpointKind, CheckpointReport};
pub(crate) use second_heap::CopyProgress;
pub(crate) use store_inner::StoreInner;
