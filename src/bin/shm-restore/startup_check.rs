//! Decides at the start whether the content of a memfd that was received can be used.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use flatspan::shm::Memfd;
use flatspan::shm::process::users_of;
use serde_json::json;

use crate::cli::{Cli, Mode, OnCrash};
use crate::crash_file;
use crate::events::Events;
use crate::host::StateHost;
use crate::memory_state::{MemoryState, MemoryStateFile};
use crate::restore;

/// Limit for killed processes that still use the memory to exit.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Restores the last snapshot if the memory was left by a crash. The caller must hold the store's
/// lock.
///
/// Returns the memory-state file if the exit of the command must be observed. With mode `queue`
/// only committed updates count, and with `--on-crash=accept` any content is good.
pub(crate) fn check_memory(
    cli: &Cli,
    memory: &Memfd,
    host: &mut StateHost,
    events: Events,
) -> Result<Option<MemoryStateFile>> {
    let file = MemoryStateFile::new(&cli.store, memory)?;
    if cli.mode == Mode::Queue {
        refuse_half_restored(&file, host)?;
        restore::report(host, false, events);
        return Ok(None);
    }
    let state = if host.was_restored() {
        file.remove()?;
        MemoryState::Good
    } else {
        file.state()?
    };
    let accepts = cli.on_crash == Some(OnCrash::Accept);
    let is_bad = match &state {
        MemoryState::Good => false,
        MemoryState::Killed => true,
        MemoryState::ExitUnobserved(_) => !accepts,
    };
    if is_bad {
        wait_unused(memory)?;
    }
    if let MemoryState::ExitUnobserved(commands) = &state {
        handle_crash(cli, memory, commands, events)?;
    }
    if is_bad {
        // If this program is killed before the rollback is complete, the next start repeats it.
        file.set_killed()?;
        restore::rollback(cli, memory, host)?;
    }
    if state != MemoryState::Good {
        file.set_good()?;
    }
    restore::report(host, is_bad, events);
    Ok((!accepts).then_some(file))
}

/// Refuses memory into which a killed program has restored only a part of the state. Other states
/// of the memory do not matter to a client of a queue.
fn refuse_half_restored(file: &MemoryStateFile, host: &StateHost) -> Result<()> {
    if !host.was_restored() && file.state()? == MemoryState::Killed {
        bail!(
            "the memory was left by a killed command; start shm-restore with --mode=exit or freeze to restore the last snapshot into it"
        );
    }
    Ok(())
}

/// Waits until no process has the memory open. Refuses to restore into memory that a running
/// process uses. A killed process needs a moment to exit.
fn wait_unused(memory: &Memfd) -> Result<()> {
    let deadline = Instant::now() + USER_TIMEOUT;
    loop {
        let users = users_of(memory)?;
        let Some(user) = users.first() else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            bail!(
                "cannot restore the last snapshot: process {} ({}) still uses the memory; stop it and start again",
                user.pid,
                user.name
            );
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Reports commands whose exit was not observed, and saves their memory if `--on-crash` says so. On
/// an error the memory is unchanged.
fn handle_crash(cli: &Cli, memory: &Memfd, commands: &[u32], events: Events) -> Result<()> {
    let pids = commands.iter().map(u32::to_string).collect::<Vec<_>>();
    let cause = format!(
        "process {} used the memory and its exit was not observed",
        pids.join(", ")
    );
    let (path, message) = match cli.on_crash {
        None | Some(OnCrash::Rollback) => {
            let path = crash_file::save(&cli.store, memory)?.display().to_string();
            let message = format!(
                "{cause}: restoring the last snapshot, the old content was saved as {path}"
            );
            (Some(path), message)
        }
        Some(OnCrash::Discard) => (
            None,
            format!("{cause}: restoring the last snapshot, the old content is discarded"),
        ),
        Some(OnCrash::Accept) => (None, format!("{cause}: its content is accepted")),
    };
    events.report("command_crashed", &message, json!({ "crash_file": path }));
    Ok(())
}
