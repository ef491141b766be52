//! State that survives the restart of its service: the units of docs/systemd.md, with a stand-in for the service manager.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use flatspan::shm::{SHARED_FD_NAME, SharedFile};

use crate::left::path_of;
use crate::manager::{Killed, Manager};
use crate::primes::count_checked;
use crate::programs::{primes, said, shm_fd};

fn kept(manager: &Manager) -> SharedFile {
    let kept = manager.kept(SHARED_FD_NAME);
    assert_eq!(kept.len(), 1, "one memory, stored once");
    SharedFile::adopt(kept[0].try_clone_to_owned().expect("another")).expect("a memfd")
}

fn inode(memory: &SharedFile) -> u64 {
    fs::metadata(path_of(memory)).expect("open").ino()
}

/// Of the first unit of docs/systemd.md, with the programs that were built.
fn exec_start() -> [String; 3] {
    let text = include_str!("../../docs/systemd.md");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let words: Vec<&str> = line.expect("a unit").split(' ').collect();
    assert_eq!(
        words,
        ["/usr/local/bin/shm-fd", "/usr/local/bin/primes", "--brief"]
    );
    let built = |path: &Path| path.display().to_string();
    [built(shm_fd()), built(&primes()), words[2].to_owned()]
}

fn survives_restarts(mut manager: Manager) {
    let line = exec_start();
    let [program, primes, brief] = line.each_ref().map(String::as_str);
    let program = Path::new(program);
    let output = manager.run(program, &[primes, brief]);
    assert_eq!(
        said(&output),
        "1000 new primes, 1000 of 125000, the last is 7919\n"
    );
    // Stored, and that was waited for, before the program ran.
    assert_eq!(
        manager.heard,
        ["FDSTORE=1\nFDNAME=SHM_SHARED_FD\nFDPOLL=0", "BARRIER=1"]
    );
    let first = inode(&kept(&manager));

    // No process of the service is there now, and the memory is.
    let output = manager.run(program, &[primes, brief]);
    assert_eq!(
        said(&output),
        "1000 new primes, 2000 of 125000, the last is 17389\n"
    );
    assert_eq!(manager.heard.len(), 2, "it is stored already");

    // Killed in the middle.
    let memory = kept(&manager);
    let table = memory.map(0..1_000_000).expect("a table");
    let service = Killed(manager.start(program, &[primes, brief, "--pause", "500"]));
    manager.hear_until(|_| table.load(2100) != Some(0));
    drop(service);
    let before = count_checked(&memory);
    assert!(before > 2100);
    let output = manager.run(program, &[primes, brief]);
    assert!(
        said(&output).starts_with(&format!("1000 new primes, {} of", before + 1000)),
        "{output:?}"
    );
    assert_eq!(count_checked(&kept(&manager)), before + 1000);
    assert_eq!(
        inode(&kept(&manager)),
        first,
        "the same memory, never copied"
    );
}

#[test]
fn state_survives_restarts_of_its_service_with_a_path() {
    survives_restarts(Manager::on_a_path());
}

#[test]
fn state_survives_restarts_of_its_service_with_an_abstract_name() {
    survives_restarts(Manager::on_an_abstract_name());
}

/// Nobody would keep the memory, and nobody would know.
#[test]
fn a_manager_that_cannot_be_told_is_an_error() {
    let manager = Manager::on_a_path();
    let mut command = crate::programs::clean(shm_fd());
    crate::manager::told(&mut command, &manager);
    drop(manager);
    let said = crate::programs::expect(125, command.arg("true"));
    assert!(said.contains("service manager"), "{said}");
}
