//! One snapshot of memory that is live elsewhere.

use anyhow::{anyhow, bail};
use flatspan::shm::{ListenFds, SharedFile};
use serde_json::json;

use crate::cli::{Cli, How};
use crate::events::Events;
use crate::failure::Outcome;
use crate::history::keep_once;
use crate::keeper;
use crate::marks::{Marks, Verdict};
use crate::memory;
use crate::restoring;
use crate::store_place;

pub(crate) fn run(cli: &Cli) -> Outcome<u8> {
    let memory = memory::adopted(ListenFds::from_env()?, &cli.fd_name)?;
    store_place::check(&cli.store)?;
    Ok(take(cli, &memory)?)
}

fn take(cli: &Cli, memory: &SharedFile) -> anyhow::Result<u8> {
    if !memory.is_restored()? {
        bail!(
            "the memory is not live: it has no seal against shrinking, so there is nothing to be kept"
        );
    }
    let events = Events::new(cli.json);
    let mut keeper = restoring::open(cli, memory, None)?;
    // That of commands that live is taken as it is.
    if cli.snapshot != How::Queue && Marks::of(&cli.store, memory)?.judge()? != Verdict::Good {
        bail!(
            "a killed command has left this memory, so it is not taken for good: a start with a command restores the last snapshot into it"
        );
    }
    restoring::tell(&keeper, false, events);
    match keeper.snapshot()? {
        keeper::Outcome::Taken(taken) => {
            events.note("last", taken.fields());
            keep_once(cli, events);
        }
        // Nobody is watched.
        keeper::Outcome::Nothing | keeper::Outcome::Ended => {
            events.note("last", json!({ "nothing": true }));
        }
        keeper::Outcome::NoQueue => return Err(anyhow!("there is no queue in the memory")),
        keeper::Outcome::Starved { attempts } => {
            return Err(anyhow!(
                "the program commits faster than its memory can be copied ({attempts} attempts)"
            ));
        }
    }
    keeper.close()?;
    Ok(0)
}
