//! A store without write permission.

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

const UNPRIVILEGED: u32 = 65534;

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn a_store_is_read_without_write_permission() {
    let made = crashed();
    let dir = made.path.parent().expect("a directory");
    permit(dir, 0o755);
    for entry in fs::read_dir(&made.path).expect("the store") {
        let path = entry.expect("an entry").path();
        // Created when heaps are locked; a copy of a store may lack it.
        if path.file_name().is_some_and(|name| name == "lock-a") {
            fs::remove_file(path).expect("removed");
        } else {
            permit(&path, 0o444);
        }
    }
    permit(&made.path, 0o555);
    // Other users may have no access to the build directory.
    let program = dir.join("program");
    fs::copy(env!("CARGO_BIN_EXE_flatspan"), &program).expect("copied");
    permit(&program, 0o755);
    let run = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).current_dir(dir);
        if is_root() {
            command.gid(UNPRIVILEGED).uid(UNPRIVILEGED);
        }
        // A child process of another test may hold the copy open for writing until its execve(2).
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
    for args in [["info", "store"], ["verify", "store"], ["journal", "store"]] {
        run(&args);
    }
    assert!(run(&["export", "store", "-"]).stdout == content());
    assert!(!made.path.join("lock-a").exists());
    permit(&made.path, 0o755);
}
