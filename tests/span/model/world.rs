//! A group, its files, and the model of both.

use std::{fs, ops::Range, path::PathBuf};

use flatspan::{
    mapping_cache::{Access, BudgetPolicy, CacheOptions, CopyMethod, MappingCache, Preallocation},
    span::{Group, GroupBuilder},
};
use tempfile::TempDir;

use super::files::{Entry, File, Files};
use crate::{
    content::{Rng, WINDOW_BYTES},
    support,
};

const FILE_BYTES_MAX: u64 = 256 << 10;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) copy_path: CopyMethod,
    pub(crate) preallocation: Preallocation,
    pub(crate) files: Files,
    /// `None` only while the group is rebuilt.
    pub(crate) group: Option<Group>,
    pub(crate) when_pinned: BudgetPolicy,
    pub(crate) budget_bytes: u64,
    /// The end of a share: no file has entries on both sides of it.
    pub(crate) seams: Vec<u64>,
}

impl World {
    pub(crate) fn new(copy_path: CopyMethod, preallocation: Preallocation, rng: &mut Rng) -> Self {
        let mut world = Self {
            directory: support::temp_dir(),
            copy_path,
            preallocation,
            files: Files::default(),
            group: None,
            when_pinned: BudgetPolicy::AllowExceeding,
            budget_bytes: 0,
            seams: Vec::new(),
        };
        for _ in 0..super::THREADS {
            world.plan_section(rng);
        }
        // Before the group opens, because hard links need an existing file.
        world.make_hard_links();
        world.reopen(None, rng);
        world
    }

    pub(crate) fn group(&self) -> &Group {
        self.group.as_ref().expect("open")
    }

    pub(crate) fn path(&self, entry: usize) -> PathBuf {
        self.directory.path().join(&self.files.entries[entry].path)
    }

    /// Adds entries of every kind. The next share may begin in the middle of the last file.
    fn plan_section(&mut self, rng: &mut Rng) {
        let first = self.files.files.len();
        for _ in 0..rng.below(5) + 2 {
            match rng.below(10) {
                0..=4 => self.plan_file(some_length(rng), rng),
                5 => self.plan_file(0, rng),
                6 => self.push(None, PathBuf::new(), 0..some_length(rng) / 4, false),
                7 => {
                    // Two ranges of one file, the later bytes first.
                    self.plan_file(some_length(rng).max(2), rng);
                    let whole = self.files.entries.pop().expect("just added");
                    let split = rng.below(whole.len);
                    self.push(whole.file, whole.path.clone(), split..whole.len, true);
                    self.push(whole.file, whole.path, 0..split, true);
                }
                choice => {
                    // A file of this section a second time, by the same path or another name.
                    let count = self.files.files.len() - first;
                    if count == 0 {
                        continue;
                    }
                    let file = first + rng.below(count as u64) as usize;
                    let same = |entry: &&Entry| entry.file == Some(file);
                    let other = self.files.entries.iter().find(same).expect("an entry");
                    let len = self.files.files[file].bytes.len() as u64;
                    let path = if choice == 8 {
                        other.path.clone()
                    } else {
                        PathBuf::from(format!("links/{}", self.files.entries.len()))
                    };
                    self.push(Some(file), path, 0..len, false);
                }
            }
        }
        let start = self.files.len();
        self.plan_file(some_length(rng), rng);
        let len = self.files.len() - start;
        self.seams
            .push(start + if len == 0 { 0 } else { rng.below(len) });
    }

    pub(crate) fn plan_file(&mut self, len: u64, rng: &mut Rng) {
        let file = self.files.files.len();
        self.files.files.push(File {
            bytes: vec![0; len as usize],
            reach: None,
        });
        let path = match rng.below(3) {
            0 => format!("file-{file}"),
            1 => format!("directory/file-{file}"),
            _ => format!("directory/{}/deep/file-{file}", rng.below(3)),
        };
        self.push(Some(file), path.into(), 0..len, false);
        if len == 0 {
            self.files.files[file].reach = Some(0);
        }
    }

