//! What a memory is worth that was left for us.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use flatspan::shm::SharedFile;
use flatspan::shm::process::users_of;
use serde_json::json;

use crate::cli::{Cli, How, OnCrash};
use crate::crash;
use crate::events::Events;
use crate::keeper::Keeper;
use crate::marks::{Marks, Verdict};
use crate::restoring;

/// So long it is waited for who still uses it.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(50);

/// Makes the memory good, or leaves it if it is. To be called when the store is ours. Returns the marks if the end of a command
/// is to be seen: with `queue` what was committed counts, crash or not, and with `keep` all is good.
pub(crate) fn settle(
    cli: &Cli,
    memory: &SharedFile,
    keeper: &mut Keeper,
    events: Events,
) -> Result<Option<Marks>> {
    if cli.snapshot == How::Queue {
        // Who commits needs no more, and what is known of others is left to those who ask for it. But what is half restored is no queue.
        if !keeper.restored() && Marks::of(&cli.store, memory)?.judge()? == Verdict::Killed {
            bail!(
                "a killed command has left this memory: a start with --snapshot=exit or stop restores the last snapshot into it"
            );
        }
        restoring::tell(keeper, false, events);
        return Ok(None);
    }
    let marks = Marks::of(&cli.store, memory)?;
    let verdict = if keeper.restored() {
        marks.forget()?;
        Verdict::Good
    } else {
        marks.judge()?
    };
    let keeps = cli.on_crash == Some(OnCrash::Keep);
    let is_bad = match &verdict {
        Verdict::Good => false,
        Verdict::Killed => true,
        Verdict::EndedUnseen(_) => !keeps,
    };
    if is_bad {
        nobody_uses(memory)?;
    }
    if let Verdict::EndedUnseen(commands) = &verdict {
        give_up(cli, memory, commands, events)?;
    }
    if is_bad {
        // Killed between here and the end of restoring, this program leaves it to the next one.
        marks.killed()?;
        restoring::roll_back(cli, memory, keeper)?;
    }
    if verdict != Verdict::Good {
        marks.good()?;
    }
    restoring::tell(keeper, is_bad, events);
    Ok((!keeps).then_some(marks))
}

/// Nothing is restored beneath a program that runs, whoever it is. One that was killed takes a moment to end.
fn nobody_uses(memory: &SharedFile) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let users = users_of(memory)?;
        let Some(user) = users.first() else {
            return Ok(());
        };
        if Instant::now() >= end {
            bail!(
                "the last snapshot is to be restored into the memory, which process {} ({}) still uses: nothing is restored beneath it",
                user.pid,
                user.name
            );
        }
        thread::sleep(STEP);
    }
}

/// Tells of commands of which nobody has seen the end, and saves their memory if it is to be. Where that fails it stays as it is.
fn give_up(cli: &Cli, memory: &SharedFile, commands: &[u32], events: Events) -> Result<()> {
    let who = commands.iter().map(u32::to_string).collect::<Vec<_>>();
    let who = format!(
        "nobody has seen how process {} ended, which used the memory",
        who.join(", ")
    );
    let (path, text) = match cli.on_crash {
        None | Some(OnCrash::Rollback) => {
            let path = crash::save(&cli.store, memory)?.display().to_string();
            let text = format!(
                "{who}: the last snapshot is restored, and what was in it was saved as {path}"
            );
            (Some(path), text)
        }
        Some(OnCrash::Discard) => (
            None,
            format!("{who}: the last snapshot is restored, and what was in it is given up"),
        ),
        Some(OnCrash::Keep) => (None, format!("{who}: what is in it is kept")),
    };
    events.tell("crashed", &text, json!({ "saved": path }));
    Ok(())
}
