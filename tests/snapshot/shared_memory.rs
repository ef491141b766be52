//! Stores over memory that is shared with other processes.

use std::env;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use flatspan::snapshot::{
    CheckpointKind, FilePart, MemorySource, Region, RegionError, RegionOptions, Store, StoreError,
    StoreOptions, TrackerChoice, TrackerError, TrackerKind, WriteMode, WriterScope,
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::process::{Signal, getpid, kill_process};

use crate::fixture::{PAGE, store as store_byte, wp_async};
use crate::support::{child, temp_dir};

const PAGES: u64 = 60;

fn options(memory: MemorySource) -> StoreOptions {
    StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        .memory_source(memory)
        .reserve_bytes(64 << 20)
        .part_bytes(64 << 10)
        .initial_bytes(PAGES * PAGE as u64)
}

fn open(path: &Path, memory: MemorySource) -> Store {
    Store::open(path, options(memory)).expect("a store")
}

fn write(store: &Store, page: u64, byte: u8) {
    let inside = store.write_guard().expect("access lock is free");
    inside
        .write_at(page * PAGE as u64, &[byte; PAGE])
        .expect("written");
}

/// Returns the first byte of each page, and asserts that all bytes of a page are equal.
fn pages(store: &Store) -> Vec<u8> {
    let inside = store.write_guard().expect("access lock is free");
    let mut bytes = vec![0; inside.len() as usize];
    inside.read_at(0, &mut bytes).expect("read");
    let pages = bytes.chunks(PAGE);
    pages
        .map(|page| {
            assert!(page.iter().all(|byte| *byte == page[0]));
            page[0]
        })
        .collect()
}

fn new_memfd() -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    memfd_create("flatspan-test", flags)
        .expect("a memfd")
        .into()
}

fn is_sealed(memfd: BorrowedFd<'_>) -> bool {
    let seals = fcntl_get_seals(memfd).expect("seals");
    seals.contains(SealFlags::SHRINK)
}

/// Returns the byte that the memfd itself holds at an offset.
fn byte_of(memfd: &File, offset: u64) -> u8 {
    let mut byte = [0];
    memfd.read_exact_at(&mut byte, offset).expect("a byte");
    byte[0]
}

#[test]
fn shared_memory_is_restored_after_kill_9() {
    const NAME: &str = "shared_memory::shared_memory_is_restored_after_kill_9";
    const PLACE: &str = "FLATSPAN_TEST_STORE";
    if child::is_me(NAME) {
        let store = open(
            env::var_os(PLACE).expect("a place").as_ref(),
            MemorySource::NewMemfd,
        );
        for page in 0..PAGES {
            write(&store, page, 1 + page as u8);
        }
        store.checkpoint_base().expect("a base");
        write(&store, 7, 99);
        store.checkpoint_delta().expect("a delta");
        write(&store, 8, 98);
        kill_process(getpid(), Signal::KILL).expect("killed");
    }
    let dir = temp_dir();
    let path = dir.path().join("store");
    let died = child::Child::new(NAME).env(PLACE, &path).run();
    let died = died.expect("child needs nothing of the machine");
    assert_eq!(died.signal(), Some(9), "{died}");
    let expected: Vec<u8> = (0..PAGES)
        .map(|page| if page == 7 { 99 } else { 1 + page as u8 })
        .collect();
    let memfd = new_memfd();
    let adopted = MemorySource::restore_into(memfd.try_clone().expect("a descriptor"));
    for memory in [MemorySource::NewMemfd, adopted, MemorySource::Private] {
        let store = open(&path, memory);
        assert_eq!(pages(&store), expected, "{:?}", store.open_report());
    }
    assert_eq!(byte_of(&memfd, 7 * PAGE as u64), 99);
}

