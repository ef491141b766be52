//! Each mode of the FUSE daemon refuses its operations, and no others.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use memmap2::{MmapOptions, MmapRaw};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use crate::support::fuse::{FuseFs, Mode};

const ENODEV: Option<i32> = Some(libc::ENODEV);

#[test]
fn plain_mode_maps_allocates_and_syncs() {
    let Some(fs) = FuseFs::new(Mode::Plain) else {
        return;
    };
    let file = new_file(fs.path(), "plain");
    fallocate(&file, FallocateFlags::empty(), 0, 100_000).expect("fallocate");
    assert_eq!(file.metadata().expect("metadata").len(), 100_000);
    let mapping = MmapRaw::map_raw(&file).expect("a shared writable mapping");
    mapping.flush().expect("msync");
    drop(mapping);
    file.write_all_at(b"across the end", 99_990).expect("write");
    file.sync_all().expect("fsync");
    let mut last = [0; 14];
    file.read_exact_at(&mut last, 99_990).expect("read");
    assert_eq!(&last, b"across the end");

    let log = fs.log();
    for line in [
        "create plain",
        "fallocate plain 0 100000",
        "write plain 99990 14",
        "fsync plain",
    ] {
        assert!(log.iter().any(|found| found == line), "{line:?} in {log:?}");
    }
}

#[test]
fn directories_names_and_lengths_work() {
    let Some(fs) = FuseFs::new(Mode::Plain) else {
        return;
    };
    let directory = fs.path().join("a/b");
    fs::create_dir_all(&directory).expect("mkdir");
    fs::write(directory.join("old"), vec![1; 200_000]).expect("write");
    fs::rename(directory.join("old"), fs.path().join("new")).expect("rename");
    assert_eq!(
        fs::read(directory.join("old")).map_err(|e| e.kind()),
        Err(ErrorKind::NotFound)
    );

    let file = OpenOptions::new()
        .write(true)
        .open(fs.path().join("new"))
        .expect("open");
    file.set_len(100).expect("shorter");
    file.set_len(70_000).expect("longer");
    let bytes = fs::read(fs.path().join("new")).expect("read");
    assert!(bytes[..100].iter().all(|byte| *byte == 1));
    assert!(bytes.len() == 70_000 && bytes[100..].iter().all(|byte| *byte == 0));

    let mut names: Vec<_> = fs::read_dir(fs.path())
        .expect("readdir")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["a", "new"]);
    fs::remove_file(fs.path().join("new")).expect("unlink");
    fs::remove_dir_all(fs.path().join("a")).expect("rmdir");
}

#[test]
fn direct_io_mode_refuses_shared_mappings_only() {
    let Some(fs) = FuseFs::new(Mode::DirectIo) else {
        return;
    };
    let file = new_file(fs.path(), "direct");
    file.write_all_at(&[5; 5000], 0).expect("write");
    let refused = MmapRaw::map_raw(&file).map(drop);
    assert_eq!(refused.expect_err("writable").raw_os_error(), ENODEV);
    let refused = MmapOptions::new().map_raw_read_only(&file).map(drop);
    assert_eq!(refused.expect_err("read-only").raw_os_error(), ENODEV);
    let mut bytes = [0; 5000];
    file.read_exact_at(&mut bytes, 0).expect("read");
    assert_eq!(bytes, [5; 5000]);
}

#[test]
fn no_fallocate_mode_still_maps() {
    let Some(fs) = FuseFs::new(Mode::NoFallocate) else {
        return;
    };
    let file = new_file(fs.path(), "file");
    let refused = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 4096);
    assert_eq!(refused, Err(Errno::OPNOTSUPP));
    file.set_len(4096).expect("set_len");
    MmapRaw::map_raw(&file).expect("a shared writable mapping");
}

#[test]
fn sync_fails_once_mode_fails_only_the_first_sync() {
    let Some(fs) = FuseFs::new(Mode::SyncFailsOnce) else {
        return;
    };
    let file = new_file(fs.path(), "file");
    file.write_all_at(b"data", 0).expect("write");
    let failed = file.sync_data().expect_err("the first");
    assert_eq!(failed.raw_os_error(), Some(libc::EIO));
    file.sync_data().expect("the second");
    assert_eq!(
        fs.log().iter().filter(|line| *line == "fsync file").count(),
        2
    );
}

#[test]
fn no_mmap_mode_reads_and_writes_but_fills_no_pages() {
    let Some(fs) = FuseFs::new(Mode::NoMmap) else {
        return;
    };
    let mut file = new_file(fs.path(), "file");
    file.write_all_at(&[6; 5000], 0).expect("write");
    let refused = MmapOptions::new().map_raw_read_only(&file).map(drop);
    assert_eq!(refused.expect_err("shared").raw_os_error(), ENODEV);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    assert_eq!(bytes, [6; 5000]);
}

#[test]
fn killed_daemon_returns_errors_and_leaves_nothing() {
    let Some(fs) = FuseFs::new(Mode::Plain) else {
        return;
    };
    let path = fs.path().to_owned();
    let file = new_file(&path, "file");
    let daemon = i32::try_from(fs.daemon_id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(daemon.expect("a process id"), rustix::process::Signal::KILL)
        .expect("kill");
    let mut attempts = (0..1000).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(2));
        file.sync_all()
    });
    assert!(
        attempts.any(|result| result.is_err()),
        "the filesystem still answers"
    );
    drop(fs);
    assert!(!path.exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(path.to_str().expect("UTF-8")));
}

fn new_file(directory: &Path, name: &str) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(directory.join(name))
        .expect("create")
}
