//! `ListenFds` and `FdPassing`, each case in a process of its own, because descriptors are received
//! once.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::process::Command;

use flatspan::shm::{Absence, FdPassing, ListenFds, ShmError};
use tempfile::TempDir;

use crate::inherited_fds::InheritedFds;
use crate::support::{self, child};

/// Files that contain their own names.
fn files(names: &[&str]) -> (TempDir, Vec<std::path::PathBuf>) {
    let directory = support::temp_dir();
    let paths: Vec<_> = names
        .iter()
        .map(|name| directory.path().join(name))
        .collect();
    for (path, name) in paths.iter().zip(names) {
        fs::write(path, name).expect("a file");
    }
    (directory, paths)
}

fn content(fd: OwnedFd) -> String {
    let mut file = File::from(fd);
    let mut text = String::new();
    file.rewind().expect("seek");
    file.read_to_string(&mut text).expect("its name");
    text
}

fn names(received: &ListenFds) -> Vec<&str> {
    received.names().collect()
}

#[test]
fn a_descriptor_is_received_once_by_name_and_not_inherited() {
    const ME: &str = "receiving::a_descriptor_is_received_once_by_name_and_not_inherited";
    if !child::is_me(ME) {
        let (_directory, files) = files(&["one", "two", "three"]);
        let left = InheritedFds::files(files).named(r"a:b\:c:a").with_own_pid();
        return left.run_test(ME).assert_passed();
    }
    let mut received = ListenFds::from_env().expect("three");
    assert_eq!(names(&received), ["a", "b:c", "a"]);
    assert_eq!((received.len(), received.absence()), (3, None));
    let again = ListenFds::from_env().expect_err("descriptors are received only once");
    assert!(matches!(again, ShmError::AlreadyReceived), "{again}");
    for number in [3, 4, 5] {
        let inherited = Command::new("test")
            .args(["-e", &format!("/proc/self/fd/{number}")])
            .status();
        assert!(!inherited.expect("test").success(), "{number}");
    }
    assert_eq!(
        content(received.take("b:c").expect("the file exists")),
        "two"
    );
    assert_eq!(content(received.take("a").expect("the file exists")), "one");
    assert_eq!(
        content(received.take("a").expect("the other file")),
        "three"
    );
    let none = received.take("a").expect_err("all numbers are in use");
    assert!(
        matches!(none, ShmError::NoSuchFd { absent: None, .. }),
        "{none}"
    );
}

#[test]
fn a_single_unnamed_descriptor_is_received() {
    const ME: &str = "receiving::a_single_unnamed_descriptor_is_received";
    if !child::is_me(ME) {
        let (_directory, files) = files(&["one"]);
        let left = InheritedFds::files(files).env("LISTEN_FDS", "1");
        return left.run_test(ME).assert_passed();
    }
    let mut received = ListenFds::from_env().expect("one byte");
    assert_eq!(
        (names(&received), received.has_names()),
        (vec!["unknown"], false)
    );
    let fd = received
        .take("SHM_SHARED_FD")
        .expect("a single descriptor is unambiguous");
    assert_eq!(content(fd), "one");
}

#[test]
fn several_unnamed_descriptors_are_not_guessed() {
    const ME: &str = "receiving::several_unnamed_descriptors_are_not_guessed";
    if !child::is_me(ME) {
        let (_directory, files) = files(&["one", "two"]);
        let left = InheritedFds::files(files).env("LISTEN_FDS", "2");
        return left.run_test(ME).assert_passed();
    }
    let mut received = ListenFds::from_env().expect("two");
    let refused = received
        .take("SHM_SHARED_FD")
        .expect_err("several descriptors are ambiguous");
    assert!(refused.to_string().contains("unknown"), "{refused}");
    assert_eq!(
        content(
            received
                .take("unknown")
                .expect("the files are removed by name")
        ),
        "one"
    );
    // A single remaining descriptor is not guessed to be the requested one.
    let all: Vec<_> = received.into_iter().map(|(_, fd)| content(fd)).collect();
    assert_eq!(all, ["two"]);
}

#[test]
fn descriptors_for_an_ancestor_are_ignored() {
    const ME: &str = "receiving::descriptors_for_an_ancestor_are_ignored";
    if !child::is_me(ME) {
        let (_directory, files) = files(&["one"]);
        let left = InheritedFds::files(files).named("a").env("LISTEN_PID", "1");
        return left.run_test(ME).assert_passed();
    }
    let mut received = ListenFds::from_env().expect("no bytes are left");
    assert_eq!(received.absence(), Some(Absence::ForProcess { pid: 1 }));
    assert!(received.is_empty());
    let none = received
        .take("a")
        .expect_err("the descriptors are for another process");
    assert!(none.to_string().contains("process 1,"), "{none}");
    let inherited = Command::new("test")
        .args(["-e", "/proc/self/fd/3"])
        .status();
    assert!(inherited.expect("test").success(), "still there");
}

