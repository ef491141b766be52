//! Filesystems can be mounted and filled, and leave nothing after a drop.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    panic,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::support::filesystem::{Kind, SmallFs};

#[test]
fn tmpfs_fills_and_unmounts() {
    fills_and_unmounts(Kind::Tmpfs);
}

#[test]
fn ext4_fills_and_unmounts() {
    fills_and_unmounts(Kind::Ext4);
}

#[test]
fn xfs_fills_and_unmounts() {
    fills_and_unmounts(Kind::Xfs);
}

#[test]
fn btrfs_fills_and_unmounts() {
    fills_and_unmounts(Kind::Btrfs);
}

#[test]
fn panic_with_an_open_file_leaves_nothing() {
    let mut path = None;
    let mut open = None;
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let Some(fs) = SmallFs::new(Kind::Ext4, 0) else {
            return;
        };
        path = Some(fs.path().to_owned());
        open = File::create(fs.path().join("open")).ok();
        panic::resume_unwind(Box::new("as a failed assertion does"));
    }));
    let Some(path) = path else { return };
    assert!(outcome.is_err());
    assert!(
        !path.exists(),
        "not unmounted lazily, or its directory is not removed"
    );
    drop(open);
    assert_gone(&path);
}

fn fills_and_unmounts(kind: Kind) {
    let Some(fs) = SmallFs::new(kind, 16 << 20) else {
        return;
    };
    let path = fs.path().to_owned();
    assert!(fs.free() >= 4 << 20, "{kind:?}: {} bytes free", fs.free());

    let left = fs.fill_leaving(2 << 20);
    assert!(
        (1 << 20..3 << 20).contains(&left),
        "{kind:?}: {left} bytes left"
    );
    fs.unfill();

    fs.fill_leaving(0);
    assert_eq!(
        write(&path, 1 << 20),
        Err(ErrorKind::StorageFull),
        "{kind:?}"
    );
    fs.unfill();
    assert_eq!(write(&path, 1 << 20), Ok(()), "{kind:?}");

    drop(fs);
    assert_gone(&path);
}

fn write(directory: &Path, bytes: usize) -> Result<(), ErrorKind> {
    let write = || {
        let mut file = File::create(directory.join("file"))?;
        file.write_all(&vec![7; bytes])?;
        file.sync_all()
    };
    write().map_err(|error: std::io::Error| error.kind())
}

fn assert_gone(mount: &Path) {
    let directory = mount.parent().expect("a directory");
    assert!(!directory.exists(), "{} is left", directory.display());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let directory = directory.to_str().expect("UTF-8");
    assert!(!mounts.contains(directory), "{directory} is mounted");
    // The kernel releases a loop device with a delay.
    let deadline = Instant::now() + Duration::from_secs(5);
    while loop_devices().iter().any(|image| image.contains(directory)) {
        assert!(
            Instant::now() < deadline,
            "a loop device of {directory} is left"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

fn loop_devices() -> Vec<String> {
    let devices = fs::read_dir("/sys/block").expect("/sys/block").flatten();
    devices
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok())
        .collect()
}
