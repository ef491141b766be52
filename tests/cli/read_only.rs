//! A store that may not be written.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::fixture::{check, content, crashed};
use crate::support::user::is_root;

const NOBODY: u32 = 65534;

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn a_store_is_read_where_nothing_can_be_written() {
    let made = crashed();
    let folder = made.path.parent().expect("a folder");
    permit(folder, 0o755);
    for entry in fs::read_dir(&made.path).expect("the store") {
        let path = entry.expect("an entry").path();
        // Made when heaps are locked, and not there in a store that was copied.
        if path.file_name().is_some_and(|name| name == "lock-a") {
            fs::remove_file(path).expect("removed")
        } else {
            permit(&path, 0o444)
        }
    }
    permit(&made.path, 0o555);
    // The folder of the build may be closed to others.
    let program = folder.join("program");
    fs::copy(env!("CARGO_BIN_EXE_flatspan"), &program).expect("copied");
    permit(&program, 0o755);
    let run = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).current_dir(folder);
        if is_root() {
            command.gid(NOBODY).uid(NOBODY);
        }
        // Another test's child may hold the copy open for writing, between its fork and its exec.
        let begun = Instant::now();
        loop {
            match command.output() {
                Err(error)
                    if error.kind() == ErrorKind::ExecutableFileBusy
                        && begun.elapsed() < Duration::from_secs(10) =>
                {
                    thread::sleep(Duration::from_millis(5));
                }
                output => return check(0, output.expect("the program starts")),
            }
        }
    };
    for args in [["info", "store"], ["verify", "store"], ["log", "store"]] {
        run(&args);
    }
    assert!(run(&["export", "store", "-"]).stdout == content());
    assert!(!made.path.join("lock-a").exists());
    permit(&made.path, 0o755);
}
