//! Selection of a dirty tracker by testing it.

use std::ops::Range;

use super::dirty_tracker::DirtyTracker;
use super::error::TrackerError;
use super::explicit::ExplicitTracker;
use super::hash_compare::HashCompareTracker;
use super::kind::TrackerKind;
use super::private_pages::PrivatePagesTracker;
use super::wp_async::WpAsyncTracker;
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::{Region, RegionKind, RegionOptions};

/// Tracker that [`select_tracker`] is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackerChoice {
    /// The first of [`WpAsyncTracker`], [`PrivatePagesTracker`] and [`HashCompareTracker`] that
    /// works and finds all changes of the region.
    #[default]
    Auto,
    /// [`WpAsyncTracker`], or an error.
    WpAsync,
    /// [`PrivatePagesTracker`], or an error.
    PrivatePages,
    /// [`HashCompareTracker`].
    HashCompare,
    /// [`ExplicitTracker`], which cannot be tested.
    Explicit,
}

/// Writers of the memory of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriterScope {
    /// Any process with access. For a memfd and for files these are other processes, other mappings
    /// and `write(2)`.
    #[default]
    AnyMapping,
    /// Only this process, by stores through the mapping of the region and by methods of the region.
    /// The caller guarantees it.
    ThisMapping,
}

/// Result of [`select_tracker`].
#[derive(Debug)]
#[non_exhaustive]
pub struct SelectedTracker {
    /// The tracker, not armed.
    pub tracker: Box<dyn DirtyTracker>,
    /// One line for people: the result of the test, and why preferred trackers were not selected.
    pub why: String,
}

/// Selects a tracker for a region.
///
/// The tracker is first tested on a few pages of the same kind of memory. It is rejected if it does
/// not find exactly the pages that were stored to.
///
/// # Errors
///
/// With [`TrackerChoice::Auto`] the error of the last candidate is returned.
///
/// - [`TrackerError::Unsuitable`] if the tracker cannot see all changes of the region.
/// - [`TrackerError::Unavailable`] if the system lacks a facility that the tracker needs.
/// - [`TrackerError::SelfTestFailed`] if the test failed.
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::{Region, RegionOptions, TrackerChoice, WriterScope, select_tracker};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let region = Region::new_anonymous(8 * 4096, RegionOptions::default())?;
/// let mut chosen = select_tracker(&region, TrackerChoice::Auto, WriterScope::AnyMapping)?;
/// chosen.tracker.arm(&region)?;
/// println!("{}", chosen.why);
/// # Ok(())
/// # }
/// ```
pub fn select_tracker(
    region: &Region,
    choice: TrackerChoice,
    writers: WriterScope,
) -> Result<SelectedTracker, TrackerError> {
    let order: &[TrackerKind] = match choice {
        TrackerChoice::Auto if region.kind() == RegionKind::PrivateFiles => &[
            TrackerKind::WpAsync,
            TrackerKind::PrivatePages,
            TrackerKind::HashCompare,
        ],
        TrackerChoice::Auto => &[TrackerKind::WpAsync, TrackerKind::HashCompare],
        TrackerChoice::WpAsync => &[TrackerKind::WpAsync],
        TrackerChoice::PrivatePages => &[TrackerKind::PrivatePages],
        TrackerChoice::HashCompare => &[TrackerKind::HashCompare],
        TrackerChoice::Explicit => &[TrackerKind::Explicit],
    };
    first_available(order, |kind| {
        refuse_blind_spots(region, kind, writers)?;
        create_tested(region, kind)
    })
}

/// The first tracker that works, or the last error.
fn first_available(
    order: &[TrackerKind],
    mut make: impl FnMut(TrackerKind) -> Result<Box<dyn DirtyTracker>, TrackerError>,
) -> Result<SelectedTracker, TrackerError> {
    let mut rejected = String::new();
    let mut last = None;
    for &kind in order {
        match make(kind) {
            Ok(tracker) => {
                let result = match kind {
                    TrackerKind::Explicit => "as requested, without a test",
                    _ => "the test found exactly the stored pages",
                };
                let why = format!("{rejected}{kind}: {result}");
                return Ok(SelectedTracker { tracker, why });
            }
            Err(error) => {
                rejected.push_str(&with_source(&error));
                rejected.push_str("; ");
                last = Some(error);
            }
        }
    }
    Err(last.expect("at least one candidate"))
}

fn with_source(error: &TrackerError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error} ({source})"),
        None => error.to_string(),
    }
}

/// Rejects a tracker that is known to miss changes of such a region [I14].
fn refuse_blind_spots(
    region: &Region,
    tracker: TrackerKind,
    writers: WriterScope,
) -> Result<(), TrackerError> {
    let shared = matches!(region.kind(), RegionKind::Memfd | RegionKind::Files);
    let refused = |reason| Err(TrackerError::Unsuitable { tracker, reason });
    match tracker {
        TrackerKind::WpAsync if shared && writers == WriterScope::AnyMapping => refused(
            "other processes may write this memory unseen; use `WriterScope::ThisMapping` if none does",
        ),
        TrackerKind::PrivatePages if region.kind() != RegionKind::PrivateFiles => {
            refused("only a region over private mappings of files can be tracked")
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
            self_test(WpAsyncTracker::new()?, region.probe_pages()?)?;
            Box::new(WpAsyncTracker::new()?)
        }
        TrackerKind::PrivatePages => {
            self_test(PrivatePagesTracker::new()?, region.probe_pages()?)?;
            Box::new(PrivatePagesTracker::new()?)
        }
        TrackerKind::HashCompare => {
            // The kind of memory does not matter to a comparison, and files must not be changed.
            let probe = Region::new_anonymous(2 * PAGE_BYTES, RegionOptions::default())?;
            self_test(HashCompareTracker::new(), probe)?;
            Box::new(HashCompareTracker::new())
        }
        TrackerKind::Explicit => Box::new(ExplicitTracker::new()),
    })
}

/// Stores to one page after the other, and expects each scan to report exactly these.
fn self_test(mut tracker: impl DirtyTracker, mut probe: Region) -> Result<(), TrackerError> {
    tracker.arm(&probe)?;
    let mut expected = PageSet::new();
    expect_scan(&mut tracker, &probe, &expected)?;
    for page in 0..probe.len() / PAGE_BYTES {
        probe
            .store_in_probe(page)
            .map_err(|source| TrackerError::Io {
                tracker: tracker.kind(),
                operation: "store to a page of the test",
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
    Err(TrackerError::SelfTestFailed {
        tracker: tracker.kind(),
        expected: page_list(expected),
        found: page_list(&found),
    })
}

/// Page numbers and ranges, such as `1, 4-6`.
fn page_list(pages: &PageSet) -> String {
    let text = |run: Range<u64>| match run.end - run.start {
        1 => run.start.to_string(),
        _ => format!("{}-{}", run.start, run.end - 1),
    };
    let list: Vec<_> = pages.runs().map(text).collect();
    if list.is_empty() {
        return "none".to_owned();
    }
    list.join(", ")
}
