//! What rots on disks in memory, beside the bits of `crashes::rot`: headers, tails and holes of the journal, a base of writers. Each
//! is healed, or told, or an error; and an opening that fails has written nothing.

use flatspan::snapshot::{Array, Damage, Disk as _, HeapName, SnapshotError};

use crate::crash::{FileId, Limits, Recorder, crash_everywhere};
use crate::crashes::workloads::{TRANSACTIONS, WRITERS, Way, recorded};

const STEPS: u64 = 8;
const NEWEST: Array = Array::Heap(HeapName::A);
const HALF: u64 = 32 << 10;
const BLOCK: u64 = 4096;

/// Both heaps and a journal, left as by a crash.
fn settled(way: Way) -> Recorder {
    let disk = recorded(way, STEPS, false).settled();
    let store = way.open(&disk.settled()).expect("a store");
    let report = store.open_report();
    assert_eq!(Array::Heap(report.heap), NEWEST);
    assert!(report.replayed_records > 0, "{report:?}");
    disk
}

#[track_caller]
fn assert_nothing_written(disk: &Recorder) {
    let log = disk.log();
    let written: Vec<_> = log.iter().filter(|op| op.is_change()).collect();
    assert!(written.is_empty(), "{written:?}");
}

#[test]
fn bits_behind_metadata_are_never_read() {
    let disk = settled(TRANSACTIONS);
    for half in [0, HALF] {
        for bit in (BLOCK * 8..HALF * 8).step_by(1009) {
            let rotten = disk.settled();
            rotten.flip((NEWEST, 0), half * 8 + bit);
            let store = TRANSACTIONS.open(&rotten).expect("a store");
            let report = store.open_report();
            assert_eq!(TRANSACTIONS.look(&store), Ok(STEPS));
            assert!(
                report.healed.is_empty() && report.fell_back.is_none(),
                "{report:?}"
            );
        }
    }
}

#[test]
fn a_heap_whose_headers_are_both_bad_is_written_anew() {
    for at in [100, BLOCK - 3] {
        for newest in [NEWEST, Array::Heap(HeapName::B)] {
            let disk = settled(TRANSACTIONS);
            disk.overwrite((newest, 0), at, &[1]);
            disk.overwrite((newest, 0), HALF + at, &[1]);
            // Two bases: into this heap, then into the other one, so that all hangs on this.
            let store = TRANSACTIONS
                .open(&disk)
                .expect("the other heap and the journal");
            for number in STEPS + 1..STEPS + 3 {
                TRANSACTIONS.step(&disk, &store, number).expect("a step");
                store.checkpoint_base().expect("a base");
            }
            drop(store);
            let store = TRANSACTIONS.open(&disk).expect("a store");
            let report = store.open_report();
            assert!(report.healed.is_empty(), "{report:?}");
            let other = match newest {
                Array::Heap(heap) => Array::Heap(heap.other()),
                _ => unreachable!("heaps"),
            };
            // Now without the other one.
            let alone = disk.settled();
            alone.lose(other);
            let store = TRANSACTIONS.open(&alone).expect("the heap written anew");
            assert_eq!(TRANSACTIONS.look(&store), Ok(STEPS + 2));
        }
    }
}

/// Where the last two records begin, and the file ends.
fn last_records(disk: &Recorder) -> (FileId, [u64; 3]) {
    let files = disk.files().into_iter();
    let mut journals =
        files.filter(|((array, _), len)| matches!(array, Array::Journal(_)) && *len > BLOCK);
    let (file, len) = journals.next_back().expect("records");
    let mut bytes = vec![0; len as usize];
    disk.read(file.0, 0, &mut bytes).expect("read");
    let places: Vec<u64> = (0..len - 7)
        .step_by(8)
        .filter(|at| bytes[*at as usize..].starts_with(b"FSRC"))
        .collect();
    let [.., before, last] = places[..] else {
        panic!("{places:?}")
    };
    (file, [before, last, len])
}

#[test]
fn a_torn_tail_is_cut_and_named() {
    let disk = settled(TRANSACTIONS);
    let (file, [_, last, len]) = last_records(&disk);
    disk.overwrite(file, len - 8, &[0xEE; 8]);
    let store = TRANSACTIONS.open(&disk).expect("a store");
    let [cut] = &store.open_report().cuts[..] else {
        panic!("{:?}", store.open_report())
    };
    assert_eq!(Array::Journal(cut.journal), file.0);
    assert_eq!((cut.offset, cut.bytes), (last, len - last));
    assert_eq!(TRANSACTIONS.look(&store), Ok(STEPS - 1));
}

