//! Operations between two rounds: the group grows, is synced, released, dropped and built again.

use std::fs;

use flatspan::{
    mapping_cache::{CopyMethod, FlushMode, Preallocation},
    span::Pieces,
};

use super::{
    operations::assert_same,
    world::{World, some_length},
};
use crate::content::{Rng, short_file};

impl World {
    pub(crate) fn reshape(&mut self, rng: &mut Rng) {
        self.learn_lengths();
        match rng.below(16) {
            0 | 1 => self.append(rng),
            2 | 3 => self.grow_last(rng),
            4 | 5 => self.release(rng),
            6 => self.group().sync_all().expect("sync_all"),
            7 => self.group().flush(.., FlushMode::Sync).expect("flush"),
            8 => self.evict_all(),
            9 | 10 => self.reopen(None, rng),
            11 => {
                let cache = self.group().cache().clone();
                self.group = None;
                assert_eq!(
                    cache.stats().mapped_bytes,
                    0,
                    "a dropped group releases its mappings"
                );
                self.reopen(Some(cache), rng);
            }
            12 | 13 => self.hash_some_pieces(rng),
            _ => {}
        }
        self.check_everything();
    }

    /// Queries the length of each file, which must cover all that was written to it.
    fn learn_lengths(&mut self) {
        for number in 0..self.files.entries.len() {
            let entry = &self.files.entries[number];
            let Some(file) = entry.file else { continue };
            let known = self.files.files[file].reach;
            let present = self.path(number).metadata().ok().map(|found| found.len());
            assert!(
                present >= known,
                "entry {number}: {present:?} instead of {known:?}"
            );
            let longest = self.files.files[file].bytes.len() as u64;
            assert!(
                present.is_none_or(|present| present <= longest),
                "entry {number}"
            );
            let is_exact =
                self.copy_path != CopyMethod::Mapped && self.preallocation != Preallocation::Full;
            assert!(!is_exact || present == known, "entry {number}: {present:?}");
            self.files.files[file].reach = present;
        }
    }

    fn append(&mut self, rng: &mut Rng) {
        self.plan_file(some_length(rng), rng);
        let entry = self.files.entries.last().expect("just planned").clone();
        let group = self.group.as_mut().expect("open");
        group
            .append_file(entry.path, entry.len)
            .expect("append_file");
        assert_eq!(group.len(), self.files.len());
    }

    fn grow_last(&mut self, rng: &mut Rng) {
        let more = some_length(rng).min(64 << 10);
        let last = self.files.entries.last_mut().expect("an entry");
        last.len += more;
        let file = &mut self.files.files[last.file.expect("sections end with a file")];
        file.bytes.resize((last.start + last.len) as usize, 0);
        let len = last.len;
        self.group
            .as_mut()
            .expect("open")
            .grow_last_file(len)
            .expect("grow_last");
    }

    /// Closes a file, and replaces it by a copy if no other entry names it.
    fn release(&mut self, rng: &mut Rng) {
        let entry = rng.below(self.files.entries.len() as u64) as usize;
        let path = self.path(entry);
        let group = self.group.as_mut().expect("open");
        if self.files.entries[entry].file.is_none() {
            assert!(group.close_file(entry).is_err());
            return;
        }
        group.close_file(entry).expect("release_file");
        let file = self.files.entries[entry].file;
        let names = self.files.entries.iter().filter(|other| other.file == file);
        let has_links = names
            .into_iter()
            .any(|other| other.path.starts_with("links"));
        if path.exists() && !has_links {
            let copy = path.with_extension("copy");
            fs::copy(&path, &copy).expect("copy");
            fs::rename(&copy, &path).expect("rename");
        }
    }

    fn evict_all(&self) {
        let group = self.group();
        let mapped = group.stats().mapped_bytes;
        assert_eq!(group.evict(..).expect("evict"), mapped);
        assert_eq!(group.stats().mapped_bytes, 0);
    }

    fn hash_some_pieces(&self, rng: &mut Rng) {
        use flatspan::span::{PieceHasher as _, Sha1};
        let group = self.group();
        let len = rng.below(40_000) + 1;
        let pieces = Pieces::new(group, len).expect("pieces");
        for _ in 0..8.min(pieces.count()) {
            let piece = rng.below(pieces.count() as u64) as usize;
            let range = pieces.range(piece).expect("a piece");
            let bytes = self.files.bytes(&range);
            let is_there = self.files.certain(&range) == bytes.len();
            match pieces.hash(piece) {
                Ok(hash) => {
                    let mut expected = Sha1::default();
                    expected.update(&bytes);
                    assert_eq!(hash, expected.finish(), "piece {piece} of {len} bytes");
                    assert!(is_there, "piece {piece} of {len} bytes");
                }
                Err(error) => assert!(!is_there, "piece {piece} of {len} bytes: {error}"),
            }
        }
    }

    /// While no other thread works, the lengths are known exactly.
    fn check_everything(&mut self) {
        self.learn_lengths_again();
        let bounds = self.files.bounds();
        for number in 0..self.files.entries.len() {
            let range = bounds[number]..bounds[number + 1];
            let expected = self.files.bytes(&range);
            let there = self.files.certain(&range);
            let mut buf = vec![0xEE; there];
            self.group()
                .read_exact_at(range.start, &mut buf)
                .unwrap_or_else(|error| panic!("entry {number}, {there} bytes: {error}"));
            assert_same(&buf, &expected[..there], range.start);
            if there < expected.len() {
                self.check_end(number, range.start + there as u64);
            }
        }
    }

    /// Reading the byte after the end of a file is an error that reports its length.
    fn check_end(&self, number: usize, at: u64) {
        let entry = &self.files.entries[number];
        let error = self
            .group()
            .read_exact_at(at, &mut [0])
            .expect_err("the file is missing");
        let file = entry.file.expect("padding is there");
        match self.files.files[file].reach {
            Some(reach) => {
                let (path, needed, present) = short_file(error);
                assert_eq!((path, present), (self.path(number), reach));
                assert_eq!(needed, entry.start + at - self.files.bounds()[number] + 1);
            }
            None => assert_eq!(crate::content::missing(error), self.path(number)),
        }
    }

    /// Asserts that no file became shorter since the last check, and that only empty files were
    /// created.
    fn learn_lengths_again(&mut self) {
        for number in 0..self.files.entries.len() {
            let Some(file) = self.files.entries[number].file else {
                continue;
            };
            let present = self.path(number).metadata().ok().map(|found| found.len());
            assert_eq!(present, self.files.files[file].reach, "entry {number}");
        }
    }
}
