//! The power fails at the planned operation, and exactly the synced data survives.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::FileExt as _,
    path::Path,
};

use crate::support::power::{Lie, Plan, PowerFs};

fn sync_directory(path: &Path) {
    let directory = File::open(path).expect("open");
    directory.sync_all().expect("fsyncdir");
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function for `map_err`"
)]
fn kind(error: std::io::Error) -> ErrorKind {
    error.kind()
}

#[test]
fn unsynced_data_is_lost_after_a_power_cut() {
    let Some(fs) = PowerFs::new() else { return };
    let path = |name: &str| fs.path().join(name);
    for name in ["kept", "nameless", "gone"] {
        fs::write(path(name), b"first").expect("write");
    }
    File::open(path("kept"))
        .and_then(|file| file.sync_all())
        .expect("fsync");
    sync_directory(fs.path());
    fs::write(path("late"), b"synced, but for its name").expect("write");
    File::open(path("late"))
        .and_then(|file| file.sync_all())
        .expect("fsync");
    let kept = OpenOptions::new()
        .write(true)
        .open(path("kept"))
        .expect("open");
    kept.write_all_at(b"second", 0).expect("write");
    drop(kept);
    fs::remove_file(path("gone")).expect("unlink");
    fs::rename(path("nameless"), path("named")).expect("rename");
    assert_eq!(fs::read(path("kept")).expect("read"), b"second");

    fs.begin_again(Plan::NO_CUT);
    assert_eq!(fs::read(path("kept")).expect("read"), b"first");
    assert_eq!(fs::read(path("gone")).expect("its name was"), b"");
    assert_eq!(fs::read(path("nameless")).expect("its name was"), b"");
    for name in ["late", "named"] {
        assert_eq!(fs::read(path(name)).map_err(kind), Err(ErrorKind::NotFound));
    }
}

#[test]
fn every_operation_fails_after_the_planned_one() {
    let Some(fs) = PowerFs::new() else { return };
    let plan = |operations_max| Plan {
        operations_max,
        ..Plan::NO_CUT
    };
    let work = || -> std::io::Result<()> {
        let file = File::create(fs.path().join("file"))?;
        file.write_all_at(b"1", 0)?;
        file.sync_all()?;
        fs::create_dir(fs.path().join("directory"))?;
        File::open(fs.path())?.sync_all()?;
        fs::rename(fs.path().join("file"), fs.path().join("directory/file"))?;
        fs::remove_file(fs.path().join("directory/file"))
    };
    fs.begin_empty(Plan::NO_CUT);
    work().expect("power");
    let progress = fs.progress();
    assert_eq!((progress.operations, progress.is_cut), (7, false));
    for at in 0..7 {
        fs.begin_empty(plan(at));
        let error = work().expect_err("no power");
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{at}");
        assert!(fs.progress().is_cut);
        assert!(fs::read_dir(fs.path()).is_err());
        fs.begin_again(Plan::NO_CUT);
        // The entry is durable with the sync of the directory.
        let found = fs::read(fs.path().join("file"));
        assert_eq!(
            found.map_err(kind),
            match at {
                0..5 => Err(ErrorKind::NotFound),
                _ => Ok(b"1".to_vec()),
            }
        );
    }
}

#[test]
fn unsynced_write_may_survive_torn() {
    let Some(fs) = PowerFs::new() else { return };
    let mut torn = 0;
    for survivors_seed in 1..=30 {
        fs.begin_empty(Plan {
            survivors_seed,
            ..Plan::NO_CUT
        });
        let path = fs.path().join("file");
        fs::write(&path, vec![1; 4096]).expect("write");
        File::open(&path)
            .and_then(|file| file.sync_all())
            .expect("fsync");
        sync_directory(fs.path());
        let file = OpenOptions::new().write(true).open(&path).expect("open");
        file.write_all_at(&[2; 4096], 0).expect("write");
        drop(file);
        fs.begin_again(Plan::NO_CUT);
        let found = fs::read(&path).expect("read");
        assert_eq!(found.len(), 4096);
        let is_whole = |sector: &[u8]| sector == [1; 512] || sector == [2; 512];
        assert!(found.chunks(512).all(is_whole));
        torn += usize::from(found.contains(&1) && found.contains(&2));
    }
    assert!(torn >= 5, "{torn} of 30");
}

#[test]
fn false_sync_leaves_no_data() {
    let Some(fs) = PowerFs::new() else { return };
    fs.begin_empty(Plan {
        lie: Lie::Always,
        ..Plan::NO_CUT
    });
    let path = fs.path().join("file");
    fs::write(&path, b"bytes").expect("write");
    File::open(&path)
        .and_then(|file| file.sync_all())
        .expect("said to be done");
    sync_directory(fs.path());
    fs.begin_again(Plan::NO_CUT);
    assert_eq!(fs::read(&path).map_err(kind), Err(ErrorKind::NotFound));
}
