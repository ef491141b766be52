//! Files and caches for the tests: bytes that identify their position, and the smallest of caches.

use std::{
    fs,
    path::{Path, PathBuf},
};

use flatspan::{
    mapping_cache::{CacheOptions, CopyMethod, MappingCache, MappingError, Preallocation},
    span::GroupError,
};

/// The smallest window.
pub(crate) const WINDOW_BYTES: u64 = 4096;

pub(crate) const COPY_PATHS: [CopyMethod; 3] =
    [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned];

pub(crate) const PREALLOCATIONS: [Preallocation; 3] = [
    Preallocation::Full,
    Preallocation::Window,
    Preallocation::Sparse,
];

/// Pseudo-random numbers (splitmix64), reproducible from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Returns `true` in `share` of a hundred cases.
    pub(crate) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// Noise without zero bytes, so that a hole never passes for it.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            let bytes = (self.next() | 0x0101_0101_0101_0101).to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// Noise that differs for every seed, without zero bytes.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::new(seed).fill(&mut bytes);
    bytes
}

/// Writes a file and creates the directories that it needs.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
    fs::write(path, bytes).expect("write");
}

/// A cache of small windows that holds a given number of them.
pub(crate) fn small_cache(windows: u64, copy_path: CopyMethod) -> MappingCache {
    let options = CacheOptions::default()
        .window_bytes(WINDOW_BYTES as usize)
        .budget_bytes(windows * WINDOW_BYTES)
        .copy_method(copy_path);
    MappingCache::new(options).expect("a cache")
}

pub(crate) fn length_of(path: &Path) -> u64 {
    path.metadata().expect("metadata").len()
}

/// All files and directories below a directory, by relative path.
pub(crate) fn tree(root: &Path) -> Vec<String> {
    let below = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name();
    below
        .into_iter()
        .map(|entry| {
            let path = entry.expect("an entry").into_path();
            let below = path.strip_prefix(root).expect("below");
            below.to_str().expect("UTF-8").to_owned()
        })
        .collect()
}

/// File, required bytes and actual bytes of an error about a file that is too short.
#[track_caller]
pub(crate) fn short_file(error: GroupError) -> (PathBuf, u64, u64) {
    match error {
        GroupError::File(MappingError::FileTooShort {
            path,
            required_bytes: needed_bytes,
            actual_bytes: present_bytes,
        }) => (path, needed_bytes, present_bytes),
        other => panic!("not a short file: {other:?}"),
    }
}

/// The missing file that the error names.
#[track_caller]
pub(crate) fn missing(error: GroupError) -> PathBuf {
    match error {
        GroupError::File(MappingError::NotFound { path }) => path,
        other => panic!("not a missing file: {other:?}"),
    }
}
