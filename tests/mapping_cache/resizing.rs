//! Lengths, holes and preallocation set by the owner of a file; files created and removed.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use flatspan::mapping_cache::{
    Access, CopyMethod, MappingError, Preallocation, PreallocationStatus,
};

use crate::{
    fixture::{
        PAGE, WINDOW, assert_reads, cache, cache_of, copying, file_with, len_of, options, pattern,
        put, reader, writable, writer,
    },
    support::{
        child,
        filesystem::{Kind, SmallFs},
        temp_dir,
    },
};

const BYTES: usize = 4 * WINDOW;

#[test]
fn setting_a_length_makes_holes_and_a_dirty_file() {
    for path in [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned] {
        let directory = temp_dir();
        let cache = copying(path);
        let file = writer(&cache, directory.path(), "a", BYTES);
        file.write_at(0, &pattern(1, 0, BYTES)).expect("a write");
        file.sync().expect("a sync");
        assert_eq!(cache.stats().dirty_files, 0);
        for bytes in [WINDOW + 5, BYTES, 10, 3 * WINDOW] {
            file.set_len(bytes as u64).expect("set_len");
            assert_eq!(len_of(directory.path(), "a"), bytes as u64);
            assert_eq!(cache.stats().dirty_files, 1, "{path:?}");
            file.sync().expect("a sync");
        }
        assert_reads(&file, 1, 0, 10);
        let mut rest = vec![1; 3 * WINDOW];
        assert_eq!(
            file.read_at(10, &mut rest).expect("a read"),
            3 * WINDOW - 10
        );
        assert!(rest[..3 * WINDOW - 10].iter().all(|byte| *byte == 0));
        assert_eq!(
            file.next_data(PAGE as u64, BYTES as u64 / 2)
                .expect("the request is sent"),
            None
        );
        file.write_at(WINDOW as u64, &pattern(2, 0, PAGE))
            .expect("a write");
        // Also a call that changes nothing.
        file.sync().expect("a sync");
        file.set_len(3 * WINDOW as u64).expect("set_len");
        assert_eq!(cache.stats().dirty_files, 1, "{path:?}");
    }
}

#[test]
fn a_pinned_range_is_not_truncated() {
    let directory = temp_dir();
    let cache = cache(8);
    let file = writer(&cache, directory.path(), "a", BYTES);
    file.write_at(0, &pattern(1, 0, BYTES)).expect("a write");
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let pin = file.pin(2, access).expect("a pin");
        for bytes in [0, 2 * WINDOW, 2 * WINDOW + PAGE] {
            let refused = file.set_len(bytes as u64);
            assert!(matches!(
                refused,
                Err(MappingError::WindowPinned { offset, .. }) if offset == 2 * WINDOW as u64
            ));
        }
        assert_eq!(len_of(directory.path(), "a"), BYTES as u64);
        file.set_len(3 * WINDOW as u64)
            .expect("a range after the pin");
        file.set_len(BYTES as u64).expect("the file is extended");
        drop(pin);
    }
    file.set_len(2 * WINDOW as u64)
        .expect("the range is free again");
    assert!(matches!(
        file.pin(2, Access::ReadOnly),
        Err(MappingError::FileTooShort { .. })
    ));
    drop(file.pin(1, Access::ReadOnly).expect("a pin"));
}

#[test]
fn a_file_truncated_by_another_process_keeps_its_length() {
    let directory = temp_dir();
    let cache = cache(8);
    let file = writer(&cache, directory.path(), "a", BYTES);
    file.write_at(0, &pattern(1, 0, BYTES)).expect("a write");
    fs::File::options()
        .write(true)
        .open(directory.path().join("a"))
        .expect("the file")
        .set_len(7)
        .expect("the file is truncated");
    for refused in [file.set_len(9), file.discard(0..3), file.reserve(0..3)] {
        assert!(matches!(
            refused,
            Err(MappingError::FileTooShort {
                actual_bytes: 7,
                ..
            })
        ));
    }
}

#[test]
fn without_fallocate_zeros_are_written() {
    let name = "resizing::without_fallocate_zeros_are_written";
    if !child::is_me(name) {
        if let Some(done) = child::with_injection(name, &["fallocate:error=EOPNOTSUPP"], &[]) {
            done.assert_passed();
        }
        return;
    }
    let directory = temp_dir();
    let cache = cache(64);
    let file = writer(&cache, directory.path(), "a", 100 * PAGE);
    file.write_at(0, &pattern(1, 0, 100 * PAGE))
        .expect("a write");
    file.discard(5..90 * PAGE as u64).expect("discarded");
    file.discard(99 * PAGE as u64..1 << 40)
        .expect("the existing bytes");
    assert_eq!(len_of(directory.path(), "a"), 100 * PAGE as u64);
    let mut model = pattern(1, 0, 100 * PAGE);
    model[5..90 * PAGE].fill(0);
    model[99 * PAGE..].fill(0);
    assert!(fs::read(directory.path().join("a")).expect("read") == model);
    file.reserve(0..1 << 20)
        .expect("the group works without it");
    assert_eq!(
        file.preallocation_status(),
        PreallocationStatus::Unsupported
    );
}

