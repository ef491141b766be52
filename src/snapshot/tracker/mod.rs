//! Which pages of a region changed.
//!
//! | tracker | sees | costs (1 GiB) |
//! | --- | --- | --- |
//! | [`WpAsync`] | stores through the region's own mapping | 0.4 ms a scan, and about 1 us a first store |
//! | [`PrivatePages`] | all pages that a restored region has of its own, cumulatively | 6 to 16 ms a scan |
//! | [`Compare`] | everything, whoever wrote it | reads all: 60 ms a scan and more |
//! | [`Declared`] | what writers declare | nothing |
//!
//! [`choose`] picks one by trying it. Soft-dirty bits, page frame numbers and residency are no methods: the first are
//! silently absent on some kernels, the others say something else.

mod dirty_marks;
mod dirty_tracker;
mod error;
mod explicit;
mod hash_compare;
mod kind;
mod private_pages;
mod select;
mod wp_async;

pub use dirty_marks::Declarations;
pub use dirty_tracker::DirtyTracker;
pub use error::TrackerError;
pub use explicit::Declared;
pub use hash_compare::Compare;
pub use kind::TrackerKind;
pub use private_pages::PrivatePages;
pub use select::{Chosen, TrackerChoice, Writers, choose};
pub use wp_async::WpAsync;
