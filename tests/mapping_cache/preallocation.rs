//! The storage that was really preallocated, and the fallback where preallocation is not supported.

use std::os::unix::fs::MetadataExt as _;

use flatspan::mapping_cache::{
    Access, CopyMethod, MappingError, Preallocation, PreallocationFallback, PreallocationStatus,
};

use crate::{
    fixture::{
        PAGE, WINDOW, assert_reads, cache, copying, file_with, len_of, pattern, writable, writer,
    },
    support::{
        filesystem::{Kind, SmallFs},
        fuse::{FuseFs, Mode},
        temp_dir,
    },
};

#[test]
fn the_preallocation_status_is_reported_for_each_filesystem() {
    for kind in Kind::ALL {
        let Some(fs) = SmallFs::new(kind, 64 << 20) else {
            continue;
        };
        let cache = cache(8);
        let file = writer(&cache, fs.path(), "a", 4 * WINDOW);
        assert_eq!(
            file.preallocation_status(),
            PreallocationStatus::NotRequested
        );
        drop(file.pin(1, Access::ReadWrite).expect("a pin"));
        let expected = match kind {
            Kind::Btrfs => PreallocationStatus::FirstWriteOnly,
            _ => PreallocationStatus::Reserved,
        };
        assert_eq!(file.preallocation_status(), expected, "{kind:?}");
    }
}

/// The filesystem below an overlay is unknown, and may share or copy blocks at every write.
#[test]
fn on_an_overlay_preallocation_holds_for_the_first_write_only() {
    for kind in [Kind::Ext4, Kind::Btrfs] {
        let Some(below) = SmallFs::new(kind, 64 << 20) else {
            continue;
        };
        let Some(overlay) = SmallFs::overlay_on(&below) else {
            continue;
        };
        let cache = cache(8);
        let file = writer(&cache, overlay.path(), "a", 4 * WINDOW);
        drop(file.pin(1, Access::ReadWrite).expect("a pin"));
        assert_eq!(
            file.preallocation_status(),
            PreallocationStatus::FirstWriteOnly,
            "{kind:?}"
        );
    }
}

fn allocated(directory: &std::path::Path, name: &str) -> u64 {
    let metadata = std::fs::metadata(directory.join(name)).expect("metadata");
    metadata.blocks() * 512
}

#[test]
fn only_the_window_is_preallocated_before_mapping() {
    let directory = temp_dir();
    let cache = cache(8);
    let file = writer(&cache, directory.path(), "a", 8 * WINDOW);
    drop(file.pin(3, Access::ReadWrite).expect("a pin"));
    assert_eq!(len_of(directory.path(), "a"), 4 * WINDOW as u64);
    let bytes = allocated(directory.path(), "a");
    assert!(
        (WINDOW as u64..2 * WINDOW as u64).contains(&bytes),
        "{bytes}"
    );
}

#[test]
fn the_whole_length_is_preallocated_at_the_first_write() {
    for mapped in [false, true] {
        let directory = temp_dir();
        let cache = cache(8);
        let options = writable().preallocation(Preallocation::Full);
        let mut file = file_with(&cache, directory.path(), "a", 8 * WINDOW + 5, options);
        if mapped {
            drop(file.pin(3, Access::ReadWrite).expect("a pin"));
        } else {
            file.write_at(0, b"x").expect("a write");
        }
        assert_eq!(len_of(directory.path(), "a"), 8 * WINDOW as u64 + 5);
        assert!(allocated(directory.path(), "a") >= 8 * WINDOW as u64);
        file.set_declared_bytes(10 * WINDOW as u64)
            .expect("it grows");
        let refused = file.set_declared_bytes(WINDOW as u64);
        assert!(matches!(refused, Err(MappingError::InvalidOption { .. })));
        assert_eq!(file.declared_bytes(), 10 * WINDOW as u64);
        file.write_at(7, b"x").expect("a write");
        assert_eq!(len_of(directory.path(), "a"), 10 * WINDOW as u64);
        let bytes = allocated(directory.path(), "a");
        assert!(bytes >= 10 * WINDOW as u64);
        assert_eq!(file.allocated_bytes().expect("a size"), bytes);
    }
}

