//! Report of a crash test: a table for people, a JSON object for programs.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use crate::line::Problem;
use crate::phase::Phase;
use crate::plan;
use crate::tally::Tally;

pub(crate) fn print(tally: &Tally, seed: u64, took: Duration, json: bool) -> io::Result<()> {
    let text = if json {
        format!("{}\n", object(tally, seed, took))
    } else {
        table(tally, seed, took).unwrap_or_default()
    };
    io::stdout().write_all(text.as_bytes())
}

fn needed(tally: &Tally, phase: Phase) -> u64 {
    let needs = Phase::NEEDED.contains(&phase);
    if needs {
        plan::needed(tally.kills())
    } else {
        0
    }
}

fn count(tally: &Tally, kind: Problem) -> u64 {
    tally
        .fault
        .iter()
        .filter(|(found, _)| *found == kind)
        .count() as u64
}

/// Returns the median and the maximum.
fn open_us(tally: &Tally) -> (u64, u64) {
    let mut micros = tally.open_us.clone();
    micros.sort_unstable();
    let at = |place: usize| micros.get(place).copied().unwrap_or(0);
    (at(micros.len() / 2), at(micros.len().saturating_sub(1)))
}

fn table(tally: &Tally, seed: u64, took: Duration) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(out, "phase      kills  needed")?;
    for phase in Phase::ALL {
        let (kills, needed) = (tally.kills_in(phase), needed(tally, phase));
        let mark = if kills < needed { "  too few" } else { "" };
        writeln!(out, "{:<10} {kills:>5}  {needed:>6}{mark}", phase.name())?;
    }
    writeln!(out, "{:<10} {:>5}", "all", tally.kills())?;
    writeln!(out)?;
    let counts = Problem::ALL.map(|kind| format!("{} {}", kind.name(), count(tally, kind)));
    writeln!(out, "{}", counts.join(", "))?;
    if let Some((kind, text)) = &tally.fault {
        writeln!(out, "found: {}: {text}", kind.name())?;
    }
    writeln!(
        out,
        "{} transactions acknowledged, {} checkpoints requested, opened {} times, {} records replayed",
        tally.transactions,
        tally.checkpoints,
        tally.open_us.len(),
        tally.replayed_records
    )?;
    let (median, max) = open_us(tally);
    let millis = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1e3;
    writeln!(
        out,
        "opening: {:.1} ms median, {:.1} ms at most; the test: {:.1} s, seed {seed}",
        millis(median),
        millis(max),
        took.as_secs_f64()
    )?;
    writeln!(out, "{}", if tally.is_ok() { "ok" } else { "NOT ok" })?;
    Ok(out)
}

fn object(tally: &Tally, seed: u64, took: Duration) -> Value {
    let (median, max) = open_us(tally);
    let phases = Phase::ALL.map(|phase| {
        json!({
            "phase": phase.name(),
            "kills": tally.kills_in(phase),
            "needed": needed(tally, phase),
        })
    });
    let mut object = json!({
        "seed": seed,
        "kills": tally.kills(),
        "seconds": took.as_secs_f64(),
        "transactions": tally.transactions,
        "checkpoints": tally.checkpoints,
        "reopened": tally.open_us.len(),
        "replayed_records": tally.replayed_records,
        "phases": phases,
        "fault": tally.fault.as_ref().map(|(_, text)| text),
        "open_us": { "median": median, "max": max },
        "ok": tally.is_ok(),
    });
    for kind in Problem::ALL {
        object[kind.name()] = count(tally, kind).into();
    }
    object
}
