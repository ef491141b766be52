//! Which ways of finding changed pages this system has, by trying them.

use crate::snapshot::error::error_chain;
use crate::snapshot::format::PAGE_BYTES;
use crate::snapshot::region::{Region, RegionOptions, RestoredPart};
use crate::snapshot::tracker::{self, TrackerChoice, TrackerKind, Writers};
use crate::sys::{memfd, userfaultfd};

/// A way to find changed pages, tried out on scratch memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrackerTrial {
    /// Which one.
    pub tracker: TrackerKind,
    /// What it has shown, or why it cannot be had.
    pub outcome: Result<String, String>,
}

/// Tries the trackers that need something of the system, and then opens userfaultfd as a privileged process may and as
/// any may: in this order.
pub fn try_trackers() -> (Vec<TrackerTrial>, [Result<(), String>; 2]) {
    let options = RegionOptions::default();
    let anonymous = || Region::anonymous(PAGE_BYTES, options).map_err(|error| error_chain(&error));
    let trials = vec![
        trial(TrackerKind::WpAsync, TrackerChoice::WpAsync, anonymous()),
        trial(
            TrackerKind::PrivatePages,
            TrackerChoice::PrivatePages,
            restored(),
        ),
        trial(TrackerKind::Compare, TrackerChoice::Compare, anonymous()),
    ];
    let opened = [false, true].map(|user_mode_only| {
        let opened = userfaultfd::try_open(user_mode_only);
        opened.map_err(|error| error.to_string())
    });
    (trials, opened)
}

fn trial(
    tracker: TrackerKind,
    choice: TrackerChoice,
    region: Result<Region, String>,
) -> TrackerTrial {
    let outcome = region.and_then(|region| {
        let chosen = tracker::choose(&region, choice, Writers::OnlyThisMapping);
        chosen
            .map(|chosen| chosen.why)
            .map_err(|error| error_chain(&error))
    });
    TrackerTrial { tracker, outcome }
}

/// A page of a file, mapped privately.
fn restored() -> Result<Region, String> {
    let file = memfd::create("flatspan-trial").map_err(|error| error.to_string())?;
    file.set_len(PAGE_BYTES as u64)
        .map_err(|error| error.to_string())?;
    let part = RestoredPart {
        file,
        offset: 0,
        bytes: PAGE_BYTES,
    };
    Region::restored(vec![part], PAGE_BYTES, RegionOptions::default())
        .map_err(|error| error_chain(&error))
}
