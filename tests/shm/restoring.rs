//! The content that `shm-restore` writes into a memfd, and the memfds that it does not change.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use flatspan::shm::{Memfd, TransparentHost, TransparentHostOptions};

use crate::client;
use crate::inherited_fds::{InheritedFds, path_of};
use crate::primes::count_checked;
use crate::programs::{expect, primes, shm_fd};
use crate::states::{directory, newest, shell, shm_restore};

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// `shm-restore` on a memfd of this process.
fn on(memory: &Memfd, store: &Path, script: &str) -> Command {
    let mut command = InheritedFds::files([path_of(memory)])
        .named("SHM_SHARED_FD")
        .command(env!("CARGO_BIN_EXE_shm-restore"));
    command.arg(store).args(["sh", "-c", script]);
    command
}

fn bytes_of(memory: &Memfd) -> Vec<u8> {
    let mut bytes = vec![0; memory.len().expect("a length") as usize];
    let file = std::fs::File::open(path_of(memory)).expect("the file opens");
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
}

fn put(memory: &Memfd, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path_of(memory));
    file.and_then(|file| file.write_all_at(bytes, 0))
        .expect("the write succeeds");
}

/// The command lines of the README.
#[test]
fn a_second_start_continues_where_the_first_ended() {
    let directory = directory();
    let store = directory.path().join("prime-snapshot");
    let start = || {
        let mut command = crate::programs::clean(shm_fd());
        command.arg(env!("CARGO_BIN_EXE_shm-restore"));
        expect(0, command.args([&store, &primes()]))
    };
    assert_eq!(
        start(),
        "1000 new primes, 1000 of 125000, the last is 7919\n"
    );
    assert_eq!(
        start(),
        "1000 new primes, 2000 of 125000, the last is 17389\n"
    );
    let state = newest(&store);
    // Whole pages.
    assert_eq!(state.len(), 1_003_520);
    let memory = Memfd::create("table", 0).expect("a memfd");
    put(&memory, &state);
    assert_eq!(count_checked(&memory), 2000);
}

#[test]
fn i25_an_unsealed_memfd_is_restored_whatever_it_contains() {
    let directory = directory();
    let store = directory.path().join("store");
    expect(0, &mut shell(&[], &store, &client::words("fill 7 8192")));
    let memory = Memfd::create("half", 4 * 4096).expect("a memfd");
    put(&memory, &[1; 4 * 4096]);
    expect(0, &mut on(&memory, &store, "true"));
    assert!(memory.is_restored().expect("its seals"));
    let restored = bytes_of(&memory);
    assert!(restored[..8192].iter().all(|byte| *byte == 7));
    assert!(restored[8192..].iter().all(|byte| *byte == 0));
}

#[test]
fn live_memory_is_not_emptied_by_an_empty_store() {
    for is_sealed in [true, false] {
        let directory = directory();
        let store = directory.path().join("store");
        let memory = Memfd::create("live", 5000).expect("a memfd");
        put(&memory, &[9; 5000]);
        if is_sealed {
            memory.seal_restored().expect("a seal");
        }
        for _ in 0..2 {
            expect(0, &mut on(&memory, &store, "true"));
            assert_eq!(bytes_of(&memory), [9; 5000], "sealed: {is_sealed}");
            let state = newest(&store);
            assert_eq!(state[..5000], [9; 5000]);
            assert_eq!(state[5000..], [0; 8192 - 5000]);
        }
    }
}

#[test]
fn live_memory_takes_precedence_over_an_older_state() {
    let directory = directory();
    let store = directory.path().join("store");
    expect(0, &mut shell(&[], &store, &client::words("fill 7 8192")));
    let memory = Memfd::create("live", 4096).expect("a memfd");
    put(&memory, &[9; 4096]);
    memory.seal_restored().expect("a seal");
    expect(0, &mut on(&memory, &store, "true"));
    assert_eq!(bytes_of(&memory), [9; 4096]);
    assert_eq!(newest(&store), [9; 4096]);
}

#[test]
fn a_memfd_that_ends_within_a_page_is_restored_completely() {
    let directory = directory();
    let store = directory.path().join("store");
    let memory = Memfd::create("odd", 0).expect("a memfd");
    for _ in 0..2 {
        expect(0, &mut on(&memory, &store, &client::words("fill 3 10000")));
        // Up to the program while it is alive.
        assert_eq!(bytes_of(&memory), [3; 10000]);
    }
    let again = Memfd::create("again", 0).expect("a memfd");
    expect(0, &mut on(&again, &store, "true"));
    let mut whole = vec![0; 12288];
    whole[..10000].fill(3);
    assert_eq!(bytes_of(&again), whole);
}