#[test]
fn i09_shared_memory_is_zero_after_shrinking_and_growing() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    let mut expected: Vec<u8> = (0..PAGES).map(|page| 1 + page as u8).collect();
    let store = open(&path, MemorySource::NewMemfd);
    for (page, byte) in (0..).zip(&expected) {
        write(&store, page, *byte);
    }
    store.checkpoint_base().expect("a base");
    store.resize(10 * PAGE as u64).expect("shorter");
    // The memfd keeps its length, and each of its users may write after the end of the state.
    let memfd = store.memfd().expect("a memfd").try_clone_to_owned();
    let memfd = File::from(memfd.expect("a descriptor"));
    memfd
        .write_all_at(&[5; PAGE], 20 * PAGE as u64)
        .expect("written");
    store.checkpoint().expect("a checkpoint");
    store.resize(90 * PAGE as u64).expect("longer");
    write(&store, 89, 7);
    store.checkpoint_base().expect("a base");
    expected.truncate(10);
    expected.resize(90, 0);
    expected[89] = 7;
    assert_eq!(pages(&store), expected);
    drop(store);
    for _ in 0..2 {
        drop(open_again(&path, &expected));
    }
}

fn open_again(path: &Path, expected: &[u8]) -> Store {
    let store =
        Store::open(path, options(MemorySource::NewMemfd).initial_bytes(0)).expect("a store");
    assert_eq!(pages(&store), expected, "{:?}", store.open_report());
    let inside = store.write_guard().expect("access lock is free");
    inside.mark_dirty(0..1).expect("within");
    drop(inside);
    store.checkpoint_base().expect("into the other heap");
    store
}

#[test]
fn i14_write_of_another_process_is_in_the_next_checkpoint() {
    const NAME: &str = "shared_memory::i14_write_of_another_process_is_in_the_next_checkpoint";
    const PLACE: &str = "FLATSPAN_TEST_MEMFD";
    if child::is_me(NAME) {
        let place = env::var_os(PLACE).expect("a place");
        let file = File::options().read(true).write(true).open(place);
        let part = FilePart {
            file: file.expect("the memfd"),
            bytes: PAGES as usize * PAGE,
        };
        let mapped = Region::map_files(vec![part], RegionOptions::default()).expect("a mapping");
        for page in [3, 40] {
            (0..PAGE).for_each(|at| store_byte(&mapped, page * PAGE + at, 200));
        }
        return;
    }
    let dir = temp_dir();
    for kind in [CheckpointKind::Delta, CheckpointKind::Base] {
        let path = dir.path().join(format!("{kind:?}"));
        let store = open(&path, MemorySource::NewMemfd);
        for page in 0..PAGES {
            write(&store, page, 1);
        }
        store.checkpoint_base().expect("a base");
        let memfd = store.memfd().expect("a memfd").as_raw_fd();
        let place = format!("/proc/{}/fd/{memfd}", std::process::id());
        let wrote = child::Child::new(NAME).env(PLACE, place).run();
        wrote
            .expect("child needs nothing of the machine")
            .assert_passed();
        let made = match kind {
            CheckpointKind::Delta => store.checkpoint_delta(),
            _ => store.checkpoint_base(),
        };
        let made = made.expect("a checkpoint");
        assert_eq!((made.kind, made.tracker), (kind, TrackerKind::HashCompare));
        drop(store);
        let store = open(&path, MemorySource::NewMemfd);
        let expected: Vec<u8> = (0..PAGES)
            .map(|page| if [3, 40].contains(&page) { 200 } else { 1 })
            .collect();
        assert_eq!(pages(&store), expected, "{kind:?}");
    }
}

