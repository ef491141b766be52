//! Backend that records its operations, and every possible crash of it.
//!
//! [`Recorder`] is a backend in memory that keeps a log of operations on files (the parts of
//! logical files). From this log [`crash_everywhere`] makes *images*: possible states after a crash
//! at any position. Each image is a `Recorder` of its own, on which a check of the caller recovers
//! and compares. The recovery is recorded and crashed in turn ([`crash_again`]). The engine does
//! not interpret the content of files.
//!
//! # Possible states after a crash
//!
//! - A change of a file (write, truncation, growth, discard) is durable after a later `Sync` of
//!   that file.
//! - The creation or removal of a file is durable after a later `SyncDir`. The name of a new store
//!   is durable after the `SyncParent` that publishes it. Before publication nothing of the store
//!   exists.
//! - Changes that are not durable may survive or not, in any combination: only a sync orders two
//!   operations. A file whose creation is lost does not exist, even if it was synced. A file whose
//!   removal is lost exists again.
//! - A write may be torn at multiples of 512 bytes of the file: some of its sectors survive, others
//!   do not.
//! - A write that extends a file consists of two changes. The length may survive without the bytes
//!   (zeros), or the bytes without the length (they are not visible then).
//! - A failed sync leaves earlier writes permanently in doubt: no later sync makes them durable.
//!   They are readable until
//!   [`StorageBackend::drop_page_cache`](flatspan::snapshot::StorageBackend::drop_page_cache), and
//!   lost afterwards. Synced overwrites replace them.
//!
//! This model is stricter than real disks: sectors of one memory page are written together, and
//! most filesystems keep directory operations in order.
//!
//! # Images that are made
//!
//! After each operation, images are made of the pending operations. Up to `Limits::subsets_max`
//! operations, every subset is used. For more operations, the subsets are: all, none, each alone,
//! each with the newest, all but each, and random ones. The last writes are torn, and their lengths
//! lost, once with all other operations and once with none.
//!
//! A subset without the newest operation was made before, and a sync only removes images. So
//! neither repeats them, unless the store has acknowledged something since ([`Recorder::mark`]),
//! which a check must then find.
//!
//! Equal images with equal marks are checked once.

mod altered;
mod content;
mod engine;
mod faults;
mod images;
mod model;
mod mutation;
mod op;
mod recorder;
mod recorder_state;
mod tearing;

pub(crate) use self::{
    engine::{Counts, Limits, crash_again, crash_everywhere},
    faults::Fault,
    mutation::Mutation,
    op::{FileId, Op},
    recorder::Recorder,
};
