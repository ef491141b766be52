//! Corruption of the files of a store (docs/file-format.md).

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use crate::fixture::{PAGE, PART};

/// Offsets of the copies of METADATA.
pub(crate) const COPIES: [u64; 2] = [0, 32 << 10];
const METADATA_BYTES: u64 = 64 << 10;

fn part(store: &Path, array: &str, number: u64) -> std::path::PathBuf {
    store.join(format!("{array}.{number:05}"))
}

fn open(store: &Path, array: &str, number: u64) -> File {
    let path = part(store, array, number);
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a part")
}

/// Inverts one bit of a logical file whose parts have [`PART`] bytes.
pub(crate) fn flip(store: &Path, array: &str, offset: u64) {
    let file = open(store, array, offset / PART);
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset % PART)
        .expect("a byte");
    byte[0] ^= 4;
    file.write_all_at(&byte, offset % PART).expect("written");
}

pub(crate) fn flip_page(store: &Path, array: &str, page: u64) {
    flip(store, array, METADATA_BYTES + page * PAGE + 1000);
}

pub(crate) fn truncate(store: &Path, array: &str, number: u64, bytes: u64) {
    open(store, array, number)
        .set_len(bytes)
        .expect("truncated");
}

pub(crate) fn delete(store: &Path, array: &str, number: u64) {
    fs::remove_file(part(store, array, number)).expect("deleted");
}

pub(crate) fn swap(store: &Path, array: &str, [one, other]: [u64; 2]) {
    let temporary = store.join("temporary");
    fs::rename(part(store, array, one), &temporary).expect("renamed");
    fs::rename(part(store, array, other), part(store, array, one)).expect("renamed");
    fs::rename(temporary, part(store, array, other)).expect("renamed");
}

pub(crate) fn randomize(store: &Path, array: &str, number: u64) {
    let file = open(store, array, number);
    let len = file.metadata().expect("metadata").len();
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let bytes: Vec<u8> = (0..len).map(|_| next()).collect();
    file.write_all_at(&bytes, 0).expect("written");
}

/// Changes both copies of METADATA and their checksums.
pub(crate) fn rewrite_metadata(store: &Path, heap: &str, change: impl Fn(&mut [u8])) {
    let file = open(store, heap, 0);
    for at in COPIES {
        let mut block = [0; PAGE as usize];
        file.read_exact_at(&mut block, at).expect("a copy");
        change(&mut block);
        let checksum = xxh3_128(&block[..4080]);
        block[4080..].copy_from_slice(&checksum.to_le_bytes());
        file.write_all_at(&block, at).expect("written");
    }
}

/// Name of the journal file with the highest number, without its part number.
pub(crate) fn last_journal(store: &Path) -> String {
    let entries = fs::read_dir(store).expect("the store");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("UTF-8"));
    let last = names.filter(|name| name.starts_with("journal-")).max();
    let last = last.expect("a journal");
    last.trim_end_matches(".00000").to_owned()
}