    fn push(&mut self, file: Option<usize>, path: PathBuf, range: Range<u64>, is_range: bool) {
        self.files.entries.push(Entry {
            file,
            path,
            start: range.start,
            len: range.end - range.start,
            is_range,
        });
        if let Some(file) = file
            && range.is_empty()
        {
            // Empty entries are created, whatever other entries the file has.
            let file = &mut self.files.files[file];
            file.reach = file.reach.or(Some(0));
        }
    }

    fn make_hard_links(&mut self) {
        for entry in self.files.entries.clone() {
            let Some(file) = entry.file.filter(|_| entry.path.starts_with("links")) else {
                continue;
            };
            let original = self.files.entries.iter().find(|e| e.file == Some(file));
            let original = self
                .directory
                .path()
                .join(&original.expect("an entry").path);
            for path in [original.clone(), self.directory.path().join(&entry.path)] {
                fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
            }
            if !original.exists() {
                fs::write(&original, []).expect("create");
                self.files.files[file].reach = Some(0);
            }
            fs::hard_link(&original, self.directory.path().join(&entry.path)).expect("link");
        }
    }

    /// Builds the group again, with this cache or a fresh one.
    pub(crate) fn reopen(&mut self, cache: Option<MappingCache>, rng: &mut Rng) {
        self.group = None;
        let cache = cache.unwrap_or_else(|| self.fresh_cache(rng));
        let mut builder = Group::builder(self.directory.path())
            .cache(&cache)
            .access(Access::ReadWrite)
            .create(true)
            .preallocation(self.preallocation);
        for entry in &self.files.entries {
            builder = add(builder, entry);
        }
        let group = builder.open().expect("a group");
        assert_eq!(group.len(), self.files.len());
        self.group = Some(group);
    }

    fn fresh_cache(&mut self, rng: &mut Rng) -> MappingCache {
        let windows = [1, 2, 16, 1024][rng.below(4) as usize];
        self.budget_bytes = windows * WINDOW_BYTES;
        self.when_pinned =
            [BudgetPolicy::AllowExceeding, BudgetPolicy::Fail][rng.below(2) as usize];
        let options = CacheOptions::default()
            .window_bytes(WINDOW_BYTES as usize)
            .budget_bytes(self.budget_bytes)
            .budget_policy(self.when_pinned)
            .descriptors_max([4, 8, 64][rng.below(3) as usize])
            .copy_method(self.copy_path);
        MappingCache::new(options).expect("a cache")
    }

    /// Divides the array into disjoint shares, one for each thread.
    pub(crate) fn shares(&self, threads: usize) -> Vec<Range<u64>> {
        let mut bounds = vec![0];
        bounds.extend(&self.seams[..threads - 1]);
        bounds.push(self.files.len());
        bounds.windows(2).map(|pair| pair[0]..pair[1]).collect()
    }

    pub(crate) fn check_budget(&self) {
        let stats = self.group().stats();
        assert_eq!(stats.pinned_mappings, 0);
        if self.when_pinned == BudgetPolicy::Fail {
            assert_eq!(stats.over_budget_mappings, 0);
        }
        // Budget exceeded for pinned windows is returned when the next window is mapped.
        if stats.over_budget_mappings == 0 {
            assert!(stats.mapped_bytes_max <= self.budget_bytes, "{stats:?}");
        }
    }
}

fn add(builder: GroupBuilder, entry: &Entry) -> GroupBuilder {
    if entry.file.is_none() {
        builder.padding(entry.len)
    } else if entry.is_range {
        builder.file_range(&entry.path, entry.start..entry.start + entry.len)
    } else {
        builder.file(&entry.path, entry.len)
    }
}

/// A small length, a multiple of the window or its neighbour, or a random one.
pub(crate) fn some_length(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0 => 0,
        1 | 2 => rng.below(64) + 1,
        3 | 4 => (rng.below(8) * WINDOW_BYTES + rng.below(3)).saturating_sub(1),
        5 | 6 => rng.below(8 * WINDOW_BYTES),
        _ => rng.below(FILE_BYTES_MAX + 1),
    }
}