#[test]
fn h21_a_hole_below_a_durable_mark_is_damage() {
    let disk = settled(TRANSACTIONS);
    let (file, [before, last, _]) = last_records(&disk);
    disk.overwrite(file, before, &vec![0; (last - before) as usize]);
    let error = TRANSACTIONS.open(&disk).expect_err("damage");
    assert!(
        matches!(&error, SnapshotError::Damaged { array, offset, what: Damage::Record { .. } }
            if *array == file.0 && *offset == before),
        "{error}"
    );
    assert!(error.to_string().contains("was durable and cannot be read"));
    assert_nothing_written(&disk);
}

/// METADATA with other fields, and the checksum for them.
pub(crate) fn forged(block: &mut [u8], fields: &[(usize, &[u8])]) {
    for (at, bytes) in fields {
        block[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let checksum = xxhash_rust::xxh3::xxh3_128(&block[..4080]);
    block[4080..4096].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_damaged_last_record_of_a_store_closed_in_order_is_an_error() {
    let disk = settled(TRANSACTIONS);
    let end = TRANSACTIONS.open(&disk.settled()).expect("a store");
    let end = end.open_report().sequence.to_le_bytes();
    for copy in [0, HALF] {
        let mut block = [0; BLOCK as usize];
        let read = disk.settled();
        read.read(NEWEST, copy, &mut block).expect("METADATA");
        forged(&mut block, &[(36, &[1]), (112, &end)]);
        disk.overwrite((NEWEST, 0), copy, &block);
    }
    let whole = disk.settled();
    let store = TRANSACTIONS.open(&whole).expect("nothing is missing");
    assert!(store.open_report().was_closed);
    let (file, [_, last, _]) = last_records(&disk);
    let disk = disk.settled();
    disk.flip(file, (last + 60) * 8);
    let error = TRANSACTIONS.open(&disk).expect_err("the end is missing");
    assert!(
        matches!(&error, SnapshotError::Damaged { array, what: Damage::Record { .. }, .. }
            if *array == file.0),
        "{error}"
    );
    assert_nothing_written(&disk);
}

/// A base of writers holds what no delta has.
#[test]
fn a_base_of_writers_that_rots_is_told_and_given_up_for_good() {
    // Nothing is on top of it: the delta before it comes back, and the store goes on from there.
    let disk = recorded(WRITERS, 6, false).settled();
    disk.flip((NEWEST, 1), 8);
    let store = WRITERS.open(&disk).expect("the other heap");
    let why = store.open_report().fell_back.clone().expect("it says so");
    assert!(
        why.contains("heap a, generation") && why.contains("page"),
        "{why}"
    );
    assert_eq!(WRITERS.look(&store), Ok(5));
    WRITERS.touch(&store, 5).expect("declared");
    store.checkpoint_delta().expect("a delta on the older heap");
    let again = disk.settled();
    let found = WRITERS.look(&WRITERS.open(&again).expect("a store"));
    assert_eq!(found, Ok(5));
    for number in 6..9 {
        WRITERS.step(&disk, &store, number).expect("a step");
        let again = disk.settled();
        let store = WRITERS.open(&again).expect("a store");
        assert_eq!(WRITERS.look(&store), Ok(number));
        assert_eq!(store.open_report().fell_back, None);
    }
    drop(store);
    crash_everywhere(&disk, &Limits::default(), &|image| {
        // What was acknowledged before the rot is lost with it.
        let acknowledged = match image.marks()[..] {
            [.., last] if image.marks().len() > 6 => last,
            _ => 5,
        };
        let store = WRITERS.open(image).map_err(|error| format!("{error:?}"))?;
        match WRITERS.look(&store)? {
            found if found >= acknowledged => Ok(()),
            found => Err(format!(
                "{found} after {acknowledged}: {:?}",
                store.open_report()
            )),
        }
    })
    .expect("no crash brings the base back");
    // What lies on top of the lost base cannot come back without it.
    let disk = recorded(WRITERS, 7, false).settled();
    disk.flip((NEWEST, 1), 8);
    let store = WRITERS.open(&disk).expect("the other heap");
    assert!(store.open_report().fell_back.is_some());
    assert_eq!(WRITERS.look(&store), Ok(5), "{:?}", store.open_report());
    // It is written down at once: with the bit as it was, the base does not come back over it.
    drop(store);
    let again = disk.settled();
    again.flip((NEWEST, 1), 8);
    let store = WRITERS.open(&again).expect("the other heap");
    assert_eq!(WRITERS.look(&store), Ok(5), "{:?}", store.open_report());
}
