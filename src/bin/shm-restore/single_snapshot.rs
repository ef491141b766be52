//! `--once`: one snapshot of a memfd that other programs use.

use anyhow::{Result, bail};
use flatspan::shm::{ListenFds, Memfd};
use serde_json::json;

use crate::cli::{Cli, Mode};
use crate::events::Events;
use crate::exit_code;
use crate::failure::Failure;
use crate::history_thread::add_once;
use crate::host::Outcome;
use crate::memfd;
use crate::memory_state::{MemoryState, MemoryStateFile};
use crate::restore;
use crate::store_path;

pub(crate) fn run(cli: &Cli) -> Result<u8, Failure> {
    let memory = memfd::received_only(ListenFds::from_env()?, &cli.fd_name)?;
    store_path::check(&cli.store)?;
    Ok(snapshot(cli, &memory)?)
}

fn snapshot(cli: &Cli, memory: &Memfd) -> Result<u8> {
    if !memory.is_restored()? {
        bail!(
            "the memfd has no shrink seal, so no state was restored into it and there is nothing to persist"
        );
    }
    let events = Events::new(cli.json);
    let mut host = restore::open(cli, memory, None)?;
    // The memory of running commands is accepted without freezing them.
    if cli.mode != Mode::Queue
        && MemoryStateFile::new(&cli.store, memory)?.state()? != MemoryState::Good
    {
        bail!(
            "the memory was left by a killed command; start shm-restore with a command to restore the last snapshot into it"
        );
    }
    restore::report(&host, false, events);
    match host.snapshot()? {
        Outcome::Persisted(snapshot) => {
            events.emit("final_snapshot", snapshot.fields());
            add_once(cli, events);
        }
        // No command is watched, so none has exited.
        Outcome::Unchanged | Outcome::CommandExited => {
            events.emit("final_snapshot", json!({ "unchanged": true }));
        }
        Outcome::NoQueue => bail!("the memory has no queue"),
        Outcome::Starved { attempts } => bail!(
            "the memory changed during all {attempts} copy attempts; commit less often or use a longer ring"
        ),
    }
    host.close()?;
    Ok(exit_code::OK)
}