#[test]
fn sparse_preallocates_nothing() {
    let directory = temp_dir();
    let cache = cache(8);
    let options = writable().preallocation(Preallocation::Sparse);
    let file = file_with(&cache, directory.path(), "a", 8 * WINDOW, options);
    drop(file.pin(7, Access::ReadWrite).expect("a pin"));
    assert_eq!(
        file.preallocation_status(),
        PreallocationStatus::NotRequested
    );
    assert_eq!(len_of(directory.path(), "a"), 8 * WINDOW as u64);
    let bytes = allocated(directory.path(), "a");
    assert!(
        bytes <= PAGE as u64,
        "{bytes}: the block of the last byte at the most"
    );
}

#[test]
fn preallocation_keeps_existing_content() {
    for kind in Kind::ALL {
        let Some(fs) = SmallFs::new(kind, 64 << 20) else {
            continue;
        };
        let cache = cache(8);
        let bytes = 3 * WINDOW + 77;
        crate::fixture::put(fs.path(), "a", 6, bytes);
        let file = writer(&cache, fs.path(), "a", 8 * WINDOW);
        for window in 0..5 {
            drop(file.pin(window, Access::ReadWrite).expect("a pin"));
        }
        assert_reads(&file, 6, 0, bytes);
        let mut after_end = vec![1; WINDOW];
        assert_eq!(
            file.read_at(bytes as u64, &mut after_end).expect("a read"),
            WINDOW
        );
        assert_eq!(after_end, vec![0; WINDOW], "{kind:?}");
    }
}

#[test]
fn a_file_longer_than_declared_is_not_truncated() {
    let directory = temp_dir();
    let cache = cache(8);
    crate::fixture::put(directory.path(), "a", 6, 3 * WINDOW);
    let options = writable().preallocation(Preallocation::Full);
    let file = file_with(&cache, directory.path(), "a", WINDOW, options);
    drop(file.pin(0, Access::ReadWrite).expect("a pin"));
    file.write_at(0, &pattern(6, 0, 10)).expect("a write");
    assert_eq!(len_of(directory.path(), "a"), 3 * WINDOW as u64);
    assert_reads(&file, 6, 0, 3 * WINDOW);
}

#[test]
fn unsupported_preallocation_falls_back_to_sparse_and_is_reported() {
    let Some(fs) = FuseFs::new(Mode::NoFallocate) else {
        return;
    };
    for (number, preallocation) in [Preallocation::Window, Preallocation::Full]
        .into_iter()
        .enumerate()
    {
        let cache = copying(CopyMethod::Mapped);
        let options = writable().preallocation(preallocation);
        let name = format!("a{number}");
        let file = file_with(&cache, fs.path(), &name, 2 * WINDOW, options);
        for window in [0, 1] {
            drop(file.pin(window, Access::ReadWrite).expect("a pin"));
        }
        file.write_at(0, &pattern(1, 0, 2 * WINDOW))
            .expect("a write");
        assert!(cache.stats().mappings > 0, "the copy uses a mapping");
        assert_eq!(
            file.preallocation_status(),
            PreallocationStatus::Unsupported
        );
        file.sync().expect("a sync");
        assert_reads(&file, 1, 0, 2 * WINDOW);
    }
}

#[test]
fn unsupported_preallocation_fails_under_the_fail_policy() {
    let Some(fs) = FuseFs::new(Mode::NoFallocate) else {
        return;
    };
    let cache = cache(8);
    let options = writable().preallocation_fallback(PreallocationFallback::Fail);
    let file = file_with(&cache, fs.path(), "a", 2 * WINDOW, options);
    let refused = file
        .pin(0, Access::ReadWrite)
        .expect_err("preallocation is not supported");
    assert_eq!(refused.kind(), std::io::ErrorKind::Unsupported);
    assert!(
        matches!(&refused, MappingError::Unsupported { path, .. } if path.ends_with("a")),
        "{refused:?}"
    );
    assert_eq!(len_of(fs.path(), "a"), 0);
}