#[test]
fn i25_memfd_is_sealed_after_a_complete_restore_and_a_live_one_is_not_overwritten() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    let store = open(&path, MemorySource::Private);
    write(&store, 2, 22);
    store.close().expect("closed");

    let memfd = new_memfd();
    // Partial content of an interrupted restore, longer than the state.
    let garbage = vec![9; 100 * PAGE];
    memfd.write_all_at(&garbage, 0).expect("written");
    let adopt = |memfd: &File| MemorySource::restore_into(memfd.try_clone().expect("a descriptor"));
    let too_much = options(adopt(&memfd)).reserve_bytes(PAGE as u64);
    let failed = Store::open(&path, too_much.initial_bytes(0));
    assert!(failed.is_err(), "{failed:?}");
    assert!(!is_sealed(memfd.as_fd()), "sealed too early");

    let store = open(&path, adopt(&memfd));
    assert!(is_sealed(memfd.as_fd()));
    let mut expected = vec![0; PAGES as usize];
    expected[2] = 22;
    assert_eq!(pages(&store), expected);
    assert_eq!(byte_of(&memfd, 80 * PAGE as u64), 0, "old bytes remain");
    memfd
        .write_all_at(&[33; PAGE], 3 * PAGE as u64)
        .expect("other process writes");
    drop(store);

    let refused = Store::open(&path, options(adopt(&memfd)));
    let is_refused = |found: &Result<Store, StoreError>| {
        matches!(
            found,
            Err(StoreError::Region(RegionError::InvalidMemfd { .. }))
        )
    };
    assert!(is_refused(&refused), "{refused:?}");
    assert_eq!(byte_of(&memfd, 3 * PAGE as u64), 33, "memory is attached");
}

#[test]
fn attached_memfd_keeps_its_content_for_the_next_checkpoint() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    let store = Store::open(
        &path,
        options(MemorySource::Private).initial_bytes(90 * PAGE as u64),
    );
    let store = store.expect("a store");
    (0..90).for_each(|page| write(&store, page, 5));
    store.checkpoint_base().expect("a base");
    write(&store, 1, 6);
    store.checkpoint_delta().expect("a delta");
    drop(store);

    let memfd = new_memfd();
    memfd.set_len(PAGES * PAGE as u64).expect("longer");
    memfd
        .write_all_at(&[44; PAGE], 4 * PAGE as u64)
        .expect("written");
    let live = || {
        options(MemorySource::attach(
            memfd.try_clone().expect("a descriptor"),
        ))
        .initial_bytes(0)
    };
    let refused = Store::open(&path, live());
    assert!(
        matches!(
            refused,
            Err(StoreError::Region(RegionError::InvalidMemfd { .. }))
        ),
        "its restore is not complete: {refused:?}"
    );
    fcntl_add_seals(&memfd, SealFlags::SHRINK).expect("sealed");
    let mut expected = vec![0; PAGES as usize];
    expected[4] = 44;
    for kind in [CheckpointKind::Delta, CheckpointKind::Base] {
        let store = Store::open(&path, live()).expect("a store");
        assert!(store.open_report().attached);
        assert_eq!(pages(&store), expected, "{:?}", store.open_report());
        let made = match kind {
            CheckpointKind::Delta => store.checkpoint_delta(),
            _ => store.checkpoint_base(),
        };
        assert_eq!(made.expect("a checkpoint").kind, kind);
        drop(store);
        let store = Store::open(&path, options(MemorySource::Private).initial_bytes(0));
        assert_eq!(pages(&store.expect("a store")), expected, "{kind:?}");
    }
}

