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

mod choose;
mod compare;
mod declared;
mod error;
mod private_pages;
mod region_tracker;
mod traits;
mod wp_async;

pub use choose::{Chosen, TrackerChoice, Writers, choose};
pub use compare::Compare;
pub use declared::{Declarations, Declared};
pub use error::TrackerError;
pub use private_pages::PrivatePages;
pub(crate) use region_tracker::RegionTracker;
pub use traits::{DirtyTracker, TrackerKind};
pub use wp_async::WpAsync;
