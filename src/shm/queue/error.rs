//! Error type of a queue.

use std::io;

use super::lineage::Lineage;
use crate::numbers::Generation;
use crate::snapshot::StoreError;

/// An error of a queue, of its client or of its host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// A header field, or an option for a new queue, is out of range.
    ///
    /// An existing header with such a field is corrupt or was written by another program.
    #[error("invalid queue header: {field} is {found}")]
    InvalidHeader {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        found: u64,
    },

    /// The queue has another version of the protocol.
    #[error(
        "queue protocol version {} is not supported, only version 1 is",
        found.escape_ascii()
    )]
    UnsupportedVersion {
        /// Last byte of the magic.
        found: u8,
    },

    /// The memfd holds a queue with other dimensions than requested.
    #[error("the queue was created with {field} {found}, {asked} was requested")]
    LayoutMismatch {
        /// Name of the field.
        field: &'static str,
        /// Value in the header.
        found: u64,
        /// Requested value.
        asked: u64,
    },

    /// The memfd is shorter than its header requires.
    #[error("the memfd has {len} bytes, its queue requires {needed}")]
    TooShort {
        /// Length of the memfd.
        len: u64,
        /// Length that the header requires.
        needed: u64,
    },

    /// The memfd or the store holds other data than a queue.
    #[error(
        "not a queue: the magic at the start is missing, so the data is of a program without queue \
         code"
    )]
    NotAQueue,

    /// Another client has the queue open.
    #[error("another client has the queue open, a queue has one client at a time")]
    InUse,

    /// The calling process is a fork of the one that opened the queue.
    #[error("process {opened_by} opened the queue, its fork {here} cannot commit")]
    Forked {
        /// Process that opened the queue.
        opened_by: u32,
        /// Calling process.
        here: u32,
    },

    /// A range ends after the state.
    #[error("{len} bytes at offset {offset} are outside of a state of {state_bytes} bytes")]
    OutOfBounds {
        /// First byte of the range.
        offset: u64,
        /// Length of the range.
        len: u64,
        /// Length of the state.
        state_bytes: u64,
    },

    /// Auxiliary data is longer than the queue allows.
    #[error("{len} bytes of auxiliary data exceed the {aux_bytes} bytes of the queue's options")]
    AuxTooLong {
        /// Length of the data.
        len: usize,
        /// Room in each generation.
        aux_bytes: u64,
    },

    /// The ring holds a mark with the highest possible generation.
    #[error("generation {generation} in the ring is the highest possible one")]
    GenerationOverflow {
        /// Highest generation in the ring.
        generation: Generation,
    },

    /// The memfd does not continue the state in the store.
    #[error(
        "the store has generation {} of memfd {stored_lineage}, but the memory is memfd \
         {live_lineage}, restored from memfd {} at generation {}",
        number_or_zero(*stored), parent_or_none(*parent), number_or_zero(*restored_at)
    )]
    LineageMismatch {
        /// Generation in the store; `None` if the stored queue has none yet.
        stored: Option<Generation>,
        /// Lineage of the memfd that the store has.
        stored_lineage: Lineage,
        /// Lineage of the live memfd.
        live_lineage: Lineage,
        /// Lineage that the live memfd was restored from; `None` if it was not restored.
        parent: Option<Lineage>,
        /// Generation that it was restored at; `None` if it had none or was not restored.
        restored_at: Option<Generation>,
    },

    /// A system call on the memfd failed.
    #[error("cannot {operation}")]
    Io {
        /// Attempted operation.
        operation: &'static str,
        /// Error of the system call.
        source: io::Error,
    },

    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn number_or_zero(generation: Option<Generation>) -> u64 {
    generation.map_or(0, Generation::get)
}

fn parent_or_none(parent: Option<Lineage>) -> String {
    parent.map_or_else(|| "none".to_owned(), |parent| parent.to_string())
}

impl QueueError {
    /// Returns a closure for `map_err`.
    pub(crate) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}
