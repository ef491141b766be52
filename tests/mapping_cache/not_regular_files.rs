//! Anything that is not a regular file, or not at an allowed location, is refused by name. Nothing
//! hangs.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use flatspan::mapping_cache::{Access, CachedFile, FileOptions, Location, MappingError};

use crate::{
    fixture::{PAGE, assert_reads, cache, put, reader, writable, writer},
    support::{temp_dir, user::as_ordinary_user},
};

#[test]
fn ordinary_user_tests_pass() {
    as_ordinary_user("ordinary_user::");
}

/// Runs a closure that may hang, with a time limit.
fn within_seconds<T: Send + 'static>(seconds: u64, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(run()));
    let timeout = Duration::from_secs(seconds);
    receiver
        .recv_timeout(timeout)
        .expect("the closure returns in time")
}

/// Asserts that every way to reach the file fails with "not a regular file". Returns the reported
/// file type.
#[track_caller]
fn found_at(directory: &Path, name: &'static str) -> &'static str {
    let directory = directory.to_owned();
    let kinds = within_seconds(20, move || {
        let cache = cache(4);
        let reading = reader(&cache, &directory, name, PAGE);
        let writing = writer(&cache, &directory, name, PAGE);
        [
            reading.read_at(0, &mut [0; 8]).err(),
            reading.pin(0, Access::ReadOnly).err(),
            reading.actual_bytes().err(),
            writing.write_at(0, b"x").err(),
            writing.pin(0, Access::ReadWrite).err(),
        ]
    });
    let mut found = None;
    for error in kinds {
        match error.expect("the path is not a regular file") {
            MappingError::NotRegularFile { path, found: kind } => {
                assert!(path.ends_with(name), "{}", path.display());
                found = Some(kind);
            }
            error => panic!("{name}: {error:?}"),
        }
    }
    found.expect("five errors")
}

#[test]
fn a_directory_is_not_a_regular_file() {
    let directory = temp_dir();
    fs::create_dir(directory.path().join("a")).expect("mkdir");
    assert_eq!(found_at(directory.path(), "a"), "a directory");
}

#[test]
fn a_fifo_is_not_a_regular_file_and_does_not_hang() {
    let directory = temp_dir();
    let made = Command::new("mkfifo")
        .arg(directory.path().join("a"))
        .status();
    assert!(made.expect("mkfifo").success());
    assert!(found_at(directory.path(), "a").contains("FIFO"));
}

#[test]
fn a_socket_is_not_a_regular_file() {
    let directory = temp_dir();
    let _socket = UnixListener::bind(directory.path().join("a")).expect("a socket");
    assert!(found_at(directory.path(), "a").contains("a socket"));
}

#[test]
fn a_symlink_is_not_a_regular_file() {
    let directory = temp_dir();
    put(directory.path(), "target", 1, PAGE);
    symlink("target", directory.path().join("a")).expect("a symlink");
    symlink("/etc/passwd", directory.path().join("b")).expect("a symlink");
    symlink("nowhere", directory.path().join("c")).expect("a symlink");
    for name in ["a", "b", "c"] {
        assert_eq!(found_at(directory.path(), name), "a symlink");
    }
    assert!(
        !directory.path().join("nowhere").exists(),
        "the target was not created"
    );
}

#[test]
fn a_path_through_a_symlink_is_refused() {
    let directory = temp_dir();
    fs::create_dir(directory.path().join("real")).expect("mkdir");
    put(&directory.path().join("real"), "a", 1, PAGE);
    symlink("real", directory.path().join("link")).expect("a symlink");
    let cache = cache(4);
    let through = writer(&cache, directory.path(), "link/a", PAGE);
    let refused = [
        through.read_at(0, &mut [0; 8]).err(),
        through.write_at(0, b"x").err(),
        writer(&cache, directory.path(), "link/new", PAGE)
            .write_at(0, b"x")
            .err(),
        writer(&cache, directory.path(), "link/deep/new", PAGE)
            .write_at(0, b"x")
            .err(),
    ];
    for refused in refused {
        let refused = refused.expect("the path contains a symlink");
        assert!(
            !matches!(refused, MappingError::NotFound { .. }),
            "{refused:?}"
        );
    }
    let names = fs::read_dir(directory.path().join("real")).expect("the directory");
    assert_eq!(names.count(), 1, "no file was created through the link");
    assert_reads(
        &reader(&cache, directory.path(), "real/a", PAGE),
        1,
        0,
        PAGE,
    );
}

#[test]
fn paths_outside_the_root_are_refused_before_opening() {
    let root: Arc<Path> = Arc::from(Path::new("/tmp"));
    for path in [
        "../a",
        "a/../../b",
        "a/../b",
        "/etc/passwd",
        "",
        ".",
        "a/..",
    ] {
        let refused = Location::beneath(Arc::clone(&root), PathBuf::from(path));
        assert!(
            matches!(refused, Err(MappingError::OutsideRoot { .. })),
            "{path:?}: {refused:?}"
        );
    }
    Location::beneath(root, PathBuf::from("./a/./b")).expect("the path stays below the root");
}

fn unrestricted_file(path: PathBuf, options: FileOptions) -> CachedFile {
    let location = Location::unrestricted(Arc::from(Path::new("/")), path);
    cache(4).file(location, PAGE as u64, options)
}

#[test]
fn an_unrestricted_location_follows_symlinks_to_regular_files_only() {
    let directory = temp_dir();
    put(directory.path(), "target", 1, PAGE);
    symlink("target", directory.path().join("a")).expect("a symlink");
    let file = unrestricted_file(directory.path().join("a"), FileOptions::default());
    assert_reads(&file, 1, 0, PAGE);
    for (path, kind) in [("/dev/null", "a device"), ("/dev", "a directory")] {
        let file = unrestricted_file(path.into(), FileOptions::default());
        let refused = file.read_at(0, &mut [0; 8]);
        assert!(
            matches!(refused, Err(MappingError::NotRegularFile { found, .. }) if found == kind),
            "{path}: {refused:?}"
        );
    }
    let device = unrestricted_file("/dev/null".into(), writable());
    let refused = device.write_at(0, b"x");
    assert!(matches!(refused, Err(MappingError::NotRegularFile { .. })));
}

#[test]
fn a_missing_file_is_not_found_and_may_appear_later() {
    let directory = temp_dir();
    let cache = cache(4);
    let file = reader(&cache, directory.path(), "a", PAGE);
    let refused = [
        file.read_at(0, &mut [0; 8]).err(),
        file.pin(0, Access::ReadOnly).err(),
        file.actual_bytes().err(),
    ];
    for refused in refused {
        let refused = refused.expect("the file does not exist");
        assert_eq!(refused.kind(), std::io::ErrorKind::NotFound);
        assert!(matches!(refused, MappingError::NotFound { .. }));
    }
    file.sync().expect("no file was written");
    put(directory.path(), "a", 1, PAGE);
    assert_reads(&file, 1, 0, PAGE);
}

#[test]
fn an_empty_file_has_no_windows() {
    let directory = temp_dir();
    put(directory.path(), "a", 1, 0);
    let cache = cache(4);
    let file = writer(&cache, directory.path(), "a", 0);
    assert_eq!(file.read_at(0, &mut [0; 8]).expect("a read"), 0);
    file.write_at(0, &[]).expect("an empty write");
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let refused = file.pin(0, access);
        assert!(matches!(refused, Err(MappingError::FileTooShort { .. })));
    }
    file.sync().expect("a sync");
    assert_eq!(cache.stats().mappings, 0);
}
