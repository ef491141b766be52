//! Kinds of dirty trackers.

use std::fmt;

/// Kind of a dirty tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrackerKind {
    /// [`WpAsyncTracker`](super::WpAsyncTracker).
    WpAsync,
    /// [`PrivatePagesTracker`](super::PrivatePagesTracker).
    PrivatePages,
    /// [`HashCompareTracker`](super::HashCompareTracker).
    HashCompare,
    /// [`ExplicitTracker`](super::ExplicitTracker).
    Explicit,
}

impl fmt::Display for TrackerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WpAsync => "wp-async",
            Self::PrivatePages => "private-pages",
            Self::HashCompare => "hash-compare",
            Self::Explicit => "explicit",
        })
    }
}
