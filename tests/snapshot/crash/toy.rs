//! Tests of the engine on a protocol of four steps: it detects every injected fault, and none in
//! the correct protocol.

use std::{collections::BTreeSet, io::ErrorKind, time::Instant};

use flatspan::snapshot::{HeapName, JournalNumber, LogicalFile, StorageBackend as _};

use super::crash::{Counts, Fault, Limits, Mutation, Op, Recorder, crash_again, crash_everywhere};

const DATA: LogicalFile = LogicalFile::Journal(JournalNumber::FIRST);
const FLAG: LogicalFile = LogicalFile::Heap(HeapName::A);
const PART: u64 = 64 << 10;

fn data(seed: u8) -> Vec<u8> {
    vec![seed; 3000]
}

/// Writes data and syncs it, then writes a flag that marks the data as present and syncs it, then
/// acknowledges.
fn run(disk: &Recorder, seed: u8) -> std::io::Result<()> {
    disk.create(DATA)?;
    disk.create(FLAG)?;
    disk.write(DATA, 0, &data(seed))?;
    disk.sync(DATA)?;
    disk.write(FLAG, 0, &[1])?;
    disk.sync(FLAG)?;
    disk.mark(u64::from(seed));
    Ok(())
}

/// Checks that a set flag implies the data, and an acknowledgement implies both.
fn check(image: &Recorder) -> Result<(), String> {
    let mut flag = [0];
    let is_set = image.read(FLAG, 0, &mut flag).is_ok() && flag == [1];
    let mut found = vec![0; 3000];
    let is_there = image.read(DATA, 0, &mut found).is_ok() && found == data(7);
    match image.marks().as_slice() {
        [] if is_set && !is_there => Err("flag without its data".to_owned()),
        [7] if !(is_set && is_there) => Err("acknowledged data is lost".to_owned()),
        _ => Ok(()),
    }
}

fn recorded() -> Recorder {
    let disk = Recorder::new(PART);
    run(&disk, 7).expect("a disk that works");
    disk
}

#[track_caller]
fn assert_found(mutation: Mutation) {
    let mutant = recorded()
        .mutated(mutation)
        .expect("log has a position for the mutation");
    let found = crash_everywhere(&mutant, &Limits::default(), &check);
    assert!(found.is_err(), "{mutation:?} was not found: {found:?}");
}

#[test]
fn correct_protocol_passes() {
    let counts = crash_everywhere(&recorded(), &Limits::default(), &check).expect("right");
    assert!(
        counts.checked > 20 && counts.made > counts.checked,
        "{counts:?}"
    );
}

#[test]
fn missing_first_sync_is_detected() {
    assert_found(Mutation::DropSync(0));
    assert_found(Mutation::DropSyncsOf(DATA));
}

#[test]
fn missing_last_sync_is_detected() {
    assert_found(Mutation::DropSync(1));
}

#[test]
fn flag_before_its_data_is_detected() {
    assert_found(Mutation::SwapAcrossSync(0));
}

#[test]
fn missing_directory_sync_is_detected() {
    assert_found(Mutation::DropSyncDirs);
    assert!(recorded().mutated(Mutation::DropSyncDir(9)).is_none());
}

