//! The history of `shm-restore`: the states before the newest one.

use std::fs;
use std::path::Path;

use flatspan::snapshot::{History, HistorySnapshot};
use rustix::process::{Pid, Signal, kill_process};

use crate::client;
use crate::freeze_mode::{start, wait_until};
use crate::programs::{expect, said};
use crate::signalling::ended;
use crate::states::{directory, newest, shell};
use crate::support::filesystem::{Kind, SmallFs};

const BYTES: usize = 10_000;

fn fill(byte: u8) -> String {
    client::words(&format!("fill {byte} {BYTES}"))
}

fn kept(store: &Path) -> Vec<HistorySnapshot> {
    History::new(store).list().expect("a list")
}

fn bytes(kept: &[HistorySnapshot]) -> Vec<u8> {
    kept.iter().map(|kept| newest(kept.path())[0]).collect()
}

#[test]
fn the_last_states_are_kept_and_can_be_restored() {
    let directory = directory();
    let store = directory.path().join("store");
    expect(0, &mut shell(&[], &store, &fill(1)));
    assert!(kept(&store).is_empty(), "no history was requested");
    for byte in 2..=5 {
        expect(0, &mut shell(&["--keep-last=3"], &store, &fill(byte)));
    }
    assert_eq!(bytes(&kept(&store)), [3, 4, 5]);
    // An unchanged state is not added to the history.
    expect(0, &mut shell(&["--keep-last=3"], &store, "true"));
    assert_eq!(bytes(&kept(&store)), [3, 4, 5]);
    // Without the option, existing snapshots of the history are not changed.
    expect(0, &mut shell(&[], &store, &fill(6)));
    assert_eq!(bytes(&kept(&store)), [3, 4, 5]);

    let listed = expect(
        0,
        crate::programs::clean(env!("CARGO_BIN_EXE_flatspan"))
            .arg("history")
            .arg(&store),
    );
    for kept in kept(&store) {
        assert!(listed.contains(&kept.name()), "{listed}");
    }
    let name = kept(&store)[1].name();
    let mut rollback = crate::programs::clean(env!("CARGO_BIN_EXE_flatspan"));
    expect(0, rollback.arg("rollback").arg(&store).arg(name));
    assert_eq!(
        bytes(&kept(&store)),
        [3, 4, 5, 6],
        "the replaced state is kept"
    );
    expect(0, &mut shell(&[], &store, "true"));
    assert_eq!(newest(&store)[0], 4);
    // The next state has a generation of its own.
    expect(0, &mut shell(&["--keep-last=9"], &store, &fill(8)));
    assert_eq!(bytes(&kept(&store)), [3, 4, 5, 6, 8]);

    expect(0, &mut shell(&["--keep-last=0"], &store, &fill(7)));
    assert!(kept(&store).is_empty());
}

#[test]
fn a_history_failure_is_reported_and_the_snapshot_succeeds() {
    // More than the preallocated space of a journal.
    const MUCH: usize = 8 << 20;
    let Some(small) = SmallFs::new(Kind::Tmpfs, 48 << 20) else {
        return;
    };
    let store = small.path().join("store");
    let fill = |byte: u8| client::words(&format!("fill {byte} {MUCH}"));
    // Then both heaps contain all of it.
    for byte in [1, 2, 1, 2] {
        expect(0, &mut shell(&[], &store, &fill(byte)));
    }
    small.fill_leaving(1 << 20);
    let said = expect(0, &mut shell(&["--keep-last=2"], &store, &fill(3)));
    assert!(said.contains("not added to the history"), "{said}");
    assert!(said.contains("No space left"), "{said}");
    assert!(newest(&store) == [3; MUCH]);
    assert!(kept(&store).is_empty());
    small.unfill();
    let said = expect(
        0,
        &mut shell(&["--keep-last=2", "--json"], &store, &fill(4)),
    );
    assert!(said.contains("\"event\":\"history_added\""), "{said}");
    expect(0, &mut shell(&["--keep-last=2"], &store, &fill(5)));
    assert_eq!(bytes(&kept(&store)), [4, 5]);
    // Without space for a third copy beside them.
    small.fill_leaving(4 << 20);
    expect(0, &mut shell(&["--keep-last=2"], &store, &fill(6)));
    assert_eq!(bytes(&kept(&store)), [5, 6]);
    expect(0, &mut shell(&["--keep-last=1"], &store, &fill(7)));
    assert_eq!(bytes(&kept(&store)), [7]);
}

#[test]
fn the_final_snapshot_does_not_wait_for_the_history() {
    let directory = directory();
    let store = directory.path().join("store");
    expect(0, &mut shell(&["--keep-last=2"], &store, &fill(1)));
    let lock = fs::File::open(store.join("history/lock")).expect("a lock");
    lock.lock().expect("ours");
    let mut host = start(&mut shell(&["--keep-last=2"], &store, &fill(2)));
    wait_until("the last snapshot", || newest(&store)[0] == 2);
    // Then it waits for its turn.
    assert!(host.0.try_wait().expect("a status").is_none());
    let pid = Pid::from_child(&host.0);
    wait_until("the host ends", || {
        // Signals that arrive while the command runs are meant for the command.
        kill_process(pid, Signal::INT).expect("the file exists");
        host.0.try_wait().expect("a status").is_some()
    });
    let output = ended(host);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("interrupted"), "{}", said(&output));
    drop(lock);
    expect(0, &mut shell(&["--keep-last=2"], &store, &fill(3)));
    assert_eq!(bytes(&kept(&store)), [1, 3]);
}
