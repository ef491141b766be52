//! `flatspan import`.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use flatspan::snapshot::{Store, StoreOptions, WriteMode};

use crate::fixture::{check, crashed, expect, json, program, stderr};
use crate::support;

#[test]
fn an_imported_store_opens_cleanly() {
    let dir = support::temp_dir();
    let [file, store] = ["file", "store"].map(|name| dir.path().join(name));
    fs::write(&file, [5; 10_000]).expect("a file");
    expect(0, "import", &[&file, &store]);
    let found = json(0, "verify", &[&store]);
    assert_eq!(found["verified_pages"], 3);
    let store = Store::open(&store, StoreOptions::default()).expect("a store");
    assert!(store.open_report().clean_shutdown);
    let sum = store.view(|bytes| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    assert_eq!((store.len(), sum.expect("a view")), (3 * 4096, 50_000));
}

#[test]
fn standard_input_is_imported() {
    let dir = support::temp_dir();
    let store = dir.path().join("store");
    let file = dir.path().join("file");
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number / 1000) as u8)
        .collect();
    fs::write(&file, &bytes).expect("a file");
    let mut command = program();
    command.arg("import").arg("-").arg(&store);
    command.stdin(Stdio::from(File::open(&file).expect("the file")));
    check(0, command.output().expect("the program starts"));
    let output = expect(0, "export", &[&store, Path::new("-")]);
    assert!(output.stdout == bytes, "the same bytes, not whole pages");
}

#[test]
fn a_refused_import_changes_nothing() {
    let made = crashed();
    let dir = made.path.parent().expect("a directory");
    let file = dir.join("file");
    fs::write(&file, "text").expect("a file");
    assert!(stderr(&expect(3, "import", &[&file, &made.path])).contains("not empty"));
    expect(0, "verify", &[&made.path]);
    expect(3, "import", &[&dir.join("none"), &dir.join("new")]);
    let odd = [
        &file,
        &dir.join("new"),
        Path::new("--part-size"),
        Path::new("100000"),
    ];
    assert!(stderr(&expect(3, "import", &odd)).contains("part_bytes"));
    expect(
        2,
        "import",
        &[
            &file,
            &dir.join("new"),
            Path::new("--part-size"),
            Path::new("5X"),
        ],
    );
    assert_eq!(fs::read_dir(dir).expect("the directory").count(), 2);
    // An empty directory is accepted.
    let empty = dir.join("empty");
    fs::create_dir(&empty).expect("mkdir");
    expect(0, "import", &[&file, &empty]);
    expect(0, "verify", &[&empty]);
}

#[test]
fn export_returns_the_imported_bytes_until_a_program_changes_them() {
    let dir = support::temp_dir();
    let file = dir.path().join("file");
    for len in [0, 1, 4095, 4096, 4097, 10_000] {
        let store = dir.path().join(format!("store-{len}"));
        let out = dir.path().join(format!("out-{len}"));
        // The last byte is zero, so that only the recorded length preserves it.
        let mut bytes = vec![7; len];
        bytes.last_mut().into_iter().for_each(|byte| *byte = 0);
        fs::write(&file, &bytes).expect("a file");
        expect(0, "import", &[&file, &store]);
        expect(0, "export", &[&store, &out]);
        assert!(fs::read(&out).expect("the file") == bytes, "{len}");
        let output = expect(0, "export", &[&store, Path::new("-")]);
        assert!(output.stdout == bytes, "{len}");
        assert_eq!(json(0, "info", &[&store])["content_bytes"], len);
    }

    let store = dir.path().join("store-10000");
    let exported = || expect(0, "export", &[&store, Path::new("-")]).stdout;
    let change = |offset: u64, byte: u8| {
        let options = StoreOptions::default().write_mode(WriteMode::Tracked);
        let store = Store::open(&store, options).expect("a store");
        let guard = store.write_guard().expect("the access lock");
        guard.write_at(offset, &[byte]).expect("written");
        drop(guard);
        store.close().expect("closed");
    };
    change(0, 9);
    assert_eq!(exported().len(), 10_000, "the length still applies");
    change(10_000, 1);
    assert_eq!(exported().len(), 3 * 4096, "no data is lost");
    change(10_000, 0);
    assert_eq!(exported().len(), 10_000);
    let resized = StoreOptions::default().write_mode(WriteMode::Tracked);
    let resized = Store::open(&store, resized).expect("a store");
    resized.resize(4 * 4096).expect("resized");
    resized.close().expect("closed");
    assert_eq!(exported().len(), 4 * 4096);
    fs::write(store.join("content-length"), "x").expect("written");
    let said = stderr(&expect(3, "export", &[&store, Path::new("-")]));
    assert!(said.contains("content-length"), "{said}");
}