#[test]
fn memfd_holes_stay_holes() {
    const BYTES: u64 = 256 << 20;
    let dir = temp_dir();
    let path = dir.path().join("store");
    let kept = |memory: MemorySource| {
        let options = options(memory).part_bytes(64 << 20).reserve_bytes(BYTES);
        let options = options.initial_bytes(0).tracker(TrackerChoice::HashCompare);
        Store::open(&path, options.writer_scope(WriterScope::AnyMapping)).expect("a store")
    };
    let few = |memfd: &File, when| {
        use std::os::unix::fs::MetadataExt as _;
        let bytes = memfd.metadata().expect("its length").blocks() * 512;
        assert!(bytes < 4 << 20, "{when}: {bytes} bytes of memory");
    };
    let memfd = new_memfd();
    memfd.set_len(BYTES).expect("longer");
    fcntl_add_seals(&memfd, SealFlags::SHRINK).expect("a seal");
    for page in [0, 1000, BYTES / 4096 - 1] {
        memfd.write_all_at(&[7; PAGE], page * 4096).expect("a page");
    }
    let store = kept(MemorySource::attach(memfd.try_clone().expect("another")));
    few(&memfd, "opened");
    store.checkpoint_base().expect("a base");
    memfd
        .write_all_at(&[8; PAGE], 77 * 4096)
        .expect("a page of a hole");
    store.checkpoint_delta().expect("a delta");
    few(&memfd, "stored");
    drop(store);
    let memfd = new_memfd();
    drop(kept(MemorySource::restore_into(
        memfd.try_clone().expect("another"),
    )));
    assert_eq!(
        [0, 77, 1000].map(|page| byte_of(&memfd, page * 4096)),
        [7, 8, 7]
    );
    few(&memfd, "restored");
}

#[test]
fn unsupported_memory_options_are_named_in_the_error() {
    let dir = temp_dir();
    let path = dir.path().join("store");
    let references = Store::open(
        &path,
        options(MemorySource::NewMemfd).write_mode(WriteMode::Transactions),
    );
    assert!(
        matches!(
            references,
            Err(StoreError::InvalidOption {
                option: "memory_source",
                ..
            })
        ),
        "{references:?}"
    );
    let file = File::create(dir.path().join("file")).expect("a file");
    let write_sealed = new_memfd();
    fcntl_add_seals(&write_sealed, SealFlags::FUTURE_WRITE).expect("sealed");
    let closed = new_memfd();
    fcntl_add_seals(&closed, SealFlags::SEAL).expect("sealed");
    for file in [file, write_sealed, closed] {
        let file = Arc::new(file.into());
        for memory in [
            MemorySource::RestoreInto(Arc::clone(&file)),
            MemorySource::Attach(file),
        ] {
            let refused = Store::open(&path, options(memory));
            assert!(
                matches!(
                    refused,
                    Err(StoreError::Region(RegionError::InvalidMemfd { .. }))
                ),
                "{refused:?}"
            );
        }
    }
    let blind = Store::open(
        &path,
        options(MemorySource::NewMemfd).tracker(TrackerChoice::WpAsync),
    );
    assert!(
        matches!(
            blind,
            Err(StoreError::Tracker(TrackerError::Unsuitable { .. }))
        ),
        "{blind:?}"
    );
    let store = open(&path, MemorySource::NewMemfd);
    assert_eq!(store.open_report().tracker, Some(TrackerKind::HashCompare));
    assert!(store.memfd().is_some_and(is_sealed));
}

#[test]
fn this_mapping_writer_scope_selects_a_tracker_of_this_mapping_only() {
    if wp_async().is_none() {
        return;
    }
    let dir = temp_dir();
    let path = dir.path().join("store");
    let options = || options(MemorySource::NewMemfd).writer_scope(WriterScope::ThisMapping);
    let store = Store::open(&path, options().huge_pages(true)).expect("a store");
    assert_eq!(store.open_report().tracker, Some(TrackerKind::WpAsync));
    write(&store, 5, 5);
    assert_eq!(store.checkpoint_delta().expect("a delta").written_pages, 1);
    write(&store, 6, 6);
    assert_eq!(store.checkpoint_delta().expect("a delta").written_pages, 1);
    drop(store);
    // Far from the addresses that the kernel chooses for mappings of other threads.
    let address = 0x2345_6700_0000;
    let store = Store::open(&path, options().fixed_address(address)).expect("a store");
    assert_eq!(store.as_ptr().as_ptr() as usize, address);
    assert_eq!(pages(&store)[5..7], [5, 6]);
}
