//! Reading and writing: the access that a mapping allows, and the replacement of a mapping when a
//! writer comes.

use std::{fs, thread, time::Duration};

use flatspan::mapping_cache::{Access, CopyMethod, FileOptions, MappingError};

use crate::{
    fixture::{WINDOW, cache, copying, file_with, len_of, pattern, put, reader, writer},
    support::temp_dir,
};

#[test]
fn a_read_only_file_is_never_written() {
    let directory = temp_dir();
    put(directory.path(), "a", 1, WINDOW);
    for path in [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned] {
        let cache = copying(path);
        let file = reader(&cache, directory.path(), "a", WINDOW);
        let refused = [
            file.pin(0, Access::ReadWrite).err(),
            file.write_at(0, b"x").err(),
            file.create_if_missing().err(),
        ];
        for refused in refused {
            let refused = refused.expect("the memfd is read-only");
            assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
            assert!(
                matches!(&refused, MappingError::ReadOnly { path } if path.ends_with("a")),
                "{refused:?}"
            );
        }
    }
    let bytes = fs::read(directory.path().join("a")).expect("the file");
    assert_eq!(bytes, pattern(1, 0, WINDOW));
}

#[test]
fn a_read_pin_gives_no_writable_address() {
    let directory = temp_dir();
    let cache = cache(4);
    let file = writer(&cache, directory.path(), "a", WINDOW);
    let writing = file.pin(0, Access::ReadWrite).expect("a pin");
    assert!(writing.as_mut_ptr().is_some());
    // Served by the writable mapping, but still with read access only.
    let reading = file.pin(0, Access::ReadOnly).expect("a pin");
    assert_eq!(reading.as_ptr(), writing.as_ptr());
    assert!(reading.as_mut_ptr().is_none());
    assert_eq!(cache.stats().mappings, 1);
}

#[test]
fn copying_into_a_pin_for_reading_is_refused() {
    let directory = temp_dir();
    let cache = cache(4);
    put(directory.path(), "a", 1, WINDOW);
    let file = reader(&cache, directory.path(), "a", WINDOW);
    let pin = file.pin(0, Access::ReadOnly).expect("a pin");
    let refused = pin.write_at(0, b"x").expect_err("a pin for reading");
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn copying_past_a_window_is_invalid_input() {
    let directory = temp_dir();
    let cache = cache(4);
    put(directory.path(), "a", 1, WINDOW);
    let file = reader(&cache, directory.path(), "a", WINDOW);
    let pin = file.pin(0, Access::ReadOnly).expect("a pin");
    let refused = [
        pin.read_at(WINDOW - 1, &mut [0; 2]).map(drop),
        pin.read_at(usize::MAX, &mut [0; 2]).map(drop),
        pin.populate(WINDOW, 1),
    ];
    for refused in refused {
        let error = refused.expect_err("out of the window");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_read_only_mapping_is_never_used_for_writing() {
    let directory = temp_dir();
    let cache = cache(4);
    put(directory.path(), "a", 1, WINDOW);
    let file = writer(&cache, directory.path(), "a", WINDOW);
    let reading = file.pin(0, Access::ReadOnly).expect("a pin");
    let writing = file.pin(0, Access::ReadWrite).expect("a pin");
    assert_ne!(reading.as_ptr(), writing.as_ptr(), "a mapping of its own");
    assert_eq!(writing.write_at(5, b"hello").expect("a store"), 5);
    let mut seen = [0; 5];
    reading.read_at(5, &mut seen).expect("a copy");
    assert_eq!(&seen, b"hello", "both mappings show the file");
}

#[test]
fn a_read_only_handle_cannot_write_through_a_writable_mapping() {
    let directory = temp_dir();
    let cache = cache(4);
    let writing = writer(&cache, directory.path(), "a", WINDOW);
    let reading = reader(&cache, directory.path(), "a", WINDOW);
    let _pin = writing.pin(0, Access::ReadWrite).expect("a pin");
    drop(reading.pin(0, Access::ReadOnly).expect("a hit"));
    let refused = reading.pin(0, Access::ReadWrite);
    assert!(matches!(refused, Err(MappingError::ReadOnly { .. })));
}

#[test]
fn an_idle_read_only_mapping_is_replaced_for_a_writer() {
    let directory = temp_dir();
    let cache = cache(4);
    let file = writer(&cache, directory.path(), "a", WINDOW);
    file.write_at(0, &pattern(1, 0, WINDOW)).expect("a write");
    drop(file.pin(0, Access::ReadOnly).expect("a pin"));
    drop(file.pin(0, Access::ReadWrite).expect("a pin"));
    let stats = cache.stats();
    assert_eq!((stats.mappings, stats.evictions), (1, 1), "{stats:?}");
    drop(file.pin(0, Access::ReadOnly).expect("a pin"));
    assert_eq!(cache.stats().misses, 2, "readers use the writable mapping");
}

#[test]
fn i38_an_upgrade_to_writing_does_not_wait_for_readers() {
    let directory = temp_dir();
    let cache = cache(1);
    let file = writer(&cache, directory.path(), "a", WINDOW);
    file.write_at(0, &pattern(1, 0, WINDOW)).expect("a write");
    let reading = file.pin(0, Access::ReadOnly).expect("a pin");
    // On a thread of its own, because a pin that waits would wait forever.
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| {
            let writing = file.pin(0, Access::ReadWrite).expect("a pin");
            assert_eq!(writing.write_at(0, b"new").expect("a store"), 3);
            cache.stats()
        });
        let start = std::time::Instant::now();
        while !upgrade.is_finished() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "the upgrade waits for a reader"
            );
            thread::sleep(Duration::from_millis(1));
        }
        let stats = upgrade.join().expect("the upgrade");
        assert_eq!(stats.mappings, 2, "both mappings are counted: {stats:?}");
        assert_eq!(stats.mapped_bytes, 2 * WINDOW as u64);
        assert_eq!(stats.over_budget_mappings, 1);
        assert_eq!(stats.pinned_mappings, 2);
    });
    let stats = cache.stats();
    assert_eq!(
        (stats.mappings, stats.pinned_mappings),
        (1, 1),
        "the excess mapping is unmapped with its pin: {stats:?}"
    );
    let mut seen = [0; 3];
    reading.read_at(0, &mut seen).expect("a copy");
    assert_eq!(&seen, b"new");
    drop(reading);
    file.evict(0..1).expect("evict");
    assert_eq!(
        cache.stats().mappings,
        0,
        "the mapping is removed after its last pin"
    );
}

#[test]
fn a_missing_file_is_created_only_on_request() {
    let directory = temp_dir();
    let cache = cache(4);
    let uncreated = FileOptions::default().access(Access::ReadWrite);
    let file = file_with(&cache, directory.path(), "a", WINDOW, uncreated);
    let refused = file.write_at(0, b"x");
    assert!(matches!(refused, Err(MappingError::NotFound { .. })));
    let refused = file.pin(0, Access::ReadWrite);
    assert!(matches!(refused, Err(MappingError::NotFound { .. })));
    assert!(!directory.path().join("a").exists());

    let file = writer(&cache, directory.path(), "deep/er/b", WINDOW);
    assert!(matches!(
        file.read_at(0, &mut [0; 1]),
        Err(MappingError::NotFound { .. })
    ));
    assert!(
        !directory.path().join("deep").exists(),
        "reading creates no file"
    );
    file.write_at(0, b"x").expect("a write");
    assert_eq!(len_of(directory.path(), "deep/er/b"), 1);
}
