//! Tests of the dirty trackers on this system.

use crate::snapshot::error::error_chain;
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::region::{PrivateFilePart, Region, RegionOptions};
use crate::snapshot::tracker::{self, TrackerChoice, TrackerKind, WriterScope};
use crate::sys::{memfd, userfaultfd};

/// Result of testing one tracker on memory of its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrackerProbe {
    /// The tracker.
    pub tracker: TrackerKind,
    /// Result of the test, or why the tracker cannot be used.
    pub outcome: Result<String, String>,
}

/// Result of [`probe_trackers`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrackerProbes {
    /// Trackers that depend on the system.
    pub trackers: Vec<TrackerProbe>,
    /// Whether a userfaultfd that also handles faults of the kernel can be opened. It needs a
    /// privilege or a sysctl.
    pub userfaultfd: Result<(), String>,
    /// Whether a userfaultfd for faults in user mode can be opened.
    pub userfaultfd_user_mode: Result<(), String>,
}

/// Tests the trackers that depend on the system, and whether userfaultfd can be opened with and
/// without privileges.
#[must_use]
pub fn probe_trackers() -> TrackerProbes {
    let options = RegionOptions::default();
    let anonymous =
        || Region::new_anonymous(PAGE_BYTES, options).map_err(|error| error_chain(&error));
    let trackers = vec![
        trial(TrackerKind::WpAsync, TrackerChoice::WpAsync, anonymous()),
        trial(
            TrackerKind::PrivatePages,
            TrackerChoice::PrivatePages,
            restored(),
        ),
        trial(
            TrackerKind::HashCompare,
            TrackerChoice::HashCompare,
            anonymous(),
        ),
    ];
    let open =
        |user_mode_only| userfaultfd::try_open(user_mode_only).map_err(|error| error.to_string());
    TrackerProbes {
        trackers,
        userfaultfd: open(false),
        userfaultfd_user_mode: open(true),
    }
}

fn trial(
    tracker: TrackerKind,
    choice: TrackerChoice,
    region: Result<Region, String>,
) -> TrackerProbe {
    let name = format!("{tracker}: ");
    let without_name = |text: String| text.strip_prefix(&name).unwrap_or(&text).to_owned();
    let outcome = region.and_then(|region| {
        let chosen = tracker::select_tracker(&region, choice, WriterScope::ThisMapping);
        chosen
            .map(|chosen| without_name(chosen.why))
            .map_err(|error| without_name(error_chain(&error)))
    });
    TrackerProbe { tracker, outcome }
}

/// One page of a file, mapped privately.
fn restored() -> Result<Region, String> {
    let file = memfd::create("flatspan-trial").map_err(|error| error.to_string())?;
    file.set_len(PAGE_BYTES as u64)
        .map_err(|error| error.to_string())?;
    let part = PrivateFilePart {
        file,
        offset: 0,
        bytes: PAGE_BYTES,
    };
    Region::map_private_files(vec![part], PAGE_BYTES, RegionOptions::default())
        .map_err(|error| error_chain(&error))
}
