//! Slices of files that are truncated and of disks that fill up. With the SIGBUS handler this is an
//! error. Without the handler the process ends.

use std::{
    fs::{self, File, OpenOptions},
    hint::black_box,
    path::Path,
};

use flatspan::{
    mapping_cache::{
        Access, CacheOptions, MappingCache, MappingError, Preallocation, install_sigbus_handler,
    },
    span::{Group, GroupError},
};

use crate::{
    content::noise,
    support::{
        self,
        child::{self, Child},
        filesystem::{Kind, SmallFs},
    },
};

const PAGE_BYTES: u64 = 4096;
const PAGES: u64 = 64;
const FILE_BYTES: u64 = PAGES * PAGE_BYTES;

fn group(root: &Path, access: Access, preallocation: Preallocation) -> Group {
    let options = CacheOptions::default()
        .window_bytes(FILE_BYTES as usize)
        .budget_bytes(4 * FILE_BYTES);
    let cache = MappingCache::new(options).expect("a cache");
    let builder = Group::builder(root)
        .cache(&cache)
        .access(access)
        .create(access == Access::ReadWrite)
        .preallocation(preallocation)
        .file("a", FILE_BYTES);
    #[expect(
        unsafe_code,
        reason = "the promise is broken on purpose, with the dispatcher"
    )]
    // SAFETY: the slices are only read through `black_box`, in a process of their own.
    let builder = unsafe { builder.assume_exclusive() };
    builder.open().expect("a group")
}

fn truncate(root: &Path, len: u64) {
    let file = OpenOptions::new().write(true).open(root.join("a"));
    file.and_then(|file| file.set_len(len))
        .expect("the truncation succeeds");
}

fn sum(slice: &[u8]) -> u64 {
    slice.iter().map(|byte| u64::from(*black_box(byte))).sum()
}

/// Runs a test of this file in a process of its own, because the handler is process-wide.
#[track_caller]
fn alone(name: &str, body: impl FnOnce()) {
    let name = format!("sigbus_handler::{name}");
    if child::is_me(&name) {
        return body();
    }
    if let Some(done) = Child::new(&name).run() {
        done.assert_passed();
    }
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "callers pass temporaries")]
fn assert_poisoned(result: Result<(), GroupError>) {
    let is = matches!(&result, Err(GroupError::File(MappingError::Poisoned { path, .. })) if path.ends_with("a"));
    assert!(is, "{result:?}");
}

#[test]
fn i36_reading_a_truncated_file_poisons_the_span() {
    alone("i36_reading_a_truncated_file_poisons_the_span", || {
        install_sigbus_handler().expect("a handler");
        install_sigbus_handler().expect("once is enough");
        let directory = support::temp_dir();
        let content = noise(1, FILE_BYTES as usize);
        let group = group(directory.path(), Access::ReadOnly, Preallocation::Sparse);
        for page in 0..PAGES {
            fs::write(directory.path().join("a"), &content).expect("a file");
            let span = group.span(..).expect("all bytes exist");
            let slice = span.as_slice().expect("one window");
            assert_eq!(sum(slice), sum(&content));
            span.check_intact().expect("all bytes exist");
            truncate(directory.path(), page * PAGE_BYTES);
            let there = (page * PAGE_BYTES) as usize;
            assert_eq!(
                sum(slice),
                sum(&content[..there]),
                "zeros after page {page}"
            );
            assert_poisoned(span.check_intact());
            // The poisoning is permanent, also after the file has its length again.
            fs::write(directory.path().join("a"), &content).expect("a file");
            assert_poisoned(span.check_intact());
            let sent = span.write_all_to(File::create("/dev/null").expect("the file exists"));
            assert!(sent.is_err(), "{sent:?}");
            // Copies bypass the mapping.
            let mut buf = vec![0; content.len()];
            group.read_exact_at(0, &mut buf).expect("all bytes exist");
            assert!(buf == content);
            drop(span);
            // The window is mapped again.
            let span = group.span(..).expect("all bytes exist");
            assert!(span.as_slice() == Some(&content[..]));
            span.check_intact().expect("all bytes exist");
        }
    });
}

#[test]
fn i36_a_poisoned_window_is_mapped_again_beside_its_spans() {
    alone(
        "i36_a_poisoned_window_is_mapped_again_beside_its_spans",
        || {
            install_sigbus_handler().expect("a handler");
            let directory = support::temp_dir();
            let content = noise(1, FILE_BYTES as usize);
            fs::write(directory.path().join("a"), &content).expect("a file");
            let group = group(directory.path(), Access::ReadOnly, Preallocation::Sparse);
            let poisoned = group.span(..).expect("all bytes exist");
            truncate(directory.path(), 0);
            assert_eq!(sum(poisoned.as_slice().expect("one window")), 0);
            fs::write(directory.path().join("a"), &content).expect("a file");
            let span = group.span(..).expect("all bytes exist");
            assert!(span.as_slice() == Some(&content[..]));
            span.check_intact().expect("a mapping of its own");
            assert_poisoned(poisoned.check_intact());
            assert_eq!(group.stats().mappings, 2);
            drop(poisoned);
            assert_eq!(group.stats().mappings, 1);
            span.check_intact().expect("all bytes exist");
        },
    );
}

