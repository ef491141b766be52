//! Groups: ordered entries addressed as one byte array, their layout, and operations on their
//! files.

#[cfg(feature = "tokio")]
mod async_cursor;
mod builder;
mod copy_locks;
mod copy_range;
mod cursor;
mod entry;
mod entry_handle;
mod file_ops;
mod flush_advise;
mod group;
mod layout;
mod layout_changes;
#[cfg(feature = "positioned-io")]
mod positioned_io_impls;
mod read_write;
mod vectored_io;

#[cfg(feature = "tokio")]
pub use async_cursor::AsyncCursor;
pub use builder::{Entry, GroupBuilder};
pub use cursor::Cursor;
pub(super) use entry::EntryBody;
pub use entry::{EntryInfo, EntryKind};
pub use entry_handle::EntryHandle;
pub use group::Group;
pub use layout::{Extent, Extents, Layout};
