//! Store files that are truncated, lost, renamed, replaced or of another store: the message of
//! opening, and the absence of writes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use flatspan::snapshot::{Store, StoreOptions};

use crate::corruption::forged;
use crate::support::{temp_dir, user};

const PAGE: u64 = 4096;
const LAST: u8 = 9;

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(1 << 20)
        .part_bytes(64 << 10)
        .initial_bytes(60 * PAGE)
}

fn fill(store: &Store, byte: u8) {
    store
        .transaction(|tx| tx.bytes_mut(0..60 * PAGE).map(|bytes| bytes.fill(byte)))
        .expect("a transaction");
}

/// Store with both heaps, of which a is the newer one, and a later record.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(temp_dir());
        let store = Store::open(place.store(), options()).expect("a store");
        for byte in 1..=2 {
            fill(&store, byte);
            store.checkpoint_base().expect("a base");
        }
        fill(&store, LAST);
        place
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store().join(name)
    }

    fn open_with(&self, options: StoreOptions) -> Result<Store, String> {
        Store::open(self.store(), options).map_err(|error| in_full(&error))
    }

    /// Asserts that the complete state is restored with a reason for the fallback, and that the
    /// store continues.
    #[track_caller]
    fn falls_back(&self, says: &[&str]) {
        let store = self.open_with(options()).expect("the other heap");
        let why = store
            .open_report()
            .fallback_reason
            .clone()
            .expect("fallback was used");
        assert!(says.iter().all(|part| why.contains(part)), "{why}");
        assert_complete(&store, LAST);
        fill(&store, 11);
        store
            .checkpoint_base()
            .expect("into the heap that was lost");
        drop(store);
        let store = self.open_with(options()).expect("a store");
        assert_eq!(store.open_report().fallback_reason, None);
        assert_complete(&store, 11);
    }

    #[track_caller]
    fn is_refused(&self, options: StoreOptions, says: &[&str]) {
        let before = contents(&self.store());
        let error = self.open_with(options).expect_err("an error");
        assert!(says.iter().all(|part| error.contains(part)), "{error}");
        assert_eq!(contents(&self.store()), before, "written: {error}");
    }
}

#[track_caller]
fn assert_complete(store: &Store, byte: u8) {
    let found = store.view(|bytes| bytes.iter().all(|found| *found == byte));
    assert!(found.expect("a view"), "{:?}", store.open_report());
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Returns the content of all files but the lock file.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| !path.ends_with("lock"))
        .map(|path| (path.clone(), fs::read(&path).expect("a file")))
        .collect()
}

#[test]
fn truncated_part_is_named() {
    let place = Place::new();
    let part = File::options().write(true).open(place.file("heap-a.00001"));
    part.expect("a part")
        .set_len(100)
        .expect("file is truncated");
    place.falls_back(&["heap a", "heap-a.00001: 100 bytes long, not 65536"]);
    let place = Place::new();
    let part = File::options().write(true).open(place.file("heap-a.00004"));
    part.expect("a part")
        .set_len(100)
        .expect("file is truncated");
    place.falls_back(&["heap-a", "it has 262244 bytes"]);
}

#[test]
fn missing_part_is_named() {
    let place = Place::new();
    fs::remove_file(place.file("heap-a.00002")).expect("removed");
    place.falls_back(&["heap-a.00002: missing, but later parts exist"]);
    let place = Place::new();
    fs::remove_file(place.file("table-a.00000")).expect("removed");
    place.falls_back(&["table-a"]);
}

#[test]
fn swapped_parts_are_detected() {
    let place = Place::new();
    let [one, two, temporary] =
        ["heap-a.00001", "heap-a.00004", "temporary"].map(|name| place.file(name));
    fs::rename(&one, &temporary).expect("renamed");
    fs::rename(&two, &one).expect("renamed");
    fs::rename(&temporary, &two).expect("renamed");
    place.falls_back(&["heap-a.00001: 49152 bytes long, not 65536"]);
}

#[test]
fn older_copy_of_a_part_is_detected() {
    let place = Place::new();
    let old = temp_dir();
    let kept = old.path().join("part");
    fs::copy(place.file("heap-a.00001"), &kept).expect("copied");
    let store = place.open_with(options()).expect("a store");
    for byte in 3..=4 {
        fill(&store, byte);
        store.checkpoint_base().expect("a base");
    }
    fill(&store, LAST);
    drop(store);
    fs::copy(&kept, place.file("heap-a.00001")).expect("put back");
    place.falls_back(&["heap-a is corrupt at byte 65536: page 0 does not have its checksum"]);
}

