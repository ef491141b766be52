//! All files, stripes and groups of a scenario, generated from a seed.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    file::File,
    plan::{Kind, Plan},
    stripe::Stripe,
};
use crate::content::{Rng, WINDOW_BYTES};

/// Consecutive files with the same home, so that threads write across files.
const FILES_PER_BLOCK: usize = 3;

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) threads: usize,
    pub(crate) files: Vec<File>,
    pub(crate) stripes: Vec<Stripe>,
    /// The first group, and the second one with hard links of its files.
    pub(crate) plans: [Plan; 2],
    /// Hard links in the root of the first group, as pairs of link and file.
    pub(crate) links: Vec<(String, usize)>,
    /// Number of the last operation of each thread that changed bytes.
    numbers: Vec<AtomicU64>,
}

impl Model {
    pub(crate) fn new(threads: usize, files: usize, rng: &mut Rng) -> Self {
        let mut model = Self {
            threads,
            files: Vec::new(),
            stripes: Vec::new(),
            plans: Default::default(),
            links: Vec::new(),
            numbers: (0..threads).map(|_| AtomicU64::new(0)).collect(),
        };
        for _ in 0..files {
            let is_shared = rng.percent(90);
            model.generate_file(is_shared, rng);
        }
        model.plan_first(rng);
        model.plan_second(rng);
        model
    }

    pub(crate) fn next_number(&self, thread: usize) -> u64 {
        self.numbers[thread].fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Adds a file to the end of the first group. The file does not exist yet.
    pub(crate) fn append_file(&mut self, rng: &mut Rng) -> usize {
        let number = self.generate_file(false, rng);
        self.plan_file(0, number);
        number
    }

    /// Adds a stripe to the last entry of the first group if it is a file of that group alone.
    /// Returns the new length of the file.
    pub(crate) fn grow_last_file(&mut self, rng: &mut Rng) -> Option<u64> {
        let Kind::File { file, .. } = self.plans[0].entries.last()?.kind else {
            return None;
        };
        if self.files[file].is_shared {
            return None;
        }
        let len = some_bytes(rng);
        let stripe = self.add_stripe(file, self.files[file].home, len);
        self.plans[0].grow_last(stripe, len);
        Some(self.files[file].len)
    }

    fn generate_file(&mut self, is_shared: bool, rng: &mut Rng) -> usize {
        let number = self.files.len();
        let home = number / FILES_PER_BLOCK % self.threads;
        let path = match rng.below(3) {
            0 => format!("file-{number}"),
            1 => format!("directory/file-{number}"),
            _ => format!("directory/{}/deep/file-{number}", rng.below(3)),
        };
        self.files.push(File::new(path, home, is_shared));
        let is_mixed = rng.percent(35);
        for _ in 0..rng.below(6) {
            let owner = if is_mixed && rng.percent(60) {
                rng.below(self.threads as u64) as usize
            } else {
                home
            };
            let len = some_bytes(rng);
            self.add_stripe(number, owner, len);
        }
        self.files[number].fixed = self.files[number].len;
        if rng.percent(40) {
            for _ in 0..rng.below(3) + 1 {
                let len = some_bytes(rng);
                self.add_stripe(number, home, len);
            }
        }
        number
    }

    fn add_stripe(&mut self, file: usize, owner: usize, len: usize) -> usize {
        let number = self.stripes.len();
        let start = self.files[file].len;
        self.stripes.push(Stripe::new(owner, file, start, len));
        self.files[file].stripes.push(number);
        self.files[file].len += len as u64;
        number
    }

    /// All files in order, between padding, second entries, ranges and hard links.
    fn plan_first(&mut self, rng: &mut Rng) {
        for file in 0..self.files.len() {
            match rng.below(20) {
                0..=2 => self.plan_padding(0, rng),
                3 => self.plan_range(0, file, rng),
                4 if file > 0 => {
                    let earlier = rng.below(file as u64) as usize;
                    self.plan_file(0, earlier);
                }
                5 | 6 if self.files[file].is_shared => {
                    let link = format!("links/{}", self.links.len());
                    self.plan_entry(0, file, link.clone());
                    self.links.push((link, file));
                }
                _ => {}
            }
            self.plan_file(0, file);
        }
    }

    /// The shared files, in blocks in random order.
    fn plan_second(&mut self, rng: &mut Rng) {
        let mut blocks: Vec<Vec<usize>> = (0..self.files.len())
            .collect::<Vec<_>>()
            .chunks(FILES_PER_BLOCK)
            .map(|block| block.iter().rev().copied().collect())
            .collect();
        for index in (1..blocks.len()).rev() {
            blocks.swap(index, rng.below(index as u64 + 1) as usize);
        }
        for file in blocks.into_iter().flatten() {
            if self.files[file].is_shared {
                match rng.below(10) {
                    0 => self.plan_padding(1, rng),
                    1 => self.plan_range(1, file, rng),
                    _ => {}
                }
                self.plan_file(1, file);
            }
        }
    }

    fn plan_file(&mut self, group: usize, file: usize) {
        let path = self.files[file].path.clone();
        self.plan_entry(group, file, path);
    }

    fn plan_entry(&mut self, group: usize, file: usize, path: String) {
        let stripes = &self.files[file].stripes;
        self.plans[group].add(Kind::File { file, path }, stripes, &self.stripes, 0);
    }

    fn plan_padding(&mut self, group: usize, rng: &mut Rng) {
        let len = some_bytes(rng) as u64;
        self.plans[group].add(Kind::Padding, &[], &self.stripes, len);
    }

    /// A range of a file, between stripes.
    fn plan_range(&mut self, group: usize, file: usize, rng: &mut Rng) {
        let stripes = &self.files[file].stripes;
        let count = stripes.len() as u64;
        if count == 0 {
            return;
        }
        let first = rng.below(count) as usize;
        let last = first + rng.below(count - first as u64) as usize;
        let from = self.stripes[stripes[first]].start;
        let stripes = &stripes[first..=last];
        self.plans[group].add(Kind::Range { file, from }, stripes, &self.stripes, 0);
    }

    /// The files of a range of a group, each once.
    pub(crate) fn files_of(&self, group: usize, range: &Range<u64>) -> Vec<usize> {
        let parts = self.plans[group].parts(range);
        let stripes = parts.iter().filter_map(|part| part.stripe);
        let mut files: Vec<usize> = stripes.map(|stripe| self.stripes[stripe].file).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Whether a range has the same bytes of a file twice.
    pub(crate) fn repeats(&self, group: usize, range: &Range<u64>) -> bool {
        let parts = self.plans[group].parts(range);
        let mut places: Vec<_> = parts
            .into_iter()
            .filter_map(|part| Some((part.stripe?, part.range.start, part.range.end)))
            .collect();
        places.sort_unstable();
        places
            .windows(2)
            .any(|pair| pair[0].0 == pair[1].0 && pair[1].1 < pair[0].2)
    }
}

/// A small length, one near a multiple of a window, or a random one.
fn some_bytes(rng: &mut Rng) -> usize {
    (match rng.below(6) {
        0 | 1 => rng.below(64) + 1,
        2 => (rng.below(3) + 1) * WINDOW_BYTES + rng.below(3) - 1,
        3 | 4 => rng.below(WINDOW_BYTES) + 1,
        _ => rng.below(3 * WINDOW_BYTES) + 1,
    }) as usize
}
