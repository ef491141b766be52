//! Power cuts on a real kernel: stores on a filesystem that loses unsynced data, with a cut after
//! every operation.
//!
//! The workloads and the condition are those of [`crashes`](crate::crashes), which crashes a
//! backend in memory. Here the whole stack is tested: positioned writes, names of files and
//! directories, and the syncs that the library requests from the kernel.
//!
//! If there are too many operations, the cuts are spread over them. With `FLATSPAN_POWER_ALL` set,
//! every operation is cut, and more subsets of the unsynced data are drawn for each.

use std::cell::Cell;
use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use flatspan::snapshot::{Store, StoreError};

use crate::crashes::judge::judge_found;
use crate::crashes::workloads::{Ground, PART_BYTES, RESIZING, TRANSACTIONS, WRITERS, Way, run};
use crate::support::campaign;
use crate::support::power::{Lie, Plan, PowerFs};

/// Limit per workload and flavour.
const CUTS_MAX: u64 = 150;

const PANICKED: &str = "a panic:";

/// Work until the power cut.
#[derive(Clone, Copy, Debug)]
struct Work {
    way: Way,
    steps: u64,
    closes: bool,
}

/// State after the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    /// Only synced data.
    Synced,
    /// Also a part of the rest.
    Survivors,
    /// As `Survivors`, with a second power cut while the store is opened and used.
    Twice,
}

/// Store on the filesystem, and its acknowledged steps.
struct Powered<'f> {
    fs: &'f PowerFs,
    acknowledged: Cell<u64>,
    /// A forbidden result that a store reported.
    wrong: Cell<Option<String>>,
}

impl<'f> Powered<'f> {
    fn new(fs: &'f PowerFs) -> Self {
        Self {
            fs,
            acknowledged: Cell::new(0),
            wrong: Cell::new(None),
        }
    }

    fn check_cut(&self, way: Way, store: &Store) -> Result<(), String> {
        let acknowledged = self.acknowledged.get();
        if !self.fs.progress().is_cut {
            return Err("an error, and the power is on".to_owned());
        }
        // The present step may be in memory, and is not acknowledged.
        let found = way.look(store)?;
        if !(acknowledged..=acknowledged + 1).contains(&found) {
            return Err(format!("step {found} in memory after step {acknowledged}"));
        }
        let go_on = || {
            if found == 0 {
                way.begin(store)?;
            }
            way.step(&Silent, store, found + 1)
        };
        match go_on() {
            Ok(()) => Err("a step was acknowledged without power".to_owned()),
            Err(_) => Ok(()),
        }
    }
}

impl Ground for Powered<'_> {
    fn open(&self, way: Way) -> Result<Store, StoreError> {
        // The parent directory is created with it.
        let part_bytes = way.part_bytes.unwrap_or(PART_BYTES);
        let options = || way.options().part_bytes(part_bytes);
        let open = || Store::open(self.fs.path().join("made/store"), options());
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match open() {
                // Another test may be starting a daemon. Between fork and exec that process holds
                // the locks of this one too.
                Err(StoreError::InUse { .. }) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                opened => return opened,
            }
        }
    }

    fn mark(&self, number: u64) {
        self.acknowledged.set(number);
    }

    fn gave_up(&self, way: Way, store: &Store) {
        self.wrong.set(self.check_cut(way, store).err());
    }
}

/// Ground that notes nothing.
struct Silent;

impl Ground for Silent {
    fn open(&self, _way: Way) -> Result<Store, StoreError> {
        unreachable!("opened by `Powered`")
    }

    fn mark(&self, _number: u64) {}
}

