//! Two groups over the same files, compared with a model while several threads use them.
//!
//! The files are divided into stripes. Only the owner of a stripe, a thread, changes its bytes, and
//! records each version. Every thread reads everything. The bytes of each stripe must be those of a
//! version that was current during the read, and all stripes of one owner must be of one moment.
//! Only the home of a file, a thread, truncates it. The errors of each operation are enumerated.
//!
//! The second group has hard links of the files, in another order and often in another cache.
//!
//! `FLATSPAN_MODEL_SECONDS` sets the duration of a run. A run consists of scenarios, each with a
//! seed. A failing scenario prints its seed, and `FLATSPAN_SEED` repeats it first. Threads race, so
//! a repeated scenario does the same operations in another order.

mod activity;
mod allowed;
mod changes;
mod checks;
mod content;
mod copies;
mod file;
mod hints;
mod kept;
mod layout_changes;
mod lengths;
mod model;
mod outputs;
mod plan;
mod reading;
mod scenario;
mod sockets;
mod stripe;
mod whole;
mod worker;

use std::time::{Duration, Instant};

use crate::{
    content::Rng,
    support::{
        campaign::{self, number},
        child::{self, Child},
        skips::say,
    },
};
use checks::Resources;
use scenario::Scenario;
use worker::Tally;

const SECONDS_VARIABLE: &str = "FLATSPAN_MODEL_SECONDS";

/// Operations of each thread in a round.
const ROUND: u64 = 150;
/// Rounds of a scenario.
const ROUNDS: u64 = 12;

fn seconds() -> u64 {
    number(SECONDS_VARIABLE).unwrap_or_else(|| if campaign::is_full() { 60 } else { 5 })
}

#[test]
fn groups_agree_with_the_model_while_threads_use_them() {
    let name = "concurrent_model::groups_agree_with_the_model_while_threads_use_them";
    if child::is_me(name) {
        return run(Duration::from_secs(seconds()));
    }
    // Leaks are counted in a process of its own. The child is killed if it hangs.
    let timeout = Duration::from_secs(seconds() + 300);
    let Some(done) = Child::new(name).timeout(timeout).run() else {
        return;
    };
    done.assert_passed();
    println!("{}", done.stderr);
}

/// Runs scenarios until the time has passed, at least one.
fn run(duration: Duration) {
    let started = Instant::now();
    let first = number("FLATSPAN_SEED").unwrap_or_else(|| {
        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
        now.as_nanos() as u64
    });
    let mut tally = Tally::new();
    let mut seed = first;
    loop {
        // Printed before, so that it is known even if the scenario hangs or kills the process.
        say(&format!("FLATSPAN_SEED={seed}\n"));
        for (name, count) in scenario(seed) {
            *tally.entry(name).or_default() += count;
        }
        if started.elapsed() >= duration {
            break;
        }
        seed = Rng::new(seed).next();
    }
    let operations: u64 = tally.values().sum();
    say(&format!(
        "{operations} operations in {:?}: {tally:#?}\n",
        started.elapsed()
    ));
}

fn scenario(seed: u64) -> Tally {
    let before = Resources::now();
    let mut rng = Rng::new(seed);
    let mut scenario = Scenario::new(&mut rng);
    for _ in 0..ROUNDS {
        if rng.percent(70) {
            scenario.round(&[0, 1], ROUND, &mut rng, |_| ());
        } else {
            scenario.change_beside(ROUND, &mut rng);
        }
        scenario.check_budgets();
        scenario.check_files();
        scenario.change_alone(&mut rng);
    }
    scenario.check_groups();
    let tally = std::mem::take(&mut scenario.tally);
    scenario.end();
    assert_eq!(Resources::now(), before, "seed {seed}");
    tally
}
