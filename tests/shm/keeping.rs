//! `shm-restore --keep`: the states before the newest one.

use std::fs;
use std::path::Path;

use flatspan::snapshot::{History, Kept};

use crate::client;
use crate::programs::expect;
use crate::states::{folder, newest, shell};
use crate::support::filesystem::{Kind, SmallFs};

const BYTES: usize = 10_000;

fn fill(byte: u8) -> String {
    client::words(&format!("fill {byte} {BYTES}"))
}

fn kept(store: &Path) -> Vec<Kept> {
    History::of(store).list().expect("a list")
}

fn bytes(kept: &[Kept]) -> Vec<u8> {
    kept.iter()
        .map(|kept| newest(kept.directory())[0])
        .collect()
}

#[test]
fn the_last_states_are_kept_and_can_be_gone_back_to() {
    let folder = folder();
    let store = folder.path().join("store");
    expect(0, &mut shell(&[], &store, &fill(1)));
    assert!(kept(&store).is_empty(), "nobody has asked for it");
    for byte in 2..=5 {
        expect(0, &mut shell(&["--keep=3"], &store, &fill(byte)));
    }
    assert_eq!(bytes(&kept(&store)), [3, 4, 5]);
    // What was not changed is no other state.
    expect(0, &mut shell(&["--keep=3"], &store, "true"));
    assert_eq!(bytes(&kept(&store)), [3, 4, 5]);
    // Without the option they are left alone.
    expect(0, &mut shell(&[], &store, &fill(6)));
    assert_eq!(bytes(&kept(&store)), [3, 4, 5]);

    let listed = expect(
        0,
        crate::programs::clean(env!("CARGO_BIN_EXE_flatspan"))
            .arg("history")
            .arg(&store),
    );
    for kept in kept(&store) {
        assert!(listed.contains(&kept.name()), "{listed}");
    }
    // As its help says.
    let name = kept(&store)[1].name();
    let script = format!("mv store aside && cp -a aside/kept/{name} store");
    let mut back = std::process::Command::new("sh");
    back.args(["-c", &script]).current_dir(folder.path());
    expect(0, &mut back);
    expect(0, &mut shell(&[], &store, "true"));
    assert_eq!(newest(&store)[0], 4);
    assert!(kept(&store).is_empty(), "they are aside");
    fs::rename(folder.path().join("aside/kept"), store.join("kept")).expect("moved");
    // What comes next has a generation of its own.
    expect(0, &mut shell(&["--keep=9"], &store, &fill(6)));
    assert_eq!(bytes(&kept(&store)), [3, 4, 5, 6]);

    expect(0, &mut shell(&["--keep=0"], &store, &fill(7)));
    assert!(kept(&store).is_empty());
}

#[test]
fn what_cannot_be_kept_is_told_and_the_snapshot_counts() {
    let Some(small) = SmallFs::new(Kind::Tmpfs, 48 << 20) else {
        return;
    };
    // More than the room that a journal keeps for itself.
    const MUCH: usize = 8 << 20;
    let store = small.path().join("store");
    let fill = |byte: u8| client::words(&format!("fill {byte} {MUCH}"));
    // Both heaps have all of it then.
    for byte in [1, 2, 1, 2] {
        expect(0, &mut shell(&[], &store, &fill(byte)));
    }
    small.fill_leaving(1 << 20);
    let said = expect(0, &mut shell(&["--keep=2"], &store, &fill(3)));
    assert!(said.contains("not in the history"), "{said}");
    assert!(said.contains("No space left"), "{said}");
    assert!(newest(&store) == [3; MUCH]);
    assert!(kept(&store).is_empty());
    small.unfill();
    let said = expect(0, &mut shell(&["--keep=2", "--json"], &store, &fill(4)));
    assert!(said.contains("\"event\":\"kept\""), "{said}");
    assert_eq!(bytes(&kept(&store)), [4]);
}
