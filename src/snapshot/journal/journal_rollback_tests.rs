//! Tests of the journal after records were discarded.

use std::sync::Arc;

use super::journal_writer::{Journal, JournalStart};
use crate::numbers::JournalNumber;
use crate::snapshot::backend::StorageBackend as _;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{Body, Change, RecordKind, StoreId};
use crate::snapshot::testing::{Op, Recorder};

/// Returns the journal of a new store.
fn journal(syncs: bool) -> (Arc<Recorder>, Journal) {
    let disk = Arc::new(Recorder::new(64 << 10));
    let store = StoreId([7; 16]);
    let start = JournalStart {
        sequence: 0,
        chain: 0,
        floor: 0,
        next_number: JournalNumber::FIRST,
    };
    let journal = Journal::new(Arc::<Recorder>::clone(&disk), store, syncs, start);
    (disk, journal)
}

/// Appends a record of `bytes` bytes and returns its sequence number.
fn append(journal: &Journal, bytes: usize) -> u64 {
    let bytes = vec![1; bytes];
    let body = Body {
        payload_bytes: 4 << 20,
        changes: vec![(0, Change::Bytes(&bytes))],
    };
    journal.make_ready().expect("the backend works");
    let sequence = journal.append(RecordKind::Pages, true, 1, &body);
    sequence.expect("the journal is intact")
}

fn writes_and_syncs(disk: &Recorder, number: u64) -> (usize, usize) {
    let number = JournalNumber::new(number).expect("above 0");
    let of = |array: LogicalFile| array == LogicalFile::Journal(number);
    let log = disk.log();
    let count = |wanted: fn(&Op) -> Option<LogicalFile>| {
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
fn reused_sequence_numbers_are_written_and_synced_again() {
    for syncs in [true, false] {
        let (disk, journal) = journal(syncs);
        journal.commit_synced(append(&journal, 8)).expect("synced");
        let position = journal.position();
        for _ in 0..3 {
            append(&journal, 8);
        }
        // A thread waits for one of the records.
        journal.commit_synced(4).expect("synced");
        journal.rollback_to(position);
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
fn the_file_of_discarded_synced_records_is_not_used_again() {
    let (disk, journal) = journal(true);
    journal.commit(append(&journal, 8)).expect("durable");
    let position = journal.position();
    append(&journal, 2 << 20);
    journal.write_ahead().expect("written");
    journal.rollback_to(position);
    // The next base checkpoint removes the file.
    disk.remove(LogicalFile::Journal(JournalNumber::FIRST))
        .expect("removed");
    journal.commit(append(&journal, 8)).expect("durable");
}

#[test]
fn records_before_discarded_ones_are_synced_on_demand() {
    let (disk, journal) = journal(false);
    journal.commit(append(&journal, 8)).expect("written");
    let position = journal.position();
    append(&journal, 2 << 20);
    journal.write_ahead().expect("written");
    journal.rollback_to(position);
    journal.commit(append(&journal, 8)).expect("written");
    let before = [1, 2].map(|number| writes_and_syncs(&disk, number).1);
    journal.commit_synced(2).expect("synced");
    for (number, before) in [1, 2].into_iter().zip(before) {
        assert!(writes_and_syncs(&disk, number).1 > before, "{number}");
    }
}
