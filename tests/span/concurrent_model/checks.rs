//! Checks while no thread works: the files on disk, and what is left after the end.

use std::{fs, io, path::Path};

use super::{reading::Reading, scenario::Scenario};
use crate::support::{memory, temporary};

/// Resources of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resources {
    descriptors: usize,
    /// Mappings of files in directories of the tests.
    file_mappings: usize,
}

impl Resources {
    pub(crate) fn now() -> Self {
        Self {
            descriptors: memory::descriptors(),
            file_mappings: mappings_with(temporary::PREFIX).len(),
        }
    }
}

impl Scenario {
    /// Every file has the bytes of the model, read without the library.
    pub(crate) fn check_files(&self) {
        for file in &self.model.files {
            let root = usize::from(file.is_shared);
            let bytes = match fs::read(self.roots[root].join(&file.path)) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !file.exists() => continue,
                Err(error) => panic!("{}: {error}", file.path),
            };
            let found = bytes.len() as u64;
            assert!(
                (file.floor()..=file.len).contains(&found),
                "{}: {found} bytes instead of {} to {}",
                file.path,
                file.floor(),
                file.len
            );
            for number in &file.stripes {
                let stripe = &self.model.stripes[*number];
                let start = (stripe.start as usize).min(bytes.len());
                let end = (stripe.end() as usize).min(bytes.len());
                let found = &bytes[start..end];
                let same = stripe.matching(stripe.settled(), 0, found);
                assert!(!same.is_empty(), "on disk: {}", stripe.describe(0, found));
            }
        }
    }

    /// Every group has the bytes of the model.
    pub(crate) fn check_groups(&self) {
        for (number, group) in self.groups.iter().enumerate() {
            let group = group.as_ref().expect("open");
            for entry in 0..group.entry_count() {
                let range = group.layout().entry_range(entry).expect("an entry");
                let reading = Reading::new(&self.model, number, &range);
                let mut buf = vec![0xEE; reading.certain()];
                let read = group.read_exact_at(range.start, &mut buf);
                read.unwrap_or_else(|error| panic!("entry {entry}: {error:?}"));
                reading.check(&format!("entry {entry} of group {number}"), &buf, true);
            }
        }
    }

    /// Drops the groups, and checks that nothing of them is left.
    pub(crate) fn end(self) {
        let Self {
            directory,
            caches,
            groups,
            ..
        } = self;
        drop(groups);
        for cache in &caches {
            let stats = cache.cache.stats();
            let left = (stats.mapped_bytes, stats.mappings, stats.pinned_mappings);
            assert_eq!(left, (0, 0, 0), "{stats:?}");
            let left = (stats.open_files, stats.dirty_files);
            assert_eq!(left, (0, 0), "{stats:?}");
        }
        drop(caches);
        let mapped = mappings_with(directory.path().to_str().expect("UTF-8"));
        assert!(mapped.is_empty(), "still mapped: {mapped:?}");
        let open = descriptors_below(directory.path());
        assert!(open.is_empty(), "still open: {open:?}");
    }
}

/// Mappings of files whose path contains this.
fn mappings_with(path: &str) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let found = maps.lines().filter(|line| line.contains(path));
    found.map(str::to_owned).collect()
}

fn descriptors_below(directory: &Path) -> Vec<String> {
    let descriptors = fs::read_dir("/proc/self/fd").expect("fd");
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let below = targets.filter(|target| target.starts_with(directory));
    below.map(|target| target.display().to_string()).collect()
}