impl Work {
    /// Makes one cut. `Err` describes a forbidden result.
    fn cut(self, fs: &PowerFs, flavour: Flavour, plan: Plan) -> Result<(), String> {
        let ground = Powered::new(fs);
        fs.begin_empty(plan);
        let outcome = guarded(|| Ok(run(self.way, &ground, self.steps, self.closes)))?;
        if let Some(wrong) = ground.wrong.take() {
            return Err(wrong);
        }
        // The absence of an error is correct if the cut hit only the removal of obsolete files.
        let progress = fs.progress();
        if let (Err(error), false) = (outcome, progress.is_cut) {
            return Err(format!("no power cut, but {error:?}"));
        }
        let judged = match flavour {
            Flavour::Twice => self.cut_again(fs, &ground, plan),
            _ => Ok(()),
        };
        judged
            .and_then(|()| {
                fs.begin_again(Plan::NO_CUT);
                guarded(|| judge_found(self.way, &ground, ground.acknowledged.get()))
            })
            .map_err(|why| format!("power cut after `{}`: {why}", progress.last))
    }

    /// Cuts the power again while the store is opened and used. Failing is correct; a wrong result
    /// is not.
    fn cut_again(self, fs: &PowerFs, ground: &Powered<'_>, plan: Plan) -> Result<(), String> {
        fs.begin_again(Plan {
            operations_max: plan.survivors_seed % 60,
            ..plan
        });
        let judged = guarded(|| judge_found(self.way, ground, ground.acknowledged.get()));
        let is_wrong = |why: &String| {
            let wrong = [PANICKED, "came back", "is wrong"];
            wrong.iter().any(|wrong| why.contains(wrong)) || !fs.progress().is_cut
        };
        match judged {
            Err(why) if is_wrong(&why) => Err(why),
            _ => Ok(()),
        }
    }

    /// Cuts the power after every operation, or after a selection of them.
    fn cut_everywhere(self, flavour: Flavour, round: u64) {
        let Some(fs) = PowerFs::new() else { return };
        let begun = Instant::now();
        let operations = self.operations(&fs);
        let (first, step) = spread(operations, flavour as u64 + round);
        let cuts = (first..=operations).step_by(step as usize);
        let count = cuts.clone().count();
        for at in cuts {
            let plan = plan(at, flavour, round);
            self.cut(&fs, flavour, plan).unwrap_or_else(|why| {
                panic!("{self:?}, {flavour:?}: {plan:?}: {why}");
            });
        }
        println!(
            "{self:?}, {flavour:?}, round {round}: {count} cuts of {operations} operations \
             (from {first} by {step}), 0 forbidden, {:?}",
            begun.elapsed()
        );
    }

    /// Returns the number of operations without a power cut.
    fn operations(self, fs: &PowerFs) -> u64 {
        let ground = Powered::new(fs);
        fs.begin_empty(Plan::NO_CUT);
        run(self.way, &ground, self.steps, self.closes).expect("power");
        fs.progress().operations
    }
}

/// Runs `work`, and reports a panic as an error.
fn guarded<R>(work: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>();
        Err(format!("{PANICKED} {text:?}"))
    })
}

fn plan(operations_max: u64, flavour: Flavour, round: u64) -> Plan {
    // Distinct seeds.
    let seed = 1_000_003 * (1 + operations_max) + 7919 * round;
    let survivors_seed = match flavour {
        Flavour::Synced => 0,
        Flavour::Survivors => seed,
        Flavour::Twice => seed + 500,
    };
    Plan {
        operations_max,
        survivors_seed,
        lie: Lie::Never,
    }
}

/// Returns the first cut and the distance to the next.
fn spread(operations: u64, seed: u64) -> (u64, u64) {
    if all() {
        return (0, 1);
    }
    let step = operations.div_ceil(campaign::scaled(CUTS_MAX)).max(1);
    // Different operations in each run.
    (seed % step, step)
}

fn all() -> bool {
    env::var_os("FLATSPAN_POWER_ALL").is_some()
}

fn power_cut_in_all_flavours(work: Work) {
    let rounds = match (all(), campaign::is_full()) {
        (true, _) => 20,
        (false, true) => 2,
        (false, false) => 1,
    };
    work.cut_everywhere(Flavour::Synced, 0);
    for round in 0..rounds {
        work.cut_everywhere(Flavour::Survivors, round);
        work.cut_everywhere(Flavour::Twice, round);
    }
}

