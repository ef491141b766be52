//! Kinds of dirty trackers.

use std::fmt;

/// A way to find out which pages changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrackerKind {
    /// [`WpAsync`](super::WpAsync)
    WpAsync,
    /// [`PrivatePages`](super::PrivatePages)
    PrivatePages,
    /// [`Compare`](super::Compare)
    Compare,
    /// [`Declared`](super::Declared)
    Declared,
}

impl fmt::Display for TrackerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WpAsync => "wp-async",
            Self::PrivatePages => "private-pages",
            Self::Compare => "compare",
            Self::Declared => "declared",
        })
    }
}
