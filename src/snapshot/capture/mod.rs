//! Capture: copies of the changed pages of the memory at one point in time.

mod page_buffer;
mod page_steps;
mod pre_copy;

pub(crate) use page_buffer::PageBuffer;
pub(crate) use pre_copy::{Capture, Captured, QUICK_PAGES, Sink, scan};