#[test]
fn i36_stores_into_a_truncated_file_fail_the_next_sync() {
    alone(
        "i36_stores_into_a_truncated_file_fail_the_next_sync",
        || {
            install_sigbus_handler().expect("a handler");
            let directory = support::temp_dir();
            let group = group(directory.path(), Access::ReadWrite, Preallocation::Window);
            let mut span = group.span_mut(..).expect("the buffer has room");
            truncate(directory.path(), 3 * PAGE_BYTES);
            span.as_mut_slice().expect("one window").fill(7);
            assert_poisoned(span.check_intact());
            drop(span);
            let synced = group.sync_all();
            assert!(
                matches!(
                    &synced,
                    Err(GroupError::File(MappingError::SyncFailed { .. }))
                ),
                "{synced:?}"
            );
            let mut group = group;
            group.close_file_without_sync(0).expect("no pin exists");
            group
                .write_all_at(0, &vec![8; FILE_BYTES as usize])
                .expect("the buffer has room");
            group.sync_all().expect("a new group");
        },
    );
}

#[test]
fn i35_stores_on_a_full_filesystem_are_reported_as_an_error() {
    alone(
        "i35_stores_on_a_full_filesystem_are_reported_as_an_error",
        || {
            install_sigbus_handler().expect("a handler");
            for kind in [Kind::Tmpfs, Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
                let Some(fs) = SmallFs::new(kind, kind.bytes_min().max(64 << 20)) else {
                    continue;
                };
                let group = group(fs.path(), Access::ReadWrite, Preallocation::Sparse);
                // On btrfs the preallocation covers a single write. A rewrite needs room for the
                // copy.
                let mut span = group.span_mut(..).expect("the buffer has room");
                span.as_mut_slice().expect("one window").fill(1);
                group.sync_all().expect("a sync");
                fs.fill_leaving(0);
                span.as_mut_slice().expect("one window").fill(2);
                let lost = span.check_intact();
                drop(span);
                let synced = group.sync_all();
                println!("{kind:?}: {lost:?}, {synced:?}");
                // Bytes whose storage existed are not lost. The sync reports stores that were
                // discarded.
                assert!(lost.is_ok() || synced.is_err(), "{kind:?}");
            }
        },
    );
}

#[test]
fn i35_holes_without_storage_are_an_error_of_the_span() {
    for kind in [Kind::Tmpfs, Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
        let Some(fs) = SmallFs::new(kind, kind.bytes_min().max(64 << 20)) else {
            continue;
        };
        let group = group(fs.path(), Access::ReadWrite, Preallocation::Sparse);
        group.write_all_at(0, &[1]).expect("the buffer has room");
        truncate(fs.path(), 1);
        let file = OpenOptions::new().write(true).open(fs.path().join("a"));
        file.and_then(|file| file.set_len(FILE_BYTES))
            .expect("a hole");
        fs.fill_leaving(0);
        let refused = group.span_mut(PAGE_BYTES..);
        let is_full = matches!(
            &refused,
            Err(GroupError::File(MappingError::StorageFull { .. }))
        );
        // btrfs keeps a reserve for small writes; what it accepts, it stores.
        assert!(is_full || kind == Kind::Btrfs, "{kind:?}: {refused:?}");
    }
}

#[test]
fn without_the_handler_a_truncated_file_ends_the_process() {
    dies(
        "without_the_handler_a_truncated_file_ends_the_process",
        || {
            let directory = support::temp_dir();
            let path = directory.path().to_path_buf();
            fs::write(path.join("a"), noise(1, FILE_BYTES as usize)).expect("a file");
            let group = group(&path, Access::ReadOnly, Preallocation::Sparse);
            let span = group.span(..).expect("all bytes exist");
            truncate(&path, 0);
            // A process that ends by a signal does not clean up.
            let slice = span.as_slice().expect("one window");
            fs::remove_dir_all(&path).expect("rm");
            black_box(sum(slice));
        },
    );
}

#[test]
fn faults_outside_of_mappings_are_passed_on() {
    dies("faults_outside_of_mappings_are_passed_on", || {
        install_sigbus_handler().expect("a handler");
        let directory = support::temp_dir();
        let path = directory.path().to_path_buf();
        fs::write(path.join("a"), noise(1, FILE_BYTES as usize)).expect("a file");
        let file = File::open(path.join("a")).expect("a file");
        #[expect(unsafe_code, reason = "a mapping that is none of the cache's")]
        // SAFETY: the file is truncated on purpose, in a process that is expected to die from it.
        let map = unsafe { memmap2::Mmap::map(&file) }.expect("a mapping");
        truncate(&path, 0);
        fs::remove_dir_all(&path).expect("rm");
        black_box(sum(&map));
    });
}

/// Runs a test that ends by SIGBUS, in a process of its own.
#[track_caller]
fn dies(name: &str, body: impl FnOnce()) {
    let name = format!("sigbus_handler::{name}");
    if child::is_me(&name) {
        return body();
    }
    if let Some(done) = Child::new(&name).run() {
        assert_eq!(done.signal(), Some(libc::SIGBUS), "{:?}", done.status);
    }
}
