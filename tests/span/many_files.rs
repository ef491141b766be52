//! More files than descriptors and more bytes than budget: resident memory stays within its bound.

use std::{fs, path::Path, time::Duration};

use flatspan::{
    mapping_cache::{Access, CacheOptions, CopyMethod, MappingCache, Preallocation},
    span::Group,
};

use crate::{
    content::Rng,
    support::{
        self,
        child::{self, Child, Limits},
        memory,
    },
};

const FILES: u64 = 14_000;
const FILE_BYTES: u64 = 64 << 10;
const BUDGET_BYTES: u64 = 64 << 20;
/// Memory that a process may need beside the budget.
const SLACK_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: u64 = 256 << 10;

/// A directory in which 14,000 files are created and synced within seconds, if one exists.
fn directory(in_memory: bool) -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    if in_memory && rustix::fs::access(shared, rustix::fs::Access::WRITE_OK).is_ok() {
        let builder = tempfile::Builder::new()
            .prefix("flatspan-test-")
            .tempdir_in(shared);
        return builder.expect("a temporary directory");
    }
    support::temp_dir()
}

fn group(root: &Path, copy_path: CopyMethod) -> Group {
    let options = CacheOptions::default()
        .budget_bytes(BUDGET_BYTES)
        .copy_method(copy_path);
    let cache = MappingCache::new(options.window_bytes(1 << 20)).expect("a cache");
    let mut builder = Group::builder(root).cache(&cache).access(Access::ReadWrite);
    builder = builder.create(true).preallocation(Preallocation::Sparse);
    for file in 0..FILES {
        builder = builder.file(format!("{}/{file}", file % 100), FILE_BYTES);
    }
    builder.open().expect("a group")
}

/// Writes all bytes, reads them in another order, and measures its own memory.
fn write_and_read(copy_path: CopyMethod, in_memory: bool, step: u64) {
    let directory = directory(in_memory);
    let group = group(directory.path(), copy_path);
    let mut block = vec![0; BLOCK_BYTES as usize];
    let blocks: Vec<u64> = (0..group.len() / BLOCK_BYTES)
        .step_by(step as usize)
        .collect();
    for &number in &blocks {
        Rng::new(number).fill(&mut block);
        group
            .write_all_at(number * BLOCK_BYTES, &block)
            .expect("a write");
    }
    let mut found = vec![0; BLOCK_BYTES as usize];
    for place in 0..blocks.len() {
        // 1009 is prime, so this reaches every block.
        let number = blocks[place * 1009 % blocks.len()];
        Rng::new(number).fill(&mut block);
        group
            .read_exact_at(number * BLOCK_BYTES, &mut found)
            .expect("a read");
        assert!(found == block, "block {number}");
    }
    let stats = group.stats();
    assert!(stats.mapped_bytes_max <= BUDGET_BYTES, "{stats:?}");
    assert!(stats.open_files <= 64 / 4, "{stats:?}");
    let peak = memory::peak_rss();
    assert!(
        peak <= BUDGET_BYTES + SLACK_BYTES,
        "{} MiB resident",
        peak >> 20
    );
    if copy_path == CopyMethod::Mapped {
        assert!(stats.misses >= blocks.len() as u64, "{stats:?}");
        assert!(stats.evictions > 0 || blocks.len() as u64 * BLOCK_BYTES <= BUDGET_BYTES);
    }
    drop(group);
    fs::remove_dir_all(directory.path()).expect("rm");
}

fn in_child(name: &str, cgroup_memory_bytes: Option<u64>) {
    let limits = Limits {
        nofile: Some(64),
        cgroup_memory_bytes,
        ..Limits::default()
    };
    let child = Child::new(name)
        .limits(limits)
        .timeout(Duration::from_secs(300));
    if let Some(done) = child.run() {
        done.assert_passed();
    }
}

#[test]
fn many_files_need_few_descriptors_and_little_memory() {
    let name = "many_files::many_files_need_few_descriptors_and_little_memory";
    if child::is_me(name) {
        return write_and_read(CopyMethod::Auto, true, 1);
    }
    in_child(name, None);
}

#[test]
fn many_files_need_few_descriptors_and_little_memory_when_mapped() {
    let name = "many_files::many_files_need_few_descriptors_and_little_memory_when_mapped";
    if child::is_me(name) {
        return write_and_read(CopyMethod::Mapped, true, 1);
    }
    in_child(name, None);
}

/// A disk is needed: files of an in-memory filesystem are charged to the control group.
#[test]
fn many_files_fit_into_a_control_group() {
    let name = "many_files::many_files_fit_into_a_control_group";
    if child::is_me(name) {
        return write_and_read(CopyMethod::Auto, false, 1);
    }
    in_child(name, Some(192 << 20));
}

#[test]
fn many_files_fit_into_a_control_group_when_mapped() {
    let name = "many_files::many_files_fit_into_a_control_group_when_mapped";
    if child::is_me(name) {
        return write_and_read(CopyMethod::Mapped, false, 3);
    }
    in_child(name, Some(192 << 20));
}

#[test]
fn span_mut_over_2000_files_needs_no_more_descriptors_than_copies() {
    let name = "many_files::span_mut_over_2000_files_needs_no_more_descriptors_than_copies";
    if !child::is_me(name) {
        return in_child(name, None);
    }
    let files = 2000;
    let directory = support::temp_dir();
    let group = Group::builder(directory.path())
        .access(Access::ReadWrite)
        .create(true)
        .files((0..files).map(|file| (file.to_string(), 100)))
        .open()
        .expect("a group");
    let bytes: Vec<u8> = (0..files * 100).map(|byte| (byte % 251) as u8).collect();
    let mut span = group.span_mut(..).expect("a span");
    span.write_at(0, &bytes).expect("stores");
    group.sync_all().expect("a sync beside the span");
    span.write_at(5, b"later").expect("stores");
    drop(span);
    group.sync_all().expect("a sync");
    assert_eq!(group.cache().stats().dirty_files, 0);
    for (file, content) in bytes.chunks(100).enumerate().skip(1) {
        let read = fs::read(directory.path().join(file.to_string()));
        assert!(read.expect("a file") == content, "file {file}");
    }
}