#[test]
fn torn_write_is_detected() {
    let disk = Recorder::new(PART);
    disk.create(DATA).expect("created");
    disk.sync(DATA).expect("a sync");
    disk.write(DATA, 100, &[7; 1000]).expect("a write");
    let is_whole = |image: &Recorder| {
        let mut found = [0; 1000];
        match image.read(DATA, 100, &mut found) {
            Ok(()) if found == [7; 1000] => Ok(()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    assert!(crash_everywhere(&disk, &Limits::default(), &is_whole).is_err());
    // A write within one sector is never torn.
    let disk = Recorder::new(PART);
    disk.create(DATA).expect("created");
    disk.set_len(DATA, 4096).expect("set_len");
    disk.sync(DATA).expect("a sync");
    disk.write(DATA, 512, &[7; 512]).expect("a write");
    let is_whole = |image: &Recorder| {
        let mut found = [0; 512];
        match image.read(DATA, 512, &mut found) {
            Ok(()) if found != [7; 512] && found != [0; 512] => Err("torn".to_owned()),
            _ => Ok(()),
        }
    };
    crash_everywhere(&disk, &Limits::default(), &is_whole).expect("whole sectors");
}

#[test]
fn length_and_bytes_of_an_extension_are_lost_independently() {
    let disk = Recorder::new(PART);
    disk.create(DATA).expect("created");
    disk.sync(DATA).expect("a sync");
    disk.write(DATA, 0, &[7; 100]).expect("a write");
    disk.write(DATA, 100, &[8; 100]).expect("a write");
    let seen = std::cell::RefCell::new(BTreeSet::new());
    let look = |image: &Recorder| {
        let len = image.len(DATA).unwrap_or(0);
        let mut bytes = vec![0; len as usize];
        // The file may not exist.
        drop(image.read(DATA, 0, &mut bytes));
        seen.borrow_mut()
            .insert((len, bytes.first().copied(), bytes.last().copied()));
        Ok(())
    };
    crash_everywhere(&disk, &Limits::default(), &look).expect("check accepts everything");
    let seen = seen.into_inner();
    for wanted in [
        (0, None, None),
        (100, Some(7), Some(7)),
        (100, Some(0), Some(0)),
        (200, Some(7), Some(8)),
        (200, Some(0), Some(8)),
        (200, Some(7), Some(0)),
        (200, Some(0), Some(0)),
    ] {
        assert!(seen.contains(&wanted), "{wanted:?} of {seen:?}");
    }
}

#[test]
fn lost_removals_and_renames_restore_the_names() {
    let disk = Recorder::unpublished(PART);
    run(&disk, 7).expect("a disk that works");
    disk.publish().expect("published");
    disk.remove(DATA).expect("removed");
    disk.create(DATA).expect("created again");
    let seen = std::cell::RefCell::new(BTreeSet::new());
    let look = |image: &Recorder| {
        let found = image.len(DATA).ok();
        seen.borrow_mut().insert((image.is_published(), found));
        Ok(())
    };
    crash_everywhere(&disk, &Limits::default(), &look).expect("check accepts everything");
    let wanted = [
        (false, None),
        (true, None),
        (true, Some(0)),
        (true, Some(3000)),
    ];
    assert_eq!(seen.into_inner(), BTreeSet::from(wanted));
}

#[test]
fn recovery_is_crashed_two_levels_deep() {
    // Recovery writes in two steps without a sync between them, so a crash tears the result.
    let recover = |image: &Recorder| -> Result<(), String> {
        check(image)?;
        let mut two = [0; 2];
        if image.len(FLAG).is_ok_and(|len| len >= 1026) {
            image
                .read(FLAG, 1024, &mut two)
                .map_err(|error| error.to_string())?;
            if two == [0, 1] {
                return Err("half of the recovery is missing".to_owned());
            }
        }
        if !image.marks().is_empty() {
            let write = |at, byte| image.write(FLAG, at, &[byte]);
            write(1024, 1)
                .and_then(|()| write(1025, 1))
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    let limits = Limits {
        again_every: 1,
        ..Limits::default()
    };
    let found = crash_everywhere(&recorded(), &limits, &recover);
    assert!(found.is_err_and(|text| text.starts_with("half") && text.matches("crash").count() > 1));

    let count = |depth| {
        let limits = Limits {
            depth,
            ..limits.clone()
        };
        let repeat = |image: &Recorder| {
            check(image)?;
            let len = image.len(DATA).unwrap_or(0);
            if flatspan::snapshot::StorageBackend::files(image)
                .is_ok_and(|arrays| arrays.contains(&DATA))
                && len < 3010
            {
                image
                    .write(DATA, len, b"recovered")
                    .map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        crash_everywhere(&recorded(), &limits, &repeat)
            .expect("right")
            .checked_again
    };
    let (never, once, twice) = (count(0), count(1), count(2));
    assert!(never == 0 && once > 10 && twice > once, "{once}, {twice}");
    let image = recorded();
    image.write(FLAG, 5000, b"more").expect("a write");
    assert!(crash_again(&image, &limits, &check).is_ok());
}

#[test]
fn failed_call_never_harms_acknowledged_data() {
    let calls = recorded().calls();
    assert_eq!(calls, 6);
    for fault in [
        Fault::Io,
        Fault::StorageFull,
        Fault::Interrupted,
        Fault::ShortWrite,
    ] {
        for call in 0..calls {
            let disk = Recorder::new(PART);
            disk.fail_nth(call, fault);
            let error = run(&disk, 7).expect_err("planned");
            assert_eq!(error.raw_os_error(), fault.error().raw_os_error());
            crash_everywhere(&disk, &Limits::default(), &check).expect("crash only removes data");
        }
    }
    let disk = Recorder::new(PART);
    disk.fail_from_nth(2, Fault::Io);
    assert!(run(&disk, 7).is_err() && disk.sync(FLAG).is_err() && disk.len(FLAG).is_err());
}

#[test]
fn i03_data_of_a_failed_sync_is_readable_until_dropped_from_the_page_cache() {
    let disk = Recorder::new(PART);
    disk.create(DATA).expect("created");
    disk.write(DATA, 0, b"old").expect("a write");
    disk.sync(DATA).expect("a sync");
    disk.write(DATA, 0, b"new").expect("a write");
    disk.fail_nth(0, Fault::Io);
    assert!(disk.sync(DATA).is_err());
    let read = |disk: &Recorder| {
        let mut found = [0; 3];
        disk.read(DATA, 0, &mut found).map(|()| found)
    };
    assert_eq!(read(&disk).expect("a read"), *b"new");
    assert!(disk.sync(DATA).is_err(), "sync keeps failing");
    let seen = std::cell::RefCell::new(BTreeSet::new());
    let look = |image: &Recorder| {
        seen.borrow_mut().extend(read(image));
        Ok(())
    };
    crash_everywhere(&disk, &Limits::default(), &look).expect("check accepts everything");
    assert!(seen.borrow().contains(b"old") && seen.borrow().contains(b"new"));
    disk.drop_page_cache(DATA).expect("forgotten");
    assert_eq!(read(&disk).expect("a read"), *b"old");
}

#[test]
fn recorder_keeps_parts_contiguous_in_every_image() {
    let disk = Recorder::new(PART);
    disk.create(DATA).expect("created");
    disk.write(DATA, 10, &vec![1; 3 * PART as usize])
        .expect("a write");
    disk.sync(DATA).expect("a sync");
    disk.set_len(DATA, PART / 2).expect("file is truncated");
    disk.set_len(DATA, 2 * PART + 1).expect("grown");
    disk.create(FLAG).expect("created");
    disk.clone_range(DATA, FLAG, 5..2 * PART + 1)
        .expect("cloned");
    disk.remove(DATA).expect("removed");
    let is_row = |image: &Recorder| match image.len(DATA) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    };
    crash_everywhere(&disk, &Limits::default(), &is_row).expect("no gap");
    let careless = disk.mutated(Mutation::DropSyncsOf(DATA)).expect("some");
    assert!(crash_everywhere(&careless, &Limits::default(), &is_row).is_err());
}

#[test]
fn many_images_are_checked_within_seconds() {
    let disk = Recorder::new(1 << 20);
    disk.create(DATA).expect("created");
    disk.write(DATA, 0, &vec![1; 40 * 4096]).expect("a write");
    disk.sync(DATA).expect("a sync");
    for epoch in 0..8_u64 {
        for write in 0..12_u64 {
            let at = (epoch * 5 + write * 3) % 40 * 4096;
            disk.write(DATA, at, &[(epoch * 12 + write) as u8; 4096])
                .expect("a write");
        }
        disk.sync(DATA).expect("a sync");
    }
    let started = Instant::now();
    let limits = Limits {
        depth: 0,
        ..Limits::default()
    };
    let counts: Counts = crash_everywhere(&disk, &limits, &|image| {
        let mut buf = vec![0; 40 * 4096];
        image
            .read(DATA, 0, &mut buf)
            .or_else(|error| match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::NotFound => Ok(()),
                _ => Err(error.to_string()),
            })
    })
    .expect("check accepts everything");
    assert!(counts.checked > 20_000, "{counts:?}");
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    println!("{counts:?} in {:?}", started.elapsed());
    assert!(disk.log().iter().any(|op| matches!(op, Op::SyncDir)));
}