/// The file position belongs to the program.
#[test]
fn the_position_of_the_shared_descriptor_is_kept() {
    let directory = directory();
    let memory = Memfd::create("positioned", 64 << 12).expect("a memfd");
    let store = directory.path().join("store");
    // dd leaves the position after the bytes that it has read.
    let script = "dd bs=1 count=5 <&3 of=/dev/null 2>/dev/null; grep ^pos: /proc/self/fdinfo/3; \
                  sleep 0.2; grep ^pos: /proc/self/fdinfo/3";
    let mut command = on(&memory, &store, script);
    let said = expect(0, command.env("IGNORED", ""));
    assert_eq!(said, "pos:\t5\npos:\t5\n");
    put(&memory, &[1; 100]);
    let said = expect(0, &mut {
        let mut command = InheritedFds::files([path_of(&memory)])
            .named("SHM_SHARED_FD")
            .command(env!("CARGO_BIN_EXE_shm-restore"));
        command
            .args(["--mode=freeze", "--interval=0.01"])
            .arg(&store)
            .args(["sh", "-c", script]);
        command
    });
    assert_eq!(said, "pos:\t5\npos:\t5\n");
}

#[test]
fn other_descriptors_are_passed_in_order() {
    let directory = directory();
    let store = directory.path().join("store");
    let memory = Memfd::create("among", 0).expect("a memfd");
    let null = Path::new("/dev/null").to_path_buf();
    let zero = Path::new("/dev/zero").to_path_buf();
    let mut command = InheritedFds::files([null, path_of(&memory), zero])
        .named("first:SHM_SHARED_FD:third")
        .command(env!("CARGO_BIN_EXE_shm-restore"));
    let script = "echo $LISTEN_FDS $LISTEN_FDNAMES ${LISTEN_PID-unset}; readlink /proc/self/fd/3 /proc/self/fd/5";
    let said = expect(0, command.arg(&store).args(["sh", "-c", script]));
    assert_eq!(
        said,
        "3 first:SHM_SHARED_FD:third unset\n/dev/null\n/dev/zero\n"
    );
}

#[test]
fn once_takes_a_snapshot_of_live_memory_and_runs_nothing() {
    let directory = directory();
    let store = directory.path().join("store");
    let memory = Memfd::create("live", 4096).expect("a memfd");
    put(&memory, &[9; 4096]);
    let once = || {
        let mut command = InheritedFds::files([path_of(&memory)])
            .named("SHM_SHARED_FD")
            .command(env!("CARGO_BIN_EXE_shm-restore"));
        command
            .arg("--once")
            .arg(&store)
            .output()
            .expect("the program runs")
    };
    let refused = once();
    assert_eq!(refused.status.code(), Some(125));
    assert!(
        !store.exists(),
        "the memfd is not live, so no queue is created"
    );
    memory.seal_restored().expect("a seal");
    for _ in 0..2 {
        let done = once();
        assert!(done.status.success(), "{done:?}");
        assert_eq!(newest(&store), [9; 4096]);
    }
    let said = expect(125, shm_restore(&["--once"], &store).arg("true"));
    assert!(said.contains("--once"), "{said}");
    let said = expect(125, &mut shm_restore(&["--once"], &store));
    assert!(said.contains("SHM_SHARED_FD"), "{said}");
}

#[test]
fn parts_get_the_requested_size() {
    let directory = directory();
    let store = directory.path().join("store");
    expect(
        0,
        &mut shell(
            &["--part-size=64K"],
            &store,
            &client::words("fill 5 300000"),
        ),
    );
    assert!(
        store.read_dir().expect("a directory").count() > 8,
        "{}",
        shown(&store)
    );
    assert!(newest(&store)[..300_000].iter().all(|byte| *byte == 5));
    expect(0, &mut shell(&["--part-size=128K"], &store, "true"));
    assert!(newest(&store)[..300_000].iter().all(|byte| *byte == 5));
}

#[test]
fn the_library_rolls_back_only_on_request() {
    let directory = directory();
    let store = directory.path().join("store");
    expect(0, &mut shell(&[], &store, &client::words("fill 7 8192")));
    let memory = Memfd::create("live", 4 * 4096).expect("a memfd");
    put(&memory, &[9; 4 * 4096]);
    memory.seal_restored().expect("a seal");
    let mut back =
        TransparentHost::open(&store, &memory, TransparentHostOptions::default()).expect("kept");
    assert!(!back.was_restored());
    assert_eq!(bytes_of(&memory), [9; 4 * 4096]);
    back.rollback().expect("rolled back");
    assert!(back.was_restored());
    let mut expected = [0; 4 * 4096];
    expected[..8192].fill(7);
    assert_eq!(bytes_of(&memory), expected);
    back.close().expect("closed");
    assert_eq!(newest(&store), expected);
}
