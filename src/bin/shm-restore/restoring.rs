//! Restoring, and what is told of it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use flatspan::shm::SharedFile;
use flatspan::snapshot::StoreReader;
use rustix::fs::fstat;
use serde_json::json;

use crate::cli::Cli;
use crate::events::Events;
use crate::keeper::Keeper;
use crate::progress::Bar;
use crate::standing::Standing;
use crate::terminal::{errors_are_in_the_foreground, output_stops_nobody};

/// A bar is shown of what takes longer.
const SOON: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(100);

/// The store, with its state in the memory unless that is live.
pub(crate) fn open(
    cli: &Cli,
    memory: &SharedFile,
    standing: Option<&Arc<Standing>>,
) -> Result<Keeper> {
    let open = || Keeper::open(cli, memory, standing);
    if memory.is_restored()? {
        open()
    } else {
        with_bar(cli, memory, open)
    }
}

pub(crate) fn roll_back(cli: &Cli, memory: &SharedFile, keeper: &mut Keeper) -> Result<()> {
    with_bar(cli, memory, || keeper.roll_back())
}

pub(crate) fn tell(keeper: &Keeper, rolled_back: bool, events: Events) {
    let report = keeper.open_report();
    events.note(
        "restored",
        json!({
            "restored": keeper.restored(),
            "rolled_back": rolled_back,
            "generation": keeper.generation(),
            "bytes": report.region_bytes,
            "created": report.created,
            "was_closed": report.was_closed,
            "seconds": report.took.as_secs_f64(),
        }),
    );
    if let Some(lost) = &report.fell_back {
        let text = format!("the newest state was lost, an older one was restored: {lost}");
        events.tell("fell_back", &text, json!({ "lost": lost }));
    }
}

/// Storage that the memory has got so far is what was restored so far.
///
/// Nobody waits for who shows it longer than for a step: a terminal that is stopped does not hold up the start.
fn with_bar<R>(cli: &Cli, memory: &SharedFile, restore: impl FnOnce() -> R) -> R {
    let watched = memory.as_fd().try_clone_to_owned();
    let store = cli.store.clone();
    let (ends, end) = mpsc::channel::<()>();
    let (shows, shown) = mpsc::channel::<()>();
    let show = move || {
        output_stops_nobody();
        if end.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout)
            && let Ok(watched) = watched
            && errors_are_in_the_foreground()
        {
            show_until(&end, &store, &watched);
        }
        drop(shows);
    };
    let thread = thread::Builder::new().name("progress".to_owned());
    // Without it nothing is shown.
    let _not_vital = thread.spawn(show);
    let restored = restore();
    drop(ends);
    // It is cleared before the command writes there.
    let _too_late = shown.recv_timeout(STEP);
    restored
}

fn show_until(end: &Receiver<()>, store: &Path, watched: &OwnedFd) {
    let bar = Bar::new("opening", 0);
    let bytes = stored_bytes(store).unwrap_or(0);
    bar.restart("restoring".to_owned(), bytes);
    while end.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
        bar.set(present_bytes(watched).min(bytes));
    }
}

fn stored_bytes(store: &Path) -> Result<u64> {
    Ok(StoreReader::open(store)?.newest()?.len())
}

fn present_bytes(memory: &OwnedFd) -> u64 {
    // Blocks of 512 bytes, whatever the filesystem.
    fstat(memory).map_or(0, |status| {
        u64::try_from(status.st_blocks).unwrap_or(0) * 512
    })
}