#[test]
fn preallocation_does_not_change_the_length() {
    let Some(fs) = SmallFs::new(Kind::Ext4, 16 << 20) else {
        return;
    };
    let cache = cache(8);
    let options = writable().preallocation(Preallocation::Sparse);
    let file = file_with(&cache, fs.path(), "a", BYTES, options);
    file.reserve(0..1 << 20).expect("space is left");
    assert_eq!(len_of(fs.path(), "a"), 0);
    assert!(file.allocated_bytes().expect("the request is sent") >= 1 << 20);
    let refused = file.reserve(1 << 20..1 << 30);
    assert!(matches!(
        refused,
        Err(MappingError::StorageFull { required_bytes: needed_bytes, available_bytes, .. })
            if needed_bytes == (1 << 30) - (1 << 20) && available_bytes < 16 << 20
    ));
}

#[test]
fn a_file_is_created_once_and_removed_with_its_windows() {
    let directory = temp_dir();
    let cache = cache(8);
    let mut file = writer(&cache, directory.path(), "a", BYTES);
    file.create_new().expect("created");
    assert_eq!(
        file.create_new().expect_err("the second call fails").kind(),
        ErrorKind::AlreadyExists
    );
    let other = writer(&cache, directory.path(), "a", BYTES);
    assert_eq!(
        other
            .create_new()
            .expect_err("the second call fails")
            .kind(),
        ErrorKind::AlreadyExists
    );
    drop(other);
    file.write_at(0, &pattern(1, 0, BYTES)).expect("a write");
    drop(file.pin(1, Access::ReadOnly).expect("a pin"));
    file.remove().expect("removed");
    assert_eq!(cache.stats().mapped_bytes, 0);
    assert_eq!(cache.stats().dirty_files, 0);
    assert!(matches!(file.remove(), Err(MappingError::NotFound { .. })));
    file.create_new().expect("the file is created again");
    file.sync().expect("a sync");
    assert_eq!(len_of(directory.path(), "a"), 0);

    let mut read_only = reader(&cache, directory.path(), "a", BYTES);
    assert!(matches!(
        read_only.remove(),
        Err(MappingError::ReadOnly { .. })
    ));
    assert!(matches!(
        read_only.create_new(),
        Err(MappingError::ReadOnly { .. })
    ));
    assert!(matches!(
        read_only.set_len(1),
        Err(MappingError::ReadOnly { .. })
    ));
}

#[test]
fn a_replacement_file_is_not_removed() {
    let directory = temp_dir();
    let cache = cache(8);
    let mut file = writer(&cache, directory.path(), "a", BYTES);
    file.write_at(0, b"ours").expect("a write");
    put(directory.path(), "b", 2, 100);
    fs::rename(directory.path().join("b"), directory.path().join("a")).expect("renamed");
    assert!(matches!(
        file.remove(),
        Err(MappingError::FileReplaced { .. })
    ));
    assert_eq!(len_of(directory.path(), "a"), 100);
}

#[test]
fn data_dropped_from_the_page_cache_is_read_from_disk() {
    let Some(fs) = SmallFs::new(Kind::Ext4, 16 << 20) else {
        return;
    };
    let cache = cache(8);
    let file = writer(&cache, fs.path(), "a", BYTES);
    file.write_at(0, &pattern(1, 0, BYTES)).expect("a write");
    let pin = file.pin(0, Access::ReadOnly).expect("a pin");
    assert!(matches!(
        file.drop_page_cache(),
        Err(MappingError::WindowPinned { .. })
    ));
    drop(pin);
    file.drop_page_cache().expect("forgotten");
    let mut buf = [0; 1];
    assert!(matches!(
        file.read_page_cache_at(PAGE as u64, &mut buf),
        Ok(Some(0))
    ));
    assert_reads(&file, 1, 0, BYTES);
    assert!(
        fs::metadata(fs.path().join("a"))
            .expect("the file")
            .blocks()
            > 0
    );
}

#[test]
fn set_len_beside_copies_of_other_bytes_finds_no_window_pinned() {
    const ROUNDS: usize = 300;
    let directory = temp_dir();
    // Fewer windows than are used, so that threads find their windows replaced.
    let cache = cache_of(options(2).copy_method(CopyMethod::Mapped));
    let file = writer(&cache, directory.path(), "a", 4 * WINDOW);
    file.write_at(0, &pattern(1, 0, 4 * WINDOW))
        .expect("a write");
    let other = writer(&cache, directory.path(), "b", 8 * WINDOW);
    other
        .write_at(0, &pattern(2, 0, 8 * WINDOW))
        .expect("a write");
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (file, other, is_done) = (&file, &other, &is_done);
            scope.spawn(move || {
                let mut window = thread;
                while !is_done.load(Ordering::Relaxed) {
                    assert_reads(other, 2, (window % 8 * WINDOW) as u64, PAGE);
                    assert_reads(file, 1, 0, PAGE);
                    window += 1;
                }
            });
        }
        let done = Done(&is_done);
        for _ in 0..ROUNDS {
            file.set_len(PAGE as u64).expect("only copies pin it");
            file.set_len(4 * WINDOW as u64)
                .expect("the file is extended");
            file.write_at(3 * WINDOW as u64, b"again").expect("a write");
        }
        drop(done);
    });
}

/// Ends the other threads, also after a panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
