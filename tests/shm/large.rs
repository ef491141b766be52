//! States beyond 2 and 4 GiB.

use std::fs;
use std::os::unix::fs::FileExt as _;

use flatspan::shm::Memfd;

use crate::client;
use crate::inherited_fds::{InheritedFds, path_of};
use crate::programs::expect;
use crate::states::directory;
use crate::support::need::{Need, need};

/// The pages that are checked: on both sides of 2 and 4 GiB, the first and the last.
pub(crate) fn places(bytes: u64) -> Vec<u64> {
    let gib = 1 << 30;
    [
        0,
        2 * gib - 4096,
        2 * gib,
        4 * gib - 4096,
        4 * gib,
        bytes - 4096,
    ]
    .into_iter()
    .filter(|start| start + 4096 <= bytes)
    .collect()
}

/// Regression test for a bug of a former tool. One combination is part of every run: holes cost
/// only their hashing.
#[test]
fn states_above_2_gib_are_correct() {
    continues_above_2_gib(5 << 30, "exit");
}

#[test]
fn states_above_2_gib_are_correct_in_every_mode() {
    if !need(Need::Long, "half a minute") {
        return;
    }
    for (bytes, how) in [
        (3_u64 << 30, "exit"),
        (3 << 30, "freeze"),
        (5 << 30, "freeze"),
    ] {
        continues_above_2_gib(bytes, how);
    }
}

fn continues_above_2_gib(bytes: u64, how: &str) {
    let directory = directory();
    let store = directory.path().join("store");
    for round in 1..=2 {
        let memory = Memfd::create("large", 0).expect("a memfd");
        let mut command = InheritedFds::files([path_of(&memory)])
            .named("SHM_SHARED_FD")
            .command(env!("CARGO_BIN_EXE_shm-restore"));
        command.arg(format!("--mode={how}")).arg(&store).args([
            "sh",
            "-c",
            &client::words(&format!("sparse {bytes}")),
        ]);
        expect(0, &mut command);
        assert_eq!(memory.len().expect("a length"), bytes);
        let file = fs::File::open(path_of(&memory)).expect("the file opens");
        for start in places(bytes) {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, start + 8).expect("a word");
            assert_eq!(
                u64::from_ne_bytes(word),
                round * (start + 1),
                "{how}, {start}"
            );
        }
    }
}
