//! Large offsets: the last window of a huge file, and offsets that no file can have.

use std::{fs::File, os::unix::fs::FileExt as _};

use flatspan::mapping_cache::{Access, CacheOptions, CopyMethod, MappingError, Preallocation};

use crate::{
    fixture::{WINDOW, assert_reads, cache_of, copying, len_of, pattern, put, writable, writer},
    support::{
        child::{self, Limits},
        temp_dir,
    },
};

const TIB: u64 = 1 << 40;

#[test]
fn the_last_window_of_a_tebibyte_file_works() {
    for path in [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned] {
        let directory = temp_dir();
        let cache = cache_of(CacheOptions::default().copy_method(path));
        let options = writable().preallocation(Preallocation::Sparse);
        let location = crate::fixture::place(directory.path(), "a");
        let file = cache.file(location, TIB + 100, options);
        let at = TIB - 500;
        file.write_at(at, &pattern(1, at, 600)).expect("a write");
        assert_eq!(len_of(directory.path(), "a"), TIB + 100);
        assert_reads(&file, 1, at, 600);
        let last = TIB / cache.window_bytes() as u64;
        let pin = file.pin(last, Access::ReadWrite).expect("a pin");
        assert_eq!(pin.len(), 100, "up to the end of the content");
        let mut buf = [0; 100];
        pin.read_at(0, &mut buf).expect("a copy");
        assert_eq!(&buf[..], pattern(1, TIB, 100));
        pin.write_at(0, b"by the pin").expect("a store");
        drop(pin);
        file.sync().expect("a sync");
        let outside = File::open(directory.path().join("a")).expect("the file");
        let mut seen = [0; 10];
        outside.read_exact_at(&mut seen, TIB).expect("a read");
        assert_eq!(&seen, b"by the pin");
    }
}

#[test]
fn impossible_offsets_are_refused() {
    let directory = temp_dir();
    put(directory.path(), "a", 1, WINDOW);
    for path in [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned] {
        let cache = copying(path);
        let file = writer(&cache, directory.path(), "a", WINDOW);
        let mut buf = [0; 2];
        for offset in [i64::MAX as u64 - 1, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
            let refused = [
                file.read_at(offset, &mut buf).err(),
                file.write_at(offset, &buf).err(),
                file.read_page_cache_at(offset, &mut buf).err(),
            ];
            for refused in refused {
                assert!(
                    matches!(&refused, Some(MappingError::OffsetOverflow { offset: at, len: 2, .. })
                        if *at == offset),
                    "{offset}: {refused:?}"
                );
            }
        }
        assert_reads(&file, 1, 0, WINDOW);
    }
}

#[test]
fn reads_past_the_end_return_nothing_and_use_no_memory() {
    let name = "far_offsets::reads_past_the_end_return_nothing_and_use_no_memory";
    if !child::is_me(name) {
        // Otherwise a far window would take memory of the machine.
        let limits = Limits {
            address_space_bytes: Some(2 << 30),
            ..Limits::default()
        };
        if let Some(done) = child::in_child(name, &[], limits) {
            done.assert_passed();
        }
        return;
    }
    let directory = temp_dir();
    put(directory.path(), "a", 1, WINDOW);
    for path in [CopyMethod::Positioned, CopyMethod::Auto, CopyMethod::Mapped] {
        let cache = copying(path);
        let file = writer(&cache, directory.path(), "a", WINDOW);
        for exponent in 20..63 {
            let offset = 1 << exponent;
            let copied = file.read_at(offset, &mut [0; 8]);
            assert_eq!(copied.expect("a read"), 0, "{path:?} at {offset}");
        }
        for exponent in 4..64 {
            let window = 1u64 << exponent;
            for access in [Access::ReadOnly, Access::ReadWrite] {
                let refused = file.pin(window, access);
                assert!(
                    matches!(
                        refused,
                        Err(MappingError::FileTooShort { .. } | MappingError::OffsetOverflow { .. })
                    ),
                    "window {window}: {refused:?}"
                );
            }
        }
    }
    assert_eq!(len_of(directory.path(), "a"), WINDOW as u64);
}
