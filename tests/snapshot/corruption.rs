//! Corruption on backends in memory, in addition to the bits of `crashes::corruption`: headers,
//! tails and holes of the journal, a base checkpoint of tracked memory.
//!
//! Each is repaired, reported, or an error. An opening that fails has written nothing.

use flatspan::snapshot::{CorruptionCause, HeapName, LogicalFile, StorageBackend as _, StoreError};

use crate::crash::{FileId, Limits, Recorder, crash_everywhere};
use crate::crashes::workloads::{TRANSACTIONS, WRITERS, Way, recorded};

const STEPS: u64 = 8;
const NEWEST: LogicalFile = LogicalFile::Heap(HeapName::A);
const HALF: u64 = 32 << 10;
const BLOCK: u64 = 4096;

/// Returns both heaps and a journal as after a crash.
fn durable_copy(way: Way) -> Recorder {
    let disk = recorded(way, STEPS, false).durable_copy();
    let store = way.open(&disk.durable_copy()).expect("a store");
    let report = store.open_report();
    assert_eq!(LogicalFile::Heap(report.heap), NEWEST);
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
fn bytes_after_metadata_are_never_read() {
    let disk = durable_copy(TRANSACTIONS);
    for half in [0, HALF] {
        for bit in (BLOCK * 8..HALF * 8).step_by(1009) {
            let corrupt = disk.durable_copy();
            corrupt.flip((NEWEST, 0), half * 8 + bit);
            let store = TRANSACTIONS.open(&corrupt).expect("a store");
            let report = store.open_report();
            assert_eq!(TRANSACTIONS.look(&store), Ok(STEPS));
            assert!(
                report.repaired_metadata.is_empty() && report.fallback_reason.is_none(),
                "{report:?}"
            );
        }
    }
}

#[test]
fn heap_with_two_bad_headers_is_rewritten() {
    for at in [100, BLOCK - 3] {
        for newest in [NEWEST, LogicalFile::Heap(HeapName::B)] {
            let disk = durable_copy(TRANSACTIONS);
            disk.overwrite((newest, 0), at, &[1]);
            disk.overwrite((newest, 0), HALF + at, &[1]);
            // Writes two base checkpoints: into this heap, then into the other one. So recovery
            // depends on this heap.
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
            assert!(report.repaired_metadata.is_empty(), "{report:?}");
            let other = match newest {
                LogicalFile::Heap(heap) => LogicalFile::Heap(heap.other()),
                _ => unreachable!("heaps"),
            };
            // Opens the store without the other heap.
            let alone = disk.durable_copy();
            alone.lose(other);
            let store = TRANSACTIONS.open(&alone).expect("the rewritten heap opens");
            assert_eq!(TRANSACTIONS.look(&store), Ok(STEPS + 2));
        }
    }
}

/// Returns the offsets of the last two records, and the end of the file.
fn last_records(disk: &Recorder) -> (FileId, [u64; 3]) {
    let files = disk.files().into_iter();
    let mut journals =
        files.filter(|((array, _), len)| matches!(array, LogicalFile::Journal(_)) && *len > BLOCK);
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
fn torn_tail_is_ignored_and_reported() {
    let disk = durable_copy(TRANSACTIONS);
    let (file, [_, last, len]) = last_records(&disk);
    disk.overwrite(file, len - 8, &[0xEE; 8]);
    let store = TRANSACTIONS.open(&disk).expect("a store");
    let [tail] = &store.open_report().ignored_tails[..] else {
        panic!("{:?}", store.open_report())
    };
    assert_eq!(LogicalFile::Journal(tail.journal), file.0);
    assert_eq!((tail.offset, tail.len_bytes), (last, len - last));
    assert_eq!(TRANSACTIONS.look(&store), Ok(STEPS - 1));
}

#[test]
fn i21_gap_below_a_durable_mark_is_corruption() {
    let disk = durable_copy(TRANSACTIONS);
    let (file, [before, last, _]) = last_records(&disk);
    disk.overwrite(file, before, &vec![0; (last - before) as usize]);
    let error = TRANSACTIONS.open(&disk).expect_err("damage");
    assert!(
        matches!(&error, StoreError::Corrupt { file: array, offset, cause: CorruptionCause::UnreadableRecord { .. } }
            if *array == file.0 && *offset == before),
        "{error}"
    );
    assert!(error.to_string().contains("was durable and cannot be read"));
    assert_nothing_written(&disk);
}

/// Sets METADATA fields and the matching checksum.
pub(crate) fn forged(block: &mut [u8], fields: &[(usize, &[u8])]) {
    for (at, bytes) in fields {
        block[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let checksum = xxhash_rust::xxh3::xxh3_128(&block[..4080]);
    block[4080..4096].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn corrupt_last_record_after_a_clean_shutdown_is_an_error() {
    let disk = durable_copy(TRANSACTIONS);
    let end = TRANSACTIONS.open(&disk.durable_copy()).expect("a store");
    let end = end.open_report().sequence.get().to_le_bytes();
    for copy in [0, HALF] {
        let mut block = [0; BLOCK as usize];
        let read = disk.durable_copy();
        read.read(NEWEST, copy, &mut block).expect("METADATA");
        forged(&mut block, &[(36, &[1]), (112, &end)]);
        disk.overwrite((NEWEST, 0), copy, &block);
    }
    let whole = disk.durable_copy();
    let store = TRANSACTIONS.open(&whole).expect("complete store opens");
    assert!(store.open_report().clean_shutdown);
    let (file, [_, last, _]) = last_records(&disk);
    let disk = disk.durable_copy();
    disk.flip(file, (last + 60) * 8);
    let error = TRANSACTIONS.open(&disk).expect_err("the end is missing");
    assert!(
        matches!(&error, StoreError::Corrupt { file: array, cause: CorruptionCause::UnreadableRecord { .. }, .. }
            if *array == file.0),
        "{error}"
    );
    assert_nothing_written(&disk);
}

/// A base checkpoint of tracked memory holds changes that no delta has.
#[test]
fn corrupt_tracked_base_is_reported_and_dropped_permanently() {
    // No delta depends on this base: the delta before it is restored, and the store continues from
    // there.
    let disk = recorded(WRITERS, 6, false).durable_copy();
    disk.flip((NEWEST, 1), 8);
    let store = WRITERS.open(&disk).expect("the other heap");
    let why = store
        .open_report()
        .fallback_reason
        .clone()
        .expect("reason is reported");
    assert!(
        why.contains("heap a, generation") && why.contains("page"),
        "{why}"
    );
    assert_eq!(WRITERS.look(&store), Ok(5));
    WRITERS.touch(&store, 5).expect("declared");
    store.checkpoint_delta().expect("a delta on the older heap");
    let again = disk.durable_copy();
    let found = WRITERS.look(&WRITERS.open(&again).expect("a store"));
    assert_eq!(found, Ok(5));
    for number in 6..9 {
        WRITERS.step(&disk, &store, number).expect("a step");
        let again = disk.durable_copy();
        let store = WRITERS.open(&again).expect("a store");
        assert_eq!(WRITERS.look(&store), Ok(number));
        assert_eq!(store.open_report().fallback_reason, None);
    }
    drop(store);
    crash_everywhere(&disk, &Limits::default(), &|image| {
        // Data that was acknowledged before the corruption is lost with it.
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
    // Deltas on top of the lost base cannot be restored without it.
    let disk = recorded(WRITERS, 7, false).durable_copy();
    disk.flip((NEWEST, 1), 8);
    let store = WRITERS.open(&disk).expect("the other heap");
    assert!(store.open_report().fallback_reason.is_some());
    assert_eq!(WRITERS.look(&store), Ok(5), "{:?}", store.open_report());
    // The decision is written at once: the base does not return, even if the bit is restored.
    drop(store);
    let again = disk.durable_copy();
    again.flip((NEWEST, 1), 8);
    let store = WRITERS.open(&again).expect("the other heap");
    assert_eq!(WRITERS.look(&store), Ok(5), "{:?}", store.open_report());
}
