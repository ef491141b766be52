//! What a journal knows after records were given up.

use std::sync::Arc;

use super::disk::{Array, Disk};
use super::format::{Body, Change, RecordKind, StoreId};
use super::journal::Journal;
use super::seeded::{Op, Recorder};

/// Of a new store.
fn journal(syncs: bool) -> (Arc<Recorder>, Journal) {
    let disk = Arc::new(Recorder::new(64 << 10));
    let store = StoreId([7; 16]);
    let journal = Journal::new(disk.clone(), store, syncs, (0, 0), 0, 1);
    (disk, journal)
}

/// A record with so many bytes. Returns its sequence.
fn append(journal: &Journal, bytes: usize) -> u64 {
    let bytes = vec![1; bytes];
    let body = Body {
        payload_bytes: 4 << 20,
        changes: vec![(0, Change::Bytes(&bytes))],
    };
    journal.make_ready().expect("a file");
    let sequence = journal.append(RecordKind::Pages, true, 1, &body);
    sequence.expect("a sequence")
}

fn writes_and_syncs(disk: &Recorder, number: u64) -> (usize, usize) {
    let of = |array: Array| array == Array::Journal(number);
    let log = disk.log();
    let count = |wanted: fn(&Op) -> Option<Array>| {
        let found = log.iter().filter_map(wanted);
        found.filter(|array| of(*array)).count()
    };
    let writes = count(|op| match op {
        Op::Write((array, _), ..) => Some(*array),
        _ => None,
    });
    let syncs = count(|op| match op {
        Op::Sync((array, _), _) => Some(*array),
        _ => None,
    });
    (writes, syncs)
}

#[test]
fn sequences_that_are_given_again_are_written_and_synced_again() {
    for syncs in [true, false] {
        let (disk, journal) = journal(syncs);
        journal.commit_synced(append(&journal, 8)).expect("synced");
        let position = journal.position();
        for _ in 0..3 {
            append(&journal, 8);
        }
        // Somebody waits for one of them.
        journal.commit_synced(4).expect("synced");
        journal.give_up_from(position);
        assert_eq!(journal.durable(), 1);
        assert_eq!(append(&journal, 8), 2);
        let before = writes_and_syncs(&disk, 2);
        journal.commit(2).expect("durable");
        journal.commit_synced(2).expect("synced");
        let after = writes_and_syncs(&disk, 2);
        assert_eq!(after.0, before.0 + 1, "{syncs}");
        assert!(after.1 > before.1, "{syncs}");
    }
}

#[test]
fn nothing_is_asked_of_the_file_of_records_that_were_given_up_and_synced() {
    let (disk, journal) = journal(true);
    journal.commit(append(&journal, 8)).expect("durable");
    let position = journal.position();
    append(&journal, 2 << 20);
    journal.write_ahead().expect("written");
    journal.give_up_from(position);
    // As the next base does.
    disk.remove(Array::Journal(1)).expect("removed");
    journal.commit(append(&journal, 8)).expect("durable");
}

#[test]
fn what_goes_before_records_that_were_given_up_is_synced_when_it_must_be() {
    let (disk, journal) = journal(false);
    journal.commit(append(&journal, 8)).expect("written");
    let position = journal.position();
    append(&journal, 2 << 20);
    journal.write_ahead().expect("written");
    journal.give_up_from(position);
    journal.commit(append(&journal, 8)).expect("written");
    let before = [1, 2].map(|number| writes_and_syncs(&disk, number).1);
    journal.commit_synced(2).expect("synced");
    for (number, before) in [1, 2].into_iter().zip(before) {
        assert!(writes_and_syncs(&disk, number).1 > before, "{number}");
    }
}
