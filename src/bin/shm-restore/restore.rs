//! Restoring the state, with a progress bar and an event.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use flatspan::shm::Memfd;
use flatspan::snapshot::StoreReader;
use rustix::fs::fstat;
use serde_json::json;

use crate::cli::Cli;
use crate::events::Events;
use crate::freeze_command::CommandFreezer;
use crate::host::StateHost;
use crate::job_control::{block_sigttou, stderr_is_foreground};
use crate::progress::Bar;

/// The bar appears after this time.
const BAR_DELAY: Duration = Duration::from_millis(500);
const BAR_INTERVAL: Duration = Duration::from_millis(100);

/// Opens the store and restores its state into the memory, unless the memory is restored already.
pub(crate) fn open(
    cli: &Cli,
    memory: &Memfd,
    freezer: Option<&Arc<CommandFreezer>>,
) -> Result<StateHost> {
    let open = || StateHost::open(cli, memory, freezer);
    if memory.is_restored()? {
        open()
    } else {
        with_bar(cli, memory, open)
    }
}

pub(crate) fn rollback(cli: &Cli, memory: &Memfd, host: &mut StateHost) -> Result<()> {
    with_bar(cli, memory, || host.rollback())
}

pub(crate) fn report(host: &StateHost, rolled_back: bool, events: Events) {
    let report = host.open_report();
    events.emit(
        "restored",
        json!({
            "restored": host.was_restored(),
            "rolled_back": rolled_back,
            "generation": host.generation(),
            "region_bytes": report.region_bytes,
            "created": report.created,
            "clean_shutdown": report.clean_shutdown,
            "duration_seconds": report.duration.as_secs_f64(),
        }),
    );
    if let Some(reason) = &report.fallback_reason {
        let message = format!("the newest state is corrupt, restored an older one: {reason}");
        events.report("fallback_used", &message, json!({ "reason": reason }));
    }
}

/// Shows a bar while `restore` runs. The storage allocated to the memory is the progress.
///
/// The thread that draws may block on a stopped terminal, so this function waits for it only for
/// one interval.
fn with_bar<R>(cli: &Cli, memory: &Memfd, restore: impl FnOnce() -> R) -> R {
    let watched = memory.as_fd().try_clone_to_owned();
    let store = cli.store.clone();
    let (restoring, restored) = mpsc::channel::<()>();
    let (drawing, drawn) = mpsc::channel::<()>();
    let draw = move || {
        block_sigttou();
        if restored.recv_timeout(BAR_DELAY) == Err(RecvTimeoutError::Timeout)
            && let Ok(watched) = watched
            && stderr_is_foreground()
        {
            draw_until(&restored, &store, &watched);
        }
        drop(drawing);
    };
    let thread = thread::Builder::new().name("progress".to_owned());
    // Without the thread there is no bar.
    drop(thread.spawn(draw));
    let result = restore();
    drop(restoring);
    // The bar is cleared before the command writes to the terminal.
    let _ = drawn.recv_timeout(BAR_INTERVAL);
    result
}

fn draw_until(restored: &Receiver<()>, store: &Path, watched: &OwnedFd) {
    let bar = Bar::new("opening", 0);
    let total = stored_bytes(store).unwrap_or(0);
    bar.restart("restoring".to_owned(), total);
    while restored.recv_timeout(BAR_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        bar.set(allocated_bytes(watched).min(total));
    }
}

fn stored_bytes(store: &Path) -> Result<u64> {
    Ok(StoreReader::open(store)?.newest()?.len())
}

fn allocated_bytes(memory: &OwnedFd) -> u64 {
    // stat(2) counts blocks of 512 bytes on every filesystem.
    match fstat(memory) {
        Ok(status) => u64::try_from(status.st_blocks).unwrap_or(0) * 512,
        Err(_) => 0,
    }
}