#[test]
fn swapped_heaps_are_rejected() {
    let place = Place::new();
    for (path, _) in contents(&place.store()) {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        let swapped = match name.split_once('.') {
            Some(("heap-a", part)) => format!("heap-b.{part}x"),
            Some(("heap-b", part)) => format!("heap-a.{part}x"),
            _ => continue,
        };
        fs::rename(&path, place.file(&swapped)).expect("renamed");
    }
    for (path, _) in contents(&place.store()) {
        let name = path.to_str().expect("a name");
        if let Some(name) = name.strip_suffix('x') {
            fs::rename(&path, name).expect("renamed");
        }
    }
    place.is_refused(options(), &["the files of heap", "they were renamed"]);
}

#[test]
fn random_bytes_instead_of_files_are_rejected_or_ignored() {
    let place = Place::new();
    let noise: Vec<u8> = (0..65536_u64)
        .map(|at| ((at * at) >> 7) as u8 | 1)
        .collect();
    fs::write(place.file("heap-a.00000"), &noise).expect("written");
    // Only its header is lost: the other heap and the journal have the same state.
    let store = place.open_with(options()).expect("the other heap");
    assert_complete(&store, LAST);
    drop(store);
    for heap in ["heap-a.00000", "heap-b.00000"] {
        fs::write(place.file(heap), &noise).expect("written");
    }
    let says = [
        "neither heap is complete",
        "a has no valid METADATA (does not begin with the magic bytes",
        "b has",
    ];
    place.is_refused(options(), &says);
}

#[test]
fn newer_version_is_rejected() {
    let place = Place::new();
    let file = File::options()
        .read(true)
        .write(true)
        .open(place.file("heap-a.00000"));
    let file = file.expect("a part");
    for copy in [0, 32768] {
        let mut block = [0; 4096];
        file.read_exact_at(&mut block, copy).expect("read");
        forged(&mut block, &[(8, &[2])]);
        file.write_all_at(&block, copy).expect("written");
    }
    place.is_refused(options(), &["heap a has version 2, this program knows 1"]);
}

#[test]
fn options_that_do_not_match_the_store_are_rejected() {
    let place = Place::new();
    let parts = options().part_bytes(128 << 10);
    place.is_refused(
        parts,
        &["`part_bytes`: 131072, but the store has parts of 65536 bytes"],
    );
    let less = options().initial_bytes(0).reserve_bytes(10 * PAGE);
    place.is_refused(
        less,
        &["`reserve_bytes`: 40960 is less than the 245760 bytes that are stored"],
    );
}

#[test]
fn store_in_use_is_rejected() {
    let place = Place::new();
    let store = place.open_with(options()).expect("a store");
    let me = format!("opened by this process ({})", std::process::id());
    place.is_refused(options(), &[&me]);
    drop(store);
    // Held by an arbitrary other process.
    let lock = File::options()
        .write(true)
        .open(place.file("lock"))
        .expect("a lock");
    lock.write_all_at(b"4194999\n", 0).expect("written");
    lock.lock().expect("locked");
    place.is_refused(options(), &["in use by another writer (process 4194999"]);
    drop(lock);
    place.open_with(options()).expect("free");
}

#[test]
fn empty_directory_becomes_a_store_unless_create_is_false() {
    let dir = temp_dir();
    let error =
        Store::open(dir.path(), options().create(false)).expect_err("directory has no store");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    let store = Store::open(dir.path(), options()).expect("a store");
    assert!(store.open_report().created);
}

#[test]
fn files_of_another_store_are_rejected() {
    let (place, other) = (Place::new(), Place::new());
    for (path, bytes) in contents(&other.store()) {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        if name.starts_with("heap-a") || name.starts_with("table-a") {
            fs::write(place.file(name), bytes).expect("written");
        }
    }
    place.is_refused(
        options(),
        &["the heaps are of different stores: one was copied here"],
    );
    let place = Place::new();
    for (path, bytes) in contents(&other.store()) {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        if name.starts_with("journal") {
            fs::write(place.file(name), bytes).expect("written");
        }
    }
    place.is_refused(options(), &["journal-", "belongs to another store"]);
}

/// Run by `unwritable_directory_is_rejected`, and by ordinary users.
mod ordinary_user {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn unwritable_store_is_rejected() {
        if user::is_root() {
            return;
        }
        let place = Place::new();
        let set = |mode| {
            for path in contents(&place.store()).into_keys() {
                fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o666)).expect("set");
            }
            let lock = place.file("lock");
            fs::set_permissions(lock, fs::Permissions::from_mode(mode & 0o666)).expect("set");
            fs::set_permissions(place.store(), fs::Permissions::from_mode(mode)).expect("set");
        };
        set(0o555);
        place.is_refused(options(), &["lock: cannot open", "Permission denied"]);
        set(0o755);
        place.open_with(options()).expect("as before");
    }
}

#[test]
fn unwritable_directory_is_rejected() {
    user::as_ordinary_user("file_corruption::ordinary_user::");
}
