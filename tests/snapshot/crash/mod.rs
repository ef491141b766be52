//! A disk that records what is done to it, and every crash of it.
//!
//! [`Recorder`] is a `Disk` in memory that keeps a log of operations on files (the parts of arrays). From the log
//! [`crash_everywhere`] makes *images*: what may be found after a crash at any place in it. Each image is a
//! `Recorder` of its own, on which a check of the caller recovers and looks; what recovery did is a log again,
//! and is crashed in turn ([`crash_again`]). The engine knows nothing of what the files contain.
//!
//! # What a crash may leave
//!
//! - What was done to a file (written, cut, grown, discarded) is durable after a later `Sync` of that file.
//! - That a file is there, or is gone, is durable after a later `SyncDir`; the name of a whole new store after the
//!   `SyncParent` that is part of publishing it. Before it has its name, nothing of it is there.
//! - What is not durable may be there or not, in any combination: nothing orders two operations but a sync between
//!   them. A file whose making is lost is not there whatever was synced of it; one whose removal is lost is back.
//! - A write may be torn at multiples of 512 bytes of the file: some of its sectors are there, others not.
//! - A write that makes a file longer is two things: the length may be there without the bytes (zeros), and the bytes
//!   without the length (then they are not seen).
//! - A sync that fails leaves what was written before it in doubt for ever: no later sync makes it durable. It is read
//!   until [`Disk::forget_cached`](flatspan::snapshot::Disk::forget_cached), then it is lost. Where it was written over
//!   and that was synced, it is gone.
//!
//! It is harder than disks are: sectors that lie in one page of memory go to disk together, most filesystems keep
//! operations on a directory in order.
//!
//! # Which images are made
//!
//! After each operation that is pending, of the pending ones: every subset while there are few
//! (`Limits::subsets_max`), otherwise all, none, each alone, in pairs with the newest, all but each, and random ones.
//! The last writes are torn, and their lengths lost, once with everything else and once with nothing else. A subset
//! without the newest operation was made before it, and a sync only takes images away; so neither repeats
//! them, unless the store has acknowledged something since ([`Recorder::mark`]), which a check must then find.
//!
//! Images that are equal, with equal marks, are checked once.

mod altered;
mod books;
mod content;
mod engine;
mod faults;
mod images;
mod model;
mod mutation;
mod op;
mod recorder;
mod tearing;

pub(crate) use self::{
    engine::{Counts, Limits, crash_again, crash_everywhere},
    faults::Fault,
    mutation::Mutation,
    op::{FileId, Op},
    recorder::Recorder,
};
