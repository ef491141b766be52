//! Groups compared with plain vectors. Several threads run rounds of operations, each on its own
//! share of the array. Between the rounds the group changes its shape.
//!
//! `FLATSPAN_MODEL_OPS` sets the total number of operations. `FLATSPAN_SEED` repeats a run; a
//! failing run prints its seed. Threads race, so a repeated run does the same operations in another
//! order.

mod files;
mod layout_changes;
mod operations;
mod world;

use std::{env, thread};

use flatspan::mapping_cache::CopyMethod;

use crate::content::{PREALLOCATIONS, Rng};
use crate::support::campaign;
use operations::{Tally, Worker};
use world::World;

const THREADS: usize = 4;
/// Operations of each thread between two changes of shape.
const ROUND: u64 = 60;

/// Prints how to repeat a run if it fails.
struct PrintSeed(u64);

impl Drop for PrintSeed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("repeat this run with FLATSPAN_SEED={}", self.0);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={value}")),
    )
}

/// One third of the operations, with each kind of preallocation.
fn run(copy_path: CopyMethod) {
    let operations = campaign::count("FLATSPAN_MODEL_OPS", 100_000).div_ceil(3);
    let seed = number("FLATSPAN_SEED").unwrap_or_else(|| {
        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
        now.as_nanos() as u64
    });
    let _print_seed = PrintSeed(seed);
    let mut tally = Tally::default();
    for (number, preallocation) in PREALLOCATIONS.into_iter().enumerate() {
        let mut rng = Rng::new(seed.wrapping_add(number as u64));
        let mut world = World::new(copy_path, preallocation, &mut rng);
        let wanted = operations.div_ceil(3) * (number as u64 + 1);
        while tally.operations < wanted {
            tally.add(&round(&mut world, &mut rng));
            world.reshape(&mut rng);
            if tally.rounds % 15 == 0 {
                // Groups only grow: start with a new one before the model does nothing but copy.
                world = World::new(copy_path, preallocation, &mut rng);
            }
        }
    }
    tally.assert_coverage(operations);
}

fn round(world: &mut World, rng: &mut Rng) -> Tally {
    let shares = world.shares(THREADS);
    let workers: Vec<Worker<'_>> = shares
        .into_iter()
        .map(|share| Worker::new(world, share, Rng::new(rng.next())))
        .collect();
    let finished: Vec<_> = thread::scope(|scope| {
        let started: Vec<_> = workers
            .into_iter()
            .map(|worker| scope.spawn(move || worker.work(ROUND)))
            .collect();
        let joined = started.into_iter().map(thread::ScopedJoinHandle::join);
        joined.collect()
    });
    let mut tally = Tally {
        rounds: 1,
        ..Tally::default()
    };
    for result in finished {
        let (outcome, of_worker) = result.expect("a thread found a difference");
        world.files.adopt(&outcome);
        tally.add(&of_worker);
    }
    world.check_budget();
    tally
}

#[test]
fn groups_agree_with_vectors_when_copies_choose_their_way() {
    run(CopyMethod::Auto);
}

#[test]
fn groups_agree_with_vectors_when_copies_go_through_mappings() {
    run(CopyMethod::Mapped);
}

#[test]
fn groups_agree_with_vectors_when_copies_are_positioned() {
    run(CopyMethod::Positioned);
}
