//! Data transfer: copies, transfers between files and sockets, and advice to the kernel.

mod advise;
mod copy_range;
mod next_data;
mod read_write;
mod socket_io;

pub use advise::Advice;
pub(crate) use socket_io::{
    BufferRange, allow_zerocopy, next_completion, receive, send, send_zerocopy,
    wait_for_completions,
};
