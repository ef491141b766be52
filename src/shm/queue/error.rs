//! What can go wrong with a queue.

use std::io;

use crate::snapshot::SnapshotError;

/// Why a queue cannot be used, or a state not be taken or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The header says what cannot be: another program's memory, damage, or malice.
    #[error("the header of the queue: {field} is {found}")]
    Header {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u64,
    },

    /// Another version of the protocol.
    #[error(
        "the queue has version {:?} of the protocol, this is version '1'",
        char::from(*found)
    )]
    Version {
        /// Last byte of the magic.
        found: u8,
    },

    /// The memfd has a queue of another geometry than was asked for.
    #[error("the queue has {field} {found}, and {asked} was asked for")]
    Geometry {
        /// Which field.
        field: &'static str,
        /// What the memfd has.
        found: u64,
        /// What was asked for.
        asked: u64,
    },

    /// The memfd is shorter than its header says.
    #[error("the memfd has {len} bytes, its queue needs {needed}")]
    TooShort {
        /// Length of the memfd.
        len: u64,
        /// What the header says.
        needed: u64,
    },

    /// There is something in the memfd, and it is no queue.
    #[error(
        "the memory is not that of a program that commits by the queue (no magic at its begin)"
    )]
    NotAQueue,

    /// Another process writes.
    #[error("another writer has the queue")]
    InUse,

    /// A fork of the writer.
    #[error("the writer belongs to process {opened_by}, this is process {here}")]
    OtherProcess {
        /// Who began.
        opened_by: u32,
        /// Who calls.
        here: u32,
    },

    /// Outside of the state.
    #[error("bytes {offset} to {offset} + {len} of a state of {state_bytes} bytes")]
    Range {
        /// Where.
        offset: u64,
        /// How many.
        len: u64,
        /// What there is.
        state_bytes: u64,
    },

    /// More auxiliary data than an entry has room for.
    #[error("{len} bytes of auxiliary data, the entries have room for {tail_bytes}")]
    Tail {
        /// How many.
        len: usize,
        /// Room.
        tail_bytes: u64,
    },

    /// A mark in the ring is so high that no number follows.
    #[error("generation {generation} in the ring: there is no higher number")]
    NumbersExhausted {
        /// The highest.
        generation: u64,
    },

    /// The memory is not a continuation of what the store has.
    #[error(
        "two histories: the store has generation {stored} of {stored_lineage}, the memory is {live_lineage}, restored from {parent} at {restored_at}"
    )]
    OtherHistory {
        /// What the store has, and of which memfd.
        stored: u64,
        /// Of which memfd that is.
        stored_lineage: String,
        /// Which memfd is live.
        live_lineage: String,
        /// Which one it was restored from.
        parent: String,
        /// And at which generation.
        restored_at: u64,
    },

    /// A system call on the memfd.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },

    /// The store.
    #[error(transparent)]
    Store(#[from] SnapshotError),
}

impl QueueError {
    pub(crate) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}
