//! `flatspan export`.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::damage;
use flatspan::snapshot::{Store, WriteMode};

use crate::fixture::{PAGE, closed, content, crashed, expect, of_pages, options, program, stderr};
use crate::support;

#[test]
fn the_newest_state_is_exported_to_a_file_and_to_a_pipe() {
    for made in [crashed(), closed()] {
        let out = made.path.with_file_name("out");
        expect(0, "export", &[&made.path, &out]);
        assert!(fs::read(&out).expect("the file") == content());
        let output = expect(0, "export", &[&made.path, Path::new("-")]);
        assert!(output.stdout == content());
    }
}

#[test]
fn zeros_become_holes() {
    let made = of_pages(&[(1, 1), (39, 3)]);
    let out = made.path.with_file_name("out");
    expect(0, "export", &[&made.path, &out]);
    let found = fs::metadata(&out).expect("the file");
    assert_eq!(found.len(), 40 * 4096);
    assert!(
        found.blocks() * 512 < 20 * 4096,
        "{} blocks",
        found.blocks()
    );
}

#[test]
fn an_existing_file_is_replaced_only_with_force() {
    let made = crashed();
    let out = made.path.with_file_name("out");
    fs::write(&out, "mine").expect("a file");
    let said = stderr(&expect(3, "export", &[&made.path, &out]));
    assert!(said.contains("--force"), "{said}");
    assert_eq!(fs::read(&out).expect("the file"), b"mine");
    expect(0, "export", &[&made.path, &out, Path::new("--force")]);
    assert!(fs::read(&out).expect("the file") == content());
    let parent = made.path.parent().expect("a directory");
    assert_eq!(
        fs::read_dir(parent).expect("the directory").count(),
        2,
        "no temporary file"
    );
}

#[test]
fn the_fallback_heap_replaces_a_corrupt_one() {
    let made = crashed();
    damage::flip_page(&made.path, "heap-a", 5);
    let out = made.path.with_file_name("out");
    let said = stderr(&expect(0, "export", &[&made.path, &out]));
    assert!(
        said.contains("page 5") && said.contains("using the fallback heap b"),
        "{said}"
    );
    assert!(
        fs::read(&out).expect("the file") == content(),
        "the journal has all"
    );
    let output = expect(0, "export", &[&made.path, Path::new("-")]);
    assert!(
        output.stdout == content(),
        "no byte of the corrupt heap is written"
    );

    damage::flip_page(&made.path, "heap-b", 6);
    fs::remove_file(&out).expect("removed");
    expect(1, "export", &[&made.path, &out]);
    assert!(!out.exists());
    assert!(
        expect(1, "export", &[&made.path, Path::new("-")])
            .stdout
            .is_empty()
    );
}

#[test]
fn without_the_committed_heap_an_earlier_state_is_exported() {
    let dir = support::temp_dir();
    let path = dir.path().join("store");
    let options = options().write_mode(WriteMode::Tracked);
    let store = Store::open(&path, options).expect("a store");
    let write = |page: u64| {
        let guard = store.write_guard().expect("the access lock");
        guard
            .write_at(page * PAGE, &[page as u8; PAGE as usize])
            .expect("written");
    };
    write(1);
    store.checkpoint_base().expect("into heap b");
    write(2);
    store.checkpoint_base().expect("into heap a");
    write(3);
    store.checkpoint_delta().expect("over heap a");
    drop(store);
    damage::flip_page(&path, "heap-a", 1);
    let output = expect(0, "export", &[&path, Path::new("-")]);
    let first = |page: u64| output.stdout[(page * PAGE) as usize];
    // No state had page 3 without page 2.
    assert_eq!([first(1), first(2), first(3)], [1, 0, 0]);
    assert!(
        stderr(&output).contains("generation 2"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_closed_pipe_causes_no_message() {
    let made = closed();
    let mut child = program()
        .args([Path::new("export"), &made.path, Path::new("-")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Longer than a pipe holds.
    let mut out = child.stdout.take().expect("piped");
    out.read_exact(&mut [0; 10]).expect("the first bytes");
    drop(out);
    let output = child.wait_with_output().expect("a child");
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(3), "")
    );
}

#[test]
fn an_exported_file_is_imported_and_exported_again() {
    let dir = support::temp_dir();
    let made = of_pages(&[(0, 9), (7, 8), (38, 7)]);
    let store = dir.path().join("store");
    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    expect(0, "export", &[&made.path, &first]);
    expect(
        0,
        "import",
        &[&first, &store, Path::new("--part-size"), Path::new("128K")],
    );
    expect(0, "verify", &[&store]);
    expect(0, "diff", &[&made.path, &store]);
    expect(0, "export", &[&store, &second]);
    assert!(fs::read(&first).expect("a file") == fs::read(&second).expect("a file"));
}
