//! Dirty trackers: which pages of a region have changed.
//!
//! | tracker | finds | cost for 1 GiB |
//! | --- | --- | --- |
//! | [`WpAsyncTracker`] | stores through the mapping of the region | 0.4 ms per scan, about 1 us per first store to a page |
//! | [`PrivatePagesTracker`] | private pages of a region over files, cumulatively | 6 to 16 ms per scan |
//! | [`HashCompareTracker`] | every change by any process | 60 ms per scan or more, as it reads everything |
//! | [`ExplicitTracker`] | pages that writers mark as dirty | none |
//!
//! [`select_tracker`] selects one by testing it. Soft-dirty bits are silently missing on some
//! kernels; page frame numbers and residency do not show changes.

mod dirty_marks;
mod dirty_tracker;
mod error;
mod explicit;
mod hash_compare;
mod kind;
mod private_pages;
mod region_tracker;
mod select;
mod wp_async;

pub use dirty_marks::DirtyMarks;
pub use dirty_tracker::DirtyTracker;
pub use error::TrackerError;
pub use explicit::ExplicitTracker;
pub use hash_compare::HashCompareTracker;
pub use kind::TrackerKind;
pub use private_pages::PrivatePagesTracker;
pub(crate) use region_tracker::RegionTracker;
pub use select::{SelectedTracker, TrackerChoice, WriterScope, select_tracker};
pub use wp_async::WpAsyncTracker;