#[test]
fn missing_announced_descriptors_are_an_error_and_none_is_received() {
    const ME: &str = "receiving::missing_announced_descriptors_are_an_error_and_none_is_received";
    if !child::is_me(ME) {
        for count in ["2", "99999999", "2147483644"] {
            let (_directory, files) = files(&["one"]);
            let left = InheritedFds::files(files).env("LISTEN_FDS", count);
            left.run_test(ME).assert_passed();
        }
        return;
    }
    for _ in 0..2 {
        let refused = ListenFds::from_env().expect_err("a second writer is refused");
        assert!(
            matches!(
                refused,
                ShmError::FdNotOpen { fd: 4, .. } | ShmError::FdNotInherited { fd: 4, .. }
            ),
            "{refused}"
        );
    }
    let inherited = Command::new("test")
        .args(["-e", "/proc/self/fd/3"])
        .status();
    assert!(inherited.expect("test").success(), "still there");
}

/// A descriptor that this process opened has another owner, whatever the variables announce.
#[test]
fn descriptors_opened_by_this_process_are_not_received() {
    const ME: &str = "receiving::descriptors_opened_by_this_process_are_not_received";
    if !child::is_me(ME) {
        let left = InheritedFds::default().env("LISTEN_FDS", "1");
        return left.run_test(ME).assert_passed();
    }
    let mut own = Vec::new();
    while !fs::exists("/proc/self/fd/3").expect("proc") || own.is_empty() {
        own.push(File::open("/dev/null").expect("a file"));
    }
    let refused = ListenFds::from_env().expect_err("the descriptor belongs to this process");
    assert!(
        matches!(refused, ShmError::FdNotInherited { fd: 3, .. }),
        "{refused}"
    );
}

/// Some of the descriptors received at 3, 4, 5 are passed on in another order: sources and targets
/// overlap and cross.
#[test]
fn overlapping_numbers_are_passed_correctly() {
    const ME: &str = "receiving::overlapping_numbers_are_passed_correctly";
    if !child::is_me(ME) {
        let (_directory, files) = files(&["one", "two", "three"]);
        return InheritedFds::files(files)
            .named("a:b:c")
            .with_own_pid()
            .run_test(ME)
            .assert_passed();
    }
    let mut received = ListenFds::from_env().expect("three");
    let mut hand_over = FdPassing::new();
    for name in ["c", "a", "b"] {
        hand_over
            .push(
                &format!("{name}:"),
                received.take(name).expect("the file exists"),
            )
            .expect("a name");
    }
    let placed = hand_over.place_fds().expect("the descriptors are placed");
    let script = "cat /proc/self/fd/3 /proc/self/fd/4 /proc/self/fd/5; \
        echo \" $LISTEN_FDS $LISTEN_FDNAMES ${LISTEN_PID-no pid}\"";
    for _ in 0..2 {
        let out = tempfile::NamedTempFile::new().expect("a file");
        let stdout = out.reopen().expect("the same file");
        let mut child = placed
            .spawn(Command::new("sh").args(["-c", script]).stdout(stdout))
            .expect("a child");
        assert!(child.wait().expect("its status").success());
        let said = fs::read_to_string(out.path()).expect("the output of the program");
        assert_eq!(said, "threeonetwo 3 c\\::a\\::b\\: no pid\n");
    }
    let other = Command::new("test")
        .args(["-e", "/proc/self/fd/3"])
        .status();
    assert!(!other.expect("test").success(), "other children get none");
}

#[test]
fn a_failed_exec_leaves_the_descriptors_unchanged() {
    const ME: &str = "receiving::a_failed_exec_leaves_the_descriptors_unchanged";
    if !child::is_me(ME) {
        let (_directory, files) = files(&["one"]);
        return InheritedFds::files(files)
            .named("a")
            .run_test(ME)
            .assert_passed();
    }
    let mut received = ListenFds::from_env().expect("one byte");
    let mut hand_over = FdPassing::new();
    hand_over
        .push("a", received.take("a").expect("the file exists"))
        .expect("a name");
    let placed = hand_over.place_fds().expect("the descriptors are placed");
    let mut nothing = Command::new("/nonexistent/program");
    for error in [
        placed.exec(&mut nothing),
        placed.spawn(&mut nothing).expect_err("no bytes are left"),
    ] {
        assert!(
            matches!(&error, ShmError::Exec { program, .. } if program == "/nonexistent/program")
        );
    }
    let other = Command::new("test")
        .args(["-e", "/proc/self/fd/3"])
        .status();
    assert!(!other.expect("test").success(), "closed by an exec again");
}