#[test]
fn power_cut_of_transactions_and_bases_leaves_a_valid_state() {
    power_cut_in_all_flavours(Work {
        way: TRANSACTIONS,
        steps: 7,
        closes: false,
    });
}

#[test]
fn power_cut_of_a_resizing_store_leaves_a_valid_state() {
    power_cut_in_all_flavours(Work {
        way: RESIZING,
        steps: 7,
        closes: false,
    });
}

#[test]
fn power_cut_of_deltas_and_bases_leaves_a_valid_state() {
    power_cut_in_all_flavours(Work {
        way: WRITERS,
        steps: 6,
        closes: false,
    });
}

#[test]
fn i18_closed_store_survives_power_cuts_without_syncs() {
    let Some(fs) = PowerFs::new() else { return };
    for way in [TRANSACTIONS.weak(), WRITERS.weak()] {
        let ground = Powered::new(&fs);
        fs.begin_empty(Plan::NO_CUT);
        let store = ground.open(way).expect("a store");
        way.begin(&store).expect("memory matches the model");
        for number in 1..=5 {
            way.step(&ground, &store, number).expect("a step");
        }
        store.close().expect("closed");
        fs.begin_again(Plan::NO_CUT);
        let judged = judge_found(way, &ground, 5);
        judged.unwrap_or_else(|why| panic!("{way:?}: {why}"));
    }
}

#[test]
fn power_cut_of_closing_and_opening_leaves_a_valid_state() {
    for way in [TRANSACTIONS, WRITERS] {
        power_cut_in_all_flavours(Work {
            way,
            steps: 3,
            closes: true,
        });
    }
}

/// Makes steps on an existing store, and a cut that leaves only synced data.
fn step_and_cut(fs: &PowerFs, ground: &Powered<'_>, from: u64) {
    let way = TRANSACTIONS;
    let store = ground.open(way).expect("a store");
    for number in from..from + 2 {
        way.step(ground, &store, number).expect("a step");
    }
    // Dropping the store does not sync pending writes.
    drop(store);
    fs.begin_again(Plan::NO_CUT);
    let judged = judge_found(way, ground, from + 1);
    judged.unwrap_or_else(|why| panic!("after step {from}: {why}"));
}

#[test]
fn i19_parent_directories_are_durable_for_every_creator() {
    let Some(fs) = PowerFs::new() else { return };
    let ground = Powered::new(&fs);
    let made = fs.path().join("made");
    fs.begin_empty(Plan::NO_CUT);
    // Created by a process that was killed before it published its store.
    fs::create_dir(&made).expect("a directory");
    step_and_cut(&fs, &ground, 1);
    // Created by a process that was killed between renaming the store and syncing the rename.
    fs::rename(made.join("store"), made.join("moved")).expect("renamed");
    let synced = fs::File::open(&made).and_then(|directory| directory.sync_all());
    synced.expect("synced");
    fs::rename(made.join("moved"), made.join("store")).expect("renamed");
    // `judge_found` has made one more step.
    step_and_cut(&fs, &ground, 4);
}

/// Returns the first cut that leaves a forbidden state if syncs do nothing.
fn first_forbidden(work: Work, lie: Lie) -> Option<String> {
    let fs = PowerFs::new()?;
    let operations = work.operations(&fs);
    let found = (0..=operations).find_map(|at| {
        let plan = Plan {
            lie,
            ..plan(at, Flavour::Synced, 0)
        };
        let why = work.cut(&fs, Flavour::Synced, plan).err()?;
        Some(format!("{lie:?}, after {at} of {operations}: {why}"))
    });
    Some(
        found
            .unwrap_or_else(|| panic!("{lie:?}: no forbidden state after {operations} operations")),
    )
}

#[test]
fn power_cuts_reveal_missing_syncs() {
    let work = Work {
        way: RESIZING,
        steps: 7,
        closes: false,
    };
    for lie in [
        Lie::Always,
        Lie::OfJournals,
        Lie::OfHeaps,
        Lie::OfDirectories,
    ] {
        if let Some(found) = first_forbidden(work, lie) {
            println!("{found}");
        }
    }
}
