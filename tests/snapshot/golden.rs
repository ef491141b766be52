//! Stored fixtures of version 1 (`tests/fixtures/v1`), random stores, and the independent reader in
//! Python (`tests/fixtures/read_store.py`), which was written from docs/file-format.md alone. The
//! library and the reader must agree.

use std::cell::Cell;
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use flatspan::snapshot::{HeapName, Store, StoreError, StoreOptions, WriteMode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::{
    self, campaign,
    need::{Need, need, skip},
};

const PAGE: u64 = 4096;
const PART: u64 = 64 << 10;

const NAMES: [&str; 5] = [
    "a-new",
    "b-transactions",
    "c-checkpoints",
    "d-closed",
    "e-writers",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn options() -> StoreOptions {
    StoreOptions::default()
        .reserve_bytes(64 << 20)
        .part_bytes(PART)
        .initial_bytes(20 * PAGE)
}

fn writers() -> StoreOptions {
    options().write_mode(WriteMode::Tracked)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let byte = |at: u64| ((at ^ (seed << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8 | 1;
    (0..len as u64).map(byte).collect()
}

/// Random numbers, reproducible by their seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns the SHA-256 of the region, for either write mode.
fn sha_of(store: &Store) -> String {
    match store.view(sha) {
        Ok(sha) => sha,
        Err(_of_the_other_kind) => {
            let mut bytes = vec![0; store.len() as usize];
            let inside = store.write_guard().expect("access lock is free");
            inside.read_at(0, &mut bytes).expect("read");
            sha(&bytes)
        }
    }
}

/// Copies all files but the locks, and keeps holes.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("lock") {
            continue;
        }
        let bytes = fs::read(entry.path()).expect("a file");
        let file = fs::File::create(to.join(name)).expect("a file");
        file.set_len(bytes.len() as u64).expect("its length");
        for (at, page) in bytes.chunks(4096).enumerate() {
            if page.iter().any(|byte| *byte != 0) {
                file.write_all_at(page, at as u64 * PAGE).expect("written");
            }
        }
    }
}

type Done = Result<(), StoreError>;

fn write(store: &Store, offset: u64, bytes: &[u8]) {
    let done: Done = store.transaction(|tx| tx.write_at(offset, bytes));
    done.expect("a transaction");
}

fn poke(store: &Store, offset: u64, bytes: &[u8]) {
    let inside = store.write_guard().expect("access lock is free");
    inside.write_at(offset, bytes).expect("written");
}

/// Creates the store of this name, and leaves it open or closes it. Writes the SHA-256 of the state
/// that must be restored.
fn make(name: &str, path: &Path, keep: &Path) {
    let open = |options: StoreOptions| Store::open(path, options).expect("a store");
    let sha = match name {
        "a-new" => {
            let store = open(options().initial_bytes(0));
            sha_of(&store)
        }
        "b-transactions" => {
            let store = open(options());
            write(&store, 3 * PAGE + 100, &noise(1, 5000));
            write(&store, 0, &[7]);
            let many: Done = store.transaction(|tx| {
                tx.write_at(19 * PAGE, &noise(2, 4096))?;
                tx.discard(3 * PAGE + 200..4 * PAGE + 50)?;
                tx.write_at(10, b"eleven byte")?;
                tx.resize(18 * PAGE)?;
                tx.resize(21 * PAGE)?;
                tx.write_at(21 * PAGE - 3, b"end")
            });
            many.expect("a transaction");
            write(&store, 5 * PAGE - 1, &noise(3, 2));
            sha_of(&store)
        }
        "c-checkpoints" => {
            let store = open(options());
            for round in 0..5_u64 {
                write(&store, round * 3 * PAGE + round, &noise(round, 6000));
                write(&store, 19 * PAGE, &noise(10 + round, 8));
                store.checkpoint().expect("a checkpoint");
            }
            write(&store, 100, &noise(20, 100));
            let two: Done = store.transaction(|tx| {
                tx.discard(0..PAGE)?;
                tx.write_at(9 * PAGE, &noise(21, 300))
            });
            two.expect("a transaction");
            sha_of(&store)
        }
        "d-closed" => {
            let store = open(options());
            write(&store, 2 * PAGE, &noise(1, 9000));
            store.checkpoint().expect("a checkpoint");
            write(&store, 17 * PAGE, &noise(2, 3000));
            let sha = sha_of(&store);
            store.close().expect("closed");
            copy(path, keep);
            fs::write(keep.with_extension("sha256"), sha + "\n").expect("written");
            return;
        }
        "e-writers" => {
            let store = open(writers());
            for page in 0..12 {
                poke(&store, page * PAGE, &noise(page, 4096));
            }
            store.checkpoint_base().expect("a base");
            poke(&store, 13 * PAGE + 5, &noise(30, 100));
            poke(&store, 2 * PAGE, &[0; 4096]);
            store.checkpoint_delta().expect("a delta");
            store.resize(9 * PAGE).expect("shrunk");
            store.checkpoint_delta().expect("a delta");
            store.resize(14 * PAGE).expect("grown");
            poke(&store, 11 * PAGE + 1000, &noise(31, 50));
            store.checkpoint_delta().expect("a delta");
            let sha = sha_of(&store);
            poke(&store, PAGE, &noise(32, 4096));
            copy(path, keep);
            fs::write(keep.with_extension("sha256"), sha + "\n").expect("written");
            return;
        }
        other => unreachable!("{other}"),
    };
    copy(path, keep);
    fs::write(keep.with_extension("sha256"), sha + "\n").expect("written");
}

/// Writes tests/fixtures/v1 if `FLATSPAN_MAKE_GOLDEN` is set. The fixtures were created once.
#[test]
fn create_golden_files() {
    if std::env::var_os("FLATSPAN_MAKE_GOLDEN").is_none() {
        return;
    }
    let dir = support::temp_dir();
    for name in NAMES {
        let keep = fixtures().join("v1").join(name);
        assert!(!keep.exists(), "already exists: {}", keep.display());
        make(name, &dir.path().join(name), &keep);
    }
}

fn open_kept(name: &str, path: &Path) -> Result<Store, StoreError> {
    let options = if name == "e-writers" {
        writers()
    } else {
        options()
    };
    Store::open(path, options.initial_bytes(0).create(false))
}

#[test]
fn golden_stores_are_restored() {
    let dir = support::temp_dir();
    for name in NAMES {
        let kept = fixtures().join("v1").join(name);
        let path = dir.path().join(name);
        copy(&kept, &path);
        let store = open_kept(name, &path).expect(name);
        let want = fs::read_to_string(kept.with_extension("sha256")).expect("its sum");
        assert_eq!(sha_of(&store), want.trim(), "{name}");
        let report = store.open_report();
        assert_eq!(
            report.clean_shutdown,
            name == "d-closed",
            "{name}: {report:?}"
        );
        assert!(
            report.fallback_reason.is_none() && report.repaired_metadata.is_empty(),
            "{name}: {report:?}"
        );
        assert!(report.ignored_tails.is_empty(), "{name}: {report:?}");
        store.checkpoint_base().expect("store continues");
    }
}

/// Running process of the independent reader: it reads a path and prints a JSON object.
struct Python(Child, BufReader<std::process::ChildStdout>);

impl Python {
    /// Starts the reader. Returns `None` after a visible skip without Python 3 or its package
    /// xxhash.
    #[track_caller]
    fn start() -> Option<Self> {
        if !need(Need::Tools, "python3") {
            return None;
        }
        let asked = Command::new("python3")
            .args(["-c", "import xxhash"])
            .output();
        if !asked.is_ok_and(|asked| asked.status.success()) {
            skip(Need::Tools, "python3 has no package xxhash");
            return None;
        }
        let mut child = Command::new("python3")
            .arg(fixtures().join("read_store.py"))
            .args(["--brief", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        Some(Self(child, out))
    }

    fn read(&mut self, store: &Path) -> Value {
        let mut input = self.0.stdin.as_ref().expect("its input");
        writeln!(input, "{}", store.display()).expect("call succeeds");
        let mut line = String::new();
        self.1.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

#[test]
fn independent_reader_agrees_on_golden_stores() {
    let Some(mut python) = Python::start() else {
        return;
    };
    for name in NAMES {
        let kept = fixtures().join("v1").join(name);
        let want = fs::read_to_string(kept.with_extension("sha256")).expect("its sum");
        let found = python.read(&kept);
        assert_eq!(found["sha256"], want.trim(), "{name}: {found}");
        assert_eq!(
            (&found["status"], &found["exit"]),
            (&"good".into(), &0.into()),
            "{name}: {found}"
        );
        assert_eq!(found["cuts"], Value::Array(Vec::new()), "{name}: {found}");
        assert_eq!(
            found["warnings"],
            Value::Array(Vec::new()),
            "{name}: {found}"
        );
    }
}

/// Result of a reader: the heap, whether the fallback was used, and the hash of the state; or that
/// the store is corrupt.
#[derive(Debug, PartialEq)]
enum Verdict {
    State {
        heap: String,
        fell_back: bool,
        sha: String,
    },
    Refused,
}

fn of_python(found: &Value) -> Verdict {
    if found["exit"] != 0 {
        return Verdict::Refused;
    }
    Verdict::State {
        heap: found["chosen"].as_str().expect("a heap").to_owned(),
        fell_back: found["status"] == "fallback",
        sha: found["sha256"].as_str().expect("a sum").to_owned(),
    }
}

fn of_rust(opened: &Result<Store, StoreError>) -> Verdict {
    match opened {
        Err(_) => Verdict::Refused,
        Ok(store) => {
            let report = store.open_report();
            let heap = if report.heap == HeapName::A { "a" } else { "b" };
            Verdict::State {
                heap: heap.to_owned(),
                fell_back: report.fallback_reason.is_some(),
                sha: sha_of(store),
            }
        }
    }
}

/// Returns the offsets to flip: every field of headers and records, and some random ones.
fn places(name: &str, bytes: &[u8], chance: &mut Chance) -> Vec<usize> {
    let header = [
        0, 8, 12, 16, 32, 36, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 4079, 4080, 4095,
    ];
    let mut places = Vec::new();
    if name.starts_with("heap") && name.ends_with(".00000") {
        for half in [0, 32 << 10] {
            places.extend(header.map(|at| half + at));
            places.extend([half + 4096, half + (32 << 10) - 1]);
        }
    }
    if name.starts_with("journal") && name.ends_with(".00000") {
        places.extend(header);
    }
    if name.starts_with("journal") {
        for (at, _) in bytes
            .windows(4)
            .enumerate()
            .filter(|(_, four)| four == b"FSRC")
        {
            places.extend(
                [0, 4, 5, 6, 8, 16, 24, 32, 40, 48, 55, 56, 64, 72, 80, 100]
                    .map(|field| at + field),
            );
        }
    }
    if name.starts_with("table") {
        places.extend(
            (0..bytes.len() / 4096)
                .flat_map(|block| [0, 1, 60, 510].map(|entry| block * 4096 + entry * 8)),
        );
    }
    places.extend(
        (0..8)
            .filter(|_| !bytes.is_empty())
            .map(|_| chance.below(bytes.len() as u64) as usize),
    );
    places.retain(|at| *at < bytes.len());
    places.sort_unstable();
    places.dedup();
    places
}

/// Change of one file of a golden store.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip(usize, u8),
    Cut(u64),
    Grow(u64),
    Remove,
}

impl Harm {
    fn be_done(self, path: &Path) {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .expect("file opens");
        match self {
            Self::Flip(at, bit) => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at as u64).expect("read");
                byte[0] ^= 1 << bit;
                file.write_all_at(&byte, at as u64).expect("flipped");
            }
            Self::Cut(len) | Self::Grow(len) => file.set_len(len).expect("its length"),
            Self::Remove => fs::remove_file(path).expect("removed"),
        }
    }
}

/// Makes each change to a copy of each golden store, and asserts that both readers agree.
///
/// Returns the cases in which they agree on a state that is not the stored one, although no file
/// was truncated. A corrupt tail cannot be distinguished from one that was never acknowledged.
fn judge_alike(harms: impl Fn(&str, &[u8], &mut Chance) -> Vec<Harm>) -> Vec<String> {
    let Some(mut python) = Python::start() else {
        return Vec::new();
    };
    let dir = support::temp_dir();
    let mut chance = Chance(1);
    let (mut done, mut differences, mut others) = (0, Vec::new(), Vec::new());
    for name in NAMES {
        let kept = fixtures().join("v1").join(name);
        let path = dir.path().join(name);
        let want = fs::read_to_string(kept.with_extension("sha256")).expect("its sum");
        for entry in fs::read_dir(&kept).expect("a directory") {
            let file = entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name");
            let bytes = fs::read(kept.join(&file)).expect("a file");
            for harm in harms(&file, &bytes, &mut chance) {
                copy(&kept, &path);
                harm.be_done(&path.join(&file));
                let found = python.read(&path);
                let opened = open_kept(name, &path);
                let (theirs, ours) = (of_python(&found), of_rust(&opened));
                let report = opened.as_ref().map(Store::open_report);
                done += 1;
                if theirs != ours {
                    differences.push(format!(
                        "{name}/{file} {harm:?}: {theirs:?} ({}, {}) but {ours:?} ({report:?}), made as {want}",
                        found["error"], found["why"]
                    ));
                }
                let has_tail = report
                    .as_ref()
                    .is_ok_and(|report| !report.ignored_tails.is_empty());
                if !has_tail && matches!(&ours, Verdict::State { sha, .. } if sha != want.trim()) {
                    others.push(format!("{name}/{file} {harm:?}: {report:?}"));
                }
                drop(opened);
                fs::remove_dir_all(&path).expect("removed");
            }
        }
    }
    assert!(done > 0, "no file was changed");
    assert!(
        differences.is_empty(),
        "{} of {done}:\n{}",
        differences.len(),
        differences.join("\n")
    );
    others
}

fn flips(name: &str, bytes: &[u8], chance: &mut Chance) -> Vec<Harm> {
    let places = places(name, bytes, chance);
    places
        .into_iter()
        .skip(chance.below(campaign::step(4) as u64) as usize)
        .step_by(campaign::step(4))
        .map(|at| Harm::Flip(at, chance.below(8) as u8))
        .collect()
}

#[test]
fn both_readers_agree_on_flipped_bytes() {
    let others = judge_alike(flips);
    assert!(
        others.is_empty(),
        "{}:\n{}",
        others.len(),
        others.join("\n")
    );
}

#[test]
fn both_readers_agree_on_truncated_and_missing_files() {
    judge_alike(|_, bytes, _| {
        let len = bytes.len() as u64;
        let lengths = [
            0,
            4096,
            len / 2,
            len.saturating_sub(4096),
            len.saturating_sub(1),
        ];
        let mut harms: Vec<_> = lengths
            .into_iter()
            .filter(|shorter| *shorter < len)
            .map(Harm::Cut)
            .collect();
        if len + 100 <= PART {
            harms.push(Harm::Grow(len + 100));
        }
        harms.push(Harm::Remove);
        harms
    });
}

/// Changes a transactional store at random; after every step both readers see the same state as
/// memory.
fn transactions_by_chance(seed: u64, python: &mut Python) {
    let dir = support::temp_dir();
    let (path, other) = (dir.path().join("store"), dir.path().join("copy"));
    let mut chance = Chance(seed);
    // Half of the stores change their part length now and then.
    let part = Cell::new(PART);
    let options = || {
        options()
            .initial_bytes([0, 20, 700][seed as usize % 3] * PAGE)
            .part_bytes(part.get())
            .convert_part_bytes(true)
            // No background work writes while files are copied.
            .create_second_heap(false)
    };
    let mut store = Store::open(&path, options()).expect("a store");
    for step in 0..25 {
        if seed % 4 > 1 {
            part.set(PART << chance.below(3));
        }
        let what = match chance.below(13) {
            12 => {
                store
                    .create_second_heap()
                    .expect("second heap is created or exists");
                "second heap"
            }
            0 | 1 => {
                store.checkpoint().expect("a checkpoint");
                "checkpoint"
            }
            2 => {
                drop(store);
                store = Store::open(&path, options().initial_bytes(0)).expect("again");
                "crash"
            }
            3 => {
                store.close().expect("closed");
                same(seed, step, "closed", None, &path, &other, python, options());
                store = Store::open(&path, options().initial_bytes(0)).expect("again");
                "close"
            }
            _ => {
                let some: Done = store.transaction(|tx| {
                    for _ in 0..=chance.below(4) {
                        if chance.below(5) == 0 {
                            tx.resize(chance.below(if seed % 3 == 2 { 1500 } else { 40 }) * PAGE)?;
                        }
                        let len = tx.len();
                        if len == 0 {
                            continue;
                        }
                        let at = chance.below(len);
                        let bytes = chance.below((len - at).min(9000)) + 1;
                        if chance.below(4) == 0 {
                            tx.discard(at..at + bytes)?;
                        } else {
                            tx.write_at(at, &noise(chance.below(1 << 20), bytes as usize))?;
                        }
                    }
                    Ok(())
                });
                some.expect("a transaction");
                "transaction"
            }
        };
        same(
            seed,
            step,
            what,
            Some(sha_of(&store)),
            &path,
            &other,
            python,
            options(),
        );
    }
}

#[expect(clippy::too_many_arguments, reason = "context of the failure message")]
fn same(
    seed: u64,
    step: u32,
    what: &str,
    want: Option<String>,
    path: &Path,
    other: &Path,
    python: &mut Python,
    options: StoreOptions,
) {
    copy(path, other);
    let found = python.read(other);
    let opened = Store::open(other, options.initial_bytes(0).create(false));
    let place = format!("seed {seed}, step {step}, {what}, memory {want:?}");
    let verdict = of_python(&found);
    assert_eq!(
        verdict,
        of_rust(&opened),
        "{place}: {found}, {:?}",
        opened.as_ref().map(Store::open_report)
    );
    let Verdict::State { sha, .. } = verdict else {
        panic!("{place}: {found}");
    };
    let want = want.unwrap_or_else(|| sha.clone());
    assert_eq!(sha, want, "{place}: {found}");
    assert_eq!(found["status"], "good", "{place}: {found}");
    assert_eq!(
        found["warnings"],
        Value::Array(Vec::new()),
        "{place}: {found}"
    );
    let report = opened.as_ref().expect(&place).open_report();
    let cuts = found["cuts"].as_array().map_or(0, Vec::len);
    assert_eq!(
        cuts,
        report.ignored_tails.len(),
        "{place}: {found}, {report:?}"
    );
    for (field, ours) in [
        ("sequence", report.sequence.get()),
        ("generation", report.generation.get()),
    ] {
        assert_eq!(found[field], ours, "{field}: {place}: {found}, {report:?}");
    }
    drop(opened);
    fs::remove_dir_all(other).expect("removed");
}

/// As above with tracked memory: the readers see the state of the last checkpoint.
fn writers_by_chance(seed: u64, python: &mut Python) {
    let dir = support::temp_dir();
    let (path, other) = (dir.path().join("store"), dir.path().join("copy"));
    let mut chance = Chance(seed);
    let options = || writers().initial_bytes([1, 20, 700][seed as usize % 3] * PAGE);
    let mut store = Store::open(&path, options()).expect("a store");
    let mut want = sha_of(&store);
    for step in 0..25 {
        let what = match chance.below(12) {
            0 | 1 => {
                store.checkpoint_base().expect("a base");
                want = sha_of(&store);
                "base"
            }
            2..=4 => {
                store.checkpoint_delta().expect("a delta");
                want = sha_of(&store);
                "delta"
            }
            5 => {
                drop(store);
                store = Store::open(&path, options().initial_bytes(0)).expect("again");
                assert_eq!(sha_of(&store), want, "seed {seed}, step {step}");
                "crash"
            }
            6 => {
                want = sha_of(&store);
                store.close().expect("closed");
                same(
                    seed,
                    step,
                    "closed",
                    Some(want.clone()),
                    &path,
                    &other,
                    python,
                    options(),
                );
                store = Store::open(&path, options().initial_bytes(0)).expect("again");
                "close"
            }
            7 => {
                let pages = chance.below(if seed % 3 == 2 { 1500 } else { 40 });
                store.resize(pages * PAGE).expect("resized");
                "resize"
            }
            _ => {
                let len = store.len();
                for _ in 0..chance.below(6).min(len) {
                    let at = chance.below(len);
                    let bytes = chance.below((len - at).min(20_000)) + 1;
                    let seed = chance.below(1 << 20);
                    if seed.is_multiple_of(4) {
                        poke(&store, at, &vec![0; bytes as usize]);
                    } else {
                        poke(&store, at, &noise(seed, bytes as usize));
                    }
                }
                "write"
            }
        };
        same(
            seed,
            step,
            what,
            Some(want.clone()),
            &path,
            &other,
            python,
            options(),
        );
    }
}

#[test]
fn both_readers_agree_on_random_stores() {
    let Some(mut python) = Python::start() else {
        return;
    };
    let seeds = std::env::var("FLATSPAN_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(3);
    let from = std::env::var("FLATSPAN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0);
    for seed in from..from + seeds {
        transactions_by_chance(seed, &mut python);
        writers_by_chance(seed, &mut python);
    }
}
