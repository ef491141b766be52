//! `flatspan import`.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use flatspan::snapshot::{Store, StoreOptions};

use crate::fixture::{check, crashed, expect, json, program, stderr};
use crate::support;

#[test]
fn bytes_become_a_store_that_opens() {
    let folder = support::temp_dir();
    let [file, store] = ["file", "store"].map(|name| folder.path().join(name));
    fs::write(&file, [5; 10_000]).expect("a file");
    expect(0, "import", &[&file, &store]);
    let found = json(0, "verify", &[&store]);
    assert_eq!(found["pages"], 3);
    let store = Store::open(&store, StoreOptions::default()).expect("a store");
    assert!(store.open_report().was_closed);
    let sum = store.view(|bytes| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    assert_eq!((store.len(), sum.expect("a view")), (3 * 4096, 50_000));
}

#[test]
fn bytes_come_through_a_pipe() {
    let folder = support::temp_dir();
    let store = folder.path().join("store");
    let file = folder.path().join("file");
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number / 1000) as u8)
        .collect();
    fs::write(&file, &bytes).expect("a file");
    let mut command = program();
    command.arg("import").arg("-").arg(&store);
    command.stdin(Stdio::from(File::open(&file).expect("the file")));
    check(0, command.output().expect("the program starts"));
    let output = expect(0, "export", &[&store, Path::new("-")]);
    assert!(output.stdout[..bytes.len()] == bytes);
    assert_eq!(output.stdout.len(), bytes.len().next_multiple_of(4096));
}

#[test]
fn nothing_is_written_over_and_nothing_left_behind() {
    let made = crashed();
    let folder = made.path.parent().expect("a folder");
    let file = folder.join("file");
    fs::write(&file, "text").expect("a file");
    assert!(stderr(&expect(3, "import", &[&file, &made.path])).contains("not empty"));
    expect(0, "verify", &[&made.path]);
    expect(3, "import", &[&folder.join("none"), &folder.join("new")]);
    let odd = [
        &file,
        &folder.join("new"),
        Path::new("--part-bytes"),
        Path::new("100000"),
    ];
    assert!(stderr(&expect(3, "import", &odd)).contains("part_bytes"));
    expect(
        2,
        "import",
        &[
            &file,
            &folder.join("new"),
            Path::new("--part-bytes"),
            Path::new("5X"),
        ],
    );
    assert_eq!(fs::read_dir(folder).expect("the folder").count(), 2);
    // An empty directory is a place.
    let empty = folder.join("empty");
    fs::create_dir(&empty).expect("mkdir");
    expect(0, "import", &[&file, &empty]);
    expect(0, "verify", &[&empty]);
}
