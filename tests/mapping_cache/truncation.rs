//! A file that another process truncates while it is mapped. Every copy returns fewer bytes or an
//! error, never zeros for missing bytes, never a signal.

use std::{
    fs::{self, OpenOptions},
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use flatspan::mapping_cache::{Access, CachedFile, CopyMethod, MappingCache, MappingError};

use crate::{
    fixture::{
        PAGE, WINDOW, assert_reads, cache_of, len_of, options, pattern, put, reader, writer,
    },
    support::temp_dir,
};

const PATHS: [CopyMethod; 3] = [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned];
/// Two windows and a part of a third one; the last page is partial too.
const BYTES: usize = 2 * WINDOW + PAGE + 1234;

/// Every page of the file, the bytes around it, and some in between.
fn truncated_lengths() -> Vec<usize> {
    let pages = (0..=BYTES / PAGE).map(|page| page * PAGE);
    let mut lengths: Vec<_> = pages
        .flat_map(|at| [at.saturating_sub(1), at, at + 1, at + 1777])
        .filter(|len| *len < BYTES)
        .collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

fn truncate(directory: &Path, name: &str, bytes: usize) {
    let file = OpenOptions::new().write(true).open(directory.join(name));
    file.and_then(|file| file.set_len(bytes as u64))
        .expect("the file is truncated");
}

/// A cache with few descriptors, so that `Auto` copies use the existing mappings.
fn cache_for(path: CopyMethod) -> MappingCache {
    cache_of(options(16).copy_method(path).descriptors_max(4))
}

/// Uses other files until the file under test has no idle descriptor.
fn close_idle(cache: &MappingCache, directory: &Path) {
    for name in ["w", "x", "y", "z"] {
        let file = reader(cache, directory, name, 1);
        file.actual_bytes().expect("the file exists");
        // This file's descriptor stays open instead of the other one.
        std::mem::forget(file);
    }
}

fn directory_with_other_files() -> tempfile::TempDir {
    let directory = temp_dir();
    for name in ["w", "x", "y", "z"] {
        put(directory.path(), name, 0, 1);
    }
    directory
}

/// Maps all windows of a file for reading.
fn map_all(file: &CachedFile) {
    for window in 0..BYTES.div_ceil(WINDOW) as u64 {
        drop(file.pin(window, Access::ReadOnly).expect("a pin"));
    }
}

#[track_caller]
fn assert_reads_remaining(file: &CachedFile, left: usize, offset: usize, len: usize) {
    let mut buf = vec![0xEE; len];
    let copied = file.read_at(offset as u64, &mut buf).expect("a short read");
    let expected = left.saturating_sub(offset).min(len);
    assert_eq!(copied, expected, "{len} bytes at {offset} of {left} left");
    assert!(
        buf[..copied] == pattern(1, offset as u64, copied),
        "wrong bytes at {offset} of the remaining {left}"
    );
}

#[test]
fn a_truncated_file_is_read_up_to_its_end() {
    for path in PATHS {
        let directory = directory_with_other_files();
        for left in truncated_lengths() {
            put(directory.path(), "a", 1, BYTES);
            let cache = cache_for(path);
            let file = reader(&cache, directory.path(), "a", BYTES);
            map_all(&file);
            // Partly in memory.
            assert_reads(&file, 1, 0, WINDOW / 2);
            truncate(directory.path(), "a", left);
            for (offset, len) in [
                (0, BYTES),
                (left.saturating_sub(100), 200),
                (left, 1),
                (left.saturating_sub(1), 1),
                (BYTES - 1, 1),
                (WINDOW - 10, 20),
                (left / PAGE * PAGE, PAGE),
                (left / PAGE * PAGE, 2 * PAGE),
            ] {
                close_idle(&cache, directory.path());
                assert_reads_remaining(&file, left, offset, len);
            }
        }
    }
}

#[test]
fn pinned_windows_of_a_truncated_file_copy_without_a_signal() {
    let directory = temp_dir();
    for left in truncated_lengths() {
        put(directory.path(), "a", 1, BYTES);
        let cache = cache_for(CopyMethod::Mapped);
        let file = reader(&cache, directory.path(), "a", BYTES);
        let pins = [0, 1, 2].map(|window| file.pin(window, Access::ReadOnly).expect("a pin"));
        truncate(directory.path(), "a", left);
        for (pin, start) in pins.iter().zip((0..).step_by(WINDOW)) {
            let mut buf = vec![0xEE; pin.len()];
            let copied = pin.read_at(0, &mut buf).expect("a copy");
            let pages = left.next_multiple_of(PAGE).saturating_sub(start);
            assert_eq!(
                copied,
                pages.min(pin.len()),
                "correct pages of the remaining {left}"
            );
            let good = left.saturating_sub(start).min(pin.len());
            assert!(buf[..good] == pattern(1, start as u64, good));
            let all = pin.populate(0, pin.len());
            assert_eq!(all.is_ok(), copied == pin.len(), "{all:?}");
        }
        assert_reads_remaining(&file, left, 0, BYTES);
    }
}

#[test]
fn writes_past_a_truncation_report_both_lengths() {
    for path in PATHS {
        let directory = directory_with_other_files();
        for left in truncated_lengths() {
            put(directory.path(), "a", 1, BYTES);
            let cache = cache_for(path);
            let file = writer(&cache, directory.path(), "a", BYTES);
            for window in 0..3 {
                drop(file.pin(window, Access::ReadWrite).expect("a pin"));
            }
            file.sync().expect("a sync");
            truncate(directory.path(), "a", left);
            for (offset, len) in [
                (left, BYTES - left),
                (BYTES - 1, 1),
                (left / 2, BYTES - left / 2),
            ] {
                let refused = file.write_at(offset as u64, &vec![2; len]);
                assert!(
                    matches!(&refused, Err(MappingError::FileTooShort { path, actual_bytes: present_bytes, .. })
                        if path.ends_with("a") && *present_bytes == left as u64),
                    "{path:?}, {len} bytes at {offset} of {left} left: {refused:?}"
                );
                assert_eq!(
                    len_of(directory.path(), "a"),
                    left as u64,
                    "not grown again"
                );
            }
        }
    }
}

#[test]
fn windows_past_a_truncation_cannot_be_pinned() {
    let directory = temp_dir();
    put(directory.path(), "a", 1, BYTES);
    let cache = cache_for(CopyMethod::Auto);
    let file = writer(&cache, directory.path(), "a", BYTES);
    drop(file.pin(0, Access::ReadOnly).expect("a pin"));
    truncate(directory.path(), "a", WINDOW);
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let refused = file.pin(1, access);
        assert!(
            matches!(refused, Err(MappingError::FileTooShort { actual_bytes: present_bytes, .. })
                if present_bytes == WINDOW as u64),
            "{refused:?}"
        );
    }
    assert_eq!(cache.stats().mappings, 1);
}

#[test]
fn a_closed_file_is_reopened_with_its_current_length() {
    for path in PATHS {
        let directory = temp_dir();
        put(directory.path(), "a", 1, BYTES);
        let cache = cache_for(path);
        let mut file = writer(&cache, directory.path(), "a", BYTES);
        map_all(&file);
        truncate(directory.path(), "a", 5000);
        let refused = file.write_at(6000, b"x");
        assert!(matches!(refused, Err(MappingError::FileTooShort { .. })));
        file.close().expect("released");
        assert_eq!(cache.stats().mappings, 0);
        assert_reads_remaining(&file, 5000, 0, BYTES);
        let rest = pattern(1, 5000, BYTES - 5000);
        file.write_at(5000, &rest)
            .expect("the file is extended again");
        assert_reads(&file, 1, 0, BYTES);
    }
}

#[test]
fn i36_a_shrinking_file_never_reads_as_zeros() {
    let large = 64 * WINDOW;
    for path in PATHS {
        let directory = temp_dir();
        put(directory.path(), "a", 1, large);
        let expected = pattern(1, 0, large);
        let cache = cache_of(options(8).copy_method(path).descriptors_max(4));
        let file = reader(&cache, directory.path(), "a", large);
        let done = AtomicBool::new(false);
        // Readers stop at the end of the file.
        let end = AtomicUsize::new(large);
        thread::scope(|scope| {
            for thread in 0..3usize {
                let (file, done, end, expected) = (&file, &done, &end, &expected);
                scope.spawn(move || {
                    let mut buf = vec![0; WINDOW];
                    let mut back = thread * 1111;
                    while !done.load(Ordering::Relaxed) {
                        back = (back + 333) % WINDOW;
                        let at = end.load(Ordering::Relaxed).saturating_sub(back);
                        let copied = file.read_at(at as u64, &mut buf).unwrap_or(0);
                        assert!(
                            buf[..copied] == expected[at..at + copied],
                            "{path:?} at {at}"
                        );
                    }
                });
            }
            for left in (0..large).rev().step_by(333) {
                truncate(directory.path(), "a", left);
                end.store(left, Ordering::Relaxed);
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_file_emptied_by_another_process_is_not_missing() {
    let directory = temp_dir();
    put(directory.path(), "a", 1, BYTES);
    let cache = cache_for(CopyMethod::Mapped);
    let file = reader(&cache, directory.path(), "a", BYTES);
    map_all(&file);
    fs::write(directory.path().join("a"), b"").expect("emptied");
    assert_eq!(file.read_at(0, &mut [0; 64]).expect("a read"), 0);
    assert_eq!(file.actual_bytes().expect("its length"), 0);
}
