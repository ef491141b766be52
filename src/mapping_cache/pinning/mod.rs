//! Pins, which keep a window mapped, and the mapping of windows.

mod map_window;
mod pin;
mod pin_window;
mod pinned_range;

pub use pin::Pin;
pub(crate) use pinned_range::PinnedRange;
