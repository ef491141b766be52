//! Choosing a tracker by trying it.

use super::dirty_tracker::DirtyTracker;
use super::error::TrackerError;
use super::explicit::Declared;
use super::hash_compare::Compare;
use super::kind::TrackerKind;
use super::private_pages::PrivatePages;
use super::wp_async::WpAsync;
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::{Region, RegionKind, RegionOptions};

/// Which tracker is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrackerChoice {
    /// The first of these that can be had and sees everything: [`WpAsync`], [`PrivatePages`], [`Compare`].
    #[default]
    Auto,
    /// [`WpAsync`] or an error.
    WpAsync,
    /// [`PrivatePages`] or an error.
    PrivatePages,
    /// [`Compare`].
    Compare,
    /// [`Declared`]: cannot be tried, and is believed.
    Declared,
}

/// Who writes the memory of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writers {
    /// Whoever can: for a memfd and for files also other processes, other mappings, `write(2)`.
    #[default]
    Anyone,
    /// Only who stores through the region's own mapping, and its own functions. The caller vouches for that.
    OnlyThisMapping,
}

/// A tracker that was chosen; not armed yet.
#[derive(Debug)]
pub struct Chosen {
    /// The tracker.
    pub tracker: Box<dyn DirtyTracker>,
    /// Why this one: what it has shown, and why those before it were not taken. One line, for people.
    pub why: String,
}

/// Chooses a tracker for a region, and tries it on scratch pages of the same kind of memory: what it does not show to
/// find, it is not believed to find.
///
/// # Errors
///
/// With a certain choice, why it cannot be: [`Refused`](TrackerError::Refused),
/// [`Unavailable`](TrackerError::Unavailable), [`SelfTest`](TrackerError::SelfTest). With
/// [`Auto`](TrackerChoice::Auto), what the last one said.
pub fn choose(
    region: &Region,
    choice: TrackerChoice,
    writers: Writers,
) -> Result<Chosen, TrackerError> {
    let order: &[TrackerKind] = match choice {
        TrackerChoice::Auto if region.kind() == RegionKind::Restored => &[
            TrackerKind::WpAsync,
            TrackerKind::PrivatePages,
            TrackerKind::Compare,
        ],
        TrackerChoice::Auto => &[TrackerKind::WpAsync, TrackerKind::Compare],
        TrackerChoice::WpAsync => &[TrackerKind::WpAsync],
        TrackerChoice::PrivatePages => &[TrackerKind::PrivatePages],
        TrackerChoice::Compare => &[TrackerKind::Compare],
        TrackerChoice::Declared => &[TrackerKind::Declared],
    };
    first_available(order, |kind| {
        refuse_blind_spots(region, kind, writers)?;
        create_tested(region, kind)
    })
}

/// The first that can be had; otherwise the last error.
fn first_available(
    order: &[TrackerKind],
    mut make: impl FnMut(TrackerKind) -> Result<Box<dyn DirtyTracker>, TrackerError>,
) -> Result<Chosen, TrackerError> {
    let mut why = String::new();
    let mut last = None;
    for &kind in order {
        match make(kind) {
            Ok(tracker) => {
                why.push_str(&match kind {
                    TrackerKind::Declared => format!("{kind}: as asked for, on trust"),
                    _ => format!("{kind}: found exactly the page that was stored to"),
                });
                return Ok(Chosen { tracker, why });
            }
            Err(error) => {
                why.push_str(&with_source(&error));
                why.push_str("; ");
                last = Some(error);
            }
        }
    }
    Err(last.expect("the order names one at least"))
}

fn with_source(error: &TrackerError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error} ({source})"),
        None => error.to_string(),
    }
}

/// Hazard 14: what a tracker is known not to see, it is not used for.
fn refuse_blind_spots(
    region: &Region,
    tracker: TrackerKind,
    writers: Writers,
) -> Result<(), TrackerError> {
    let shared = matches!(region.kind(), RegionKind::Memfd | RegionKind::Files);
    let refused = |reason| Err(TrackerError::Refused { tracker, reason });
    match tracker {
        TrackerKind::WpAsync if shared && writers == Writers::Anyone => {
            refused("others may write this memory, and their writes would not be seen")
        }
        TrackerKind::PrivatePages if region.kind() != RegionKind::Restored => {
            refused("only a restored region has private pages beside those of files")
        }
        _ => Ok(()),
    }
}

fn create_tested(
    region: &Region,
    kind: TrackerKind,
) -> Result<Box<dyn DirtyTracker>, TrackerError> {
    Ok(match kind {
        TrackerKind::WpAsync => {
            self_test(WpAsync::new()?, region.probe_pages()?)?;
            Box::new(WpAsync::new()?)
        }
        TrackerKind::PrivatePages => {
            self_test(PrivatePages::new()?, region.probe_pages()?)?;
            Box::new(PrivatePages::new()?)
        }
        TrackerKind::Compare => {
            // Of any kind: a comparison looks at bytes only, and in those of files none may change.
            let probe = Region::anonymous(2 * PAGE_BYTES, RegionOptions::default())?;
            self_test(Compare::new(), probe)?;
            Box::new(Compare::new())
        }
        TrackerKind::Declared => Box::new(Declared::new()),
    })
}

/// Stores to a page after the other, and expects to see exactly that.
fn self_test(mut tracker: impl DirtyTracker, mut probe: Region) -> Result<(), TrackerError> {
    tracker.arm(&probe)?;
    let mut expected = PageSet::new();
    expect_scan(&mut tracker, &probe, &expected)?;
    for page in 0..probe.len() / PAGE_BYTES {
        probe
            .store_in_probe(page)
            .map_err(|source| TrackerError::Io {
                tracker: tracker.kind(),
                operation: "store to a page of its test",
                source,
            })?;
        if !tracker.is_cumulative() {
            expected.clear();
        }
        expected.insert(page as u64);
        expect_scan(&mut tracker, &probe, &expected)?;
    }
    Ok(())
}

fn expect_scan(
    tracker: &mut impl DirtyTracker,
    scratch: &Region,
    expected: &PageSet,
) -> Result<(), TrackerError> {
    let mut found = PageSet::new();
    tracker.scan(scratch, &mut found)?;
    if found == *expected {
        return Ok(());
    }
    Err(TrackerError::SelfTest {
        tracker: tracker.kind(),
        expected: format!("{expected:?}"),
        found: format!("{found:?}"),
    })
}
