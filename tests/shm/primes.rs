//! The example `primes`.

use std::sync::atomic::Ordering;

use flatspan::shm::Memfd;

use crate::inherited_fds::{InheritedFds, path_of};
use crate::programs::{clean, expect, primes};

pub(crate) const TABLE_BYTES: u64 = 1_000_000;

/// The number of primes in the table, after a comparison with a sieve of all numbers.
#[track_caller]
pub(crate) fn count_checked(memory: &Memfd) -> usize {
    let table = memory.map_mut(0..TABLE_BYTES).expect("a table");
    let words = table
        .words()
        .iter()
        .map(|word| word.load(Ordering::Acquire));
    let found: Vec<u64> = words.take_while(|word| *word != 0).collect();
    let last = found.last().copied().unwrap_or(1);
    assert!(last < 2_000_000, "{last}");
    assert_eq!(found, all_primes(last));
    found.len()
}

fn all_primes(last: u64) -> Vec<u64> {
    let mut is_composite = vec![false; last as usize + 1];
    let mut primes = Vec::new();
    for number in 2..=last as usize {
        if !is_composite[number] {
            primes.push(number as u64);
            (number * number..=last as usize)
                .step_by(number)
                .for_each(|at| is_composite[at] = true);
        }
    }
    primes
}

fn on(memory: &Memfd) -> std::process::Command {
    InheritedFds::files([path_of(memory)])
        .named("SHM_SHARED_FD")
        .command(primes())
}

#[test]
fn a_run_adds_a_thousand_primes_and_a_full_table_is_printed() {
    let memory = Memfd::create("table", 0).expect("a memfd");
    for run in 1..125 {
        let said = expect(0, &mut on(&memory));
        assert!(
            said.starts_with(&format!(
                "1000 new primes, {run}000 of 125000, the last is "
            )),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1);
    }
    for new in [1000, 0] {
        let said = expect(0, &mut on(&memory));
        assert!(
            said.ends_with(&format!(
                "{new} new primes, 125000 of 125000, the last is 1655131\n"
            )),
            "{said}"
        );
        let mut lines: Vec<&str> = said.lines().collect();
        lines.pop();
        let numbers: Vec<u64> = lines
            .iter()
            .flat_map(|line| line.split(' '))
            .map(|number| number.parse().expect("a number"))
            .collect();
        assert_eq!(numbers, all_primes(1_655_131));
        assert_eq!(count_checked(&memory), 125_000);
    }
    assert_eq!(expect(0, on(&memory).arg("--brief")).lines().count(), 1);
}

#[test]
fn without_a_memfd_the_error_names_it() {
    let said = expect(2, &mut clean(primes()));
    assert!(
        said.contains("SHM_SHARED_FD") && said.contains("LISTEN_FDS is not set"),
        "{said}"
    );
    let said = expect(
        2,
        &mut InheritedFds::files(["/dev/null"])
            .named("web")
            .command(primes()),
    );
    assert!(said.contains("web"), "{said}");
    let said = expect(
        2,
        &mut InheritedFds::files(["/dev/null"])
            .named("SHM_SHARED_FD")
            .command(primes()),
    );
    assert!(said.contains("/dev/null"), "{said}");
}

#[test]
fn a_memfd_that_cannot_grow_is_an_error() {
    let memory = Memfd::create("table", TABLE_BYTES - 1).expect("a memfd");
    memory.seal_grow().expect("a seal");
    let said = expect(2, &mut on(&memory));
    assert!(said.contains("cannot extend the memfd"), "{said}");
}

#[test]
fn a_memfd_with_other_content_is_not_changed() {
    for words in [&[1, 2][..], &[2, 3, 3], &[2, u64::MAX]] {
        let memory = Memfd::create("table", TABLE_BYTES).expect("a memfd");
        let table = memory
            .map_mut(0..TABLE_BYTES)
            .expect("the mapping succeeds");
        let stored = table.words().iter().zip(words);
        stored.for_each(|(place, word)| place.store(*word, Ordering::Relaxed));
        let said = expect(1, &mut on(&memory));
        assert!(said.contains("does not hold a table"), "{said}");
        assert_eq!(table.words()[words.len()].load(Ordering::Relaxed), 0);
    }
}

/// However the program ends, the table is complete up to its last entry.
#[test]
fn a_killed_run_is_continued() {
    let memory = Memfd::create("table", TABLE_BYTES).expect("a memfd");
    let table = memory.map(0..TABLE_BYTES).expect("the mapping succeeds");
    for round in 1..=5 {
        let before = count_checked(&memory);
        let mut running = crate::manager::Killed(
            on(&memory)
                .args(["--pause", "500"])
                .spawn()
                .expect("the program starts"),
        );
        while table.load(before + 37 * round) == Some(0) {
            assert!(
                running.0.try_wait().expect("its status").is_none(),
                "the program has ended"
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        drop(running);
        assert!(count_checked(&memory) > before + 37 * round);
    }
    let before = count_checked(&memory);
    let said = expect(0, on(&memory).arg("--brief"));
    assert!(
        said.starts_with(&format!("1000 new primes, {} of", before + 1000)),
        "{said}"
    );
    assert_eq!(count_checked(&memory), before + 1000);
}
