//! Descriptors are few: closed after mapping, bounded for copies, and closed when the process
//! reaches its limit.

use std::fs::File;

use flatspan::mapping_cache::{Access, CachedFile, CopyMethod, MappingCache, MappingError};

use crate::{
    fixture::{PAGE, WINDOW, assert_reads, cache_of, options, pattern, put, reader, writer},
    support::{
        child::{self, Child, Limits},
        memory, temp_dir,
    },
};

const TIGHT: Limits = Limits {
    nofile: Some(64),
    address_space_bytes: None,
    file_size_bytes: None,
    cgroup_memory_bytes: None,
};

/// Runs the calling test again as a child process with few descriptors.
#[track_caller]
fn under_tight_limits(test: &str) {
    if let Some(done) = Child::new(test).limits(TIGHT).run() {
        done.assert_passed();
    }
}

fn read_many(directory: &std::path::Path, cache: &MappingCache, names: u64) -> Vec<CachedFile> {
    (0..names)
        .map(|name| {
            put(directory, &name.to_string(), name, PAGE);
            reader(cache, directory, &name.to_string(), PAGE)
        })
        .collect()
}

#[test]
fn mapped_files_keep_no_descriptor_open() {
    let name = "descriptors::mapped_files_keep_no_descriptor_open";
    if !child::is_me(name) {
        return under_tight_limits(name);
    }
    let directory = temp_dir();
    let cache = cache_of(options(1000));
    let files = read_many(directory.path(), &cache, 200);
    let before = memory::descriptors();
    let pins: Vec<_> = files
        .iter()
        .map(|file| file.pin(0, Access::ReadOnly).expect("a pin"))
        .collect();
    let kept = cache.stats().open_files;
    assert!(kept <= 64 / 4, "{kept} kept");
    assert!(
        memory::descriptors() <= before + kept,
        "no other descriptors are open: {} before, {} now",
        before,
        memory::descriptors()
    );
    for (pin, seed) in pins.iter().zip(0..) {
        let mut buf = [0; 64];
        assert_eq!(pin.read_at(0, &mut buf).expect("a copy"), 64);
        assert_eq!(&buf[..], pattern(seed, 0, 64));
    }
}

#[test]
fn copies_keep_a_bounded_number_of_descriptors() {
    let name = "descriptors::copies_keep_a_bounded_number_of_descriptors";
    if !child::is_me(name) {
        return under_tight_limits(name);
    }
    let directory = temp_dir();
    let cache = cache_of(
        options(64)
            .descriptors_max(5)
            .copy_method(CopyMethod::Positioned),
    );
    let files = read_many(directory.path(), &cache, 50);
    let before = memory::descriptors();
    for (file, seed) in files.iter().zip(0..) {
        assert_reads(file, seed, 0, PAGE);
        assert!(cache.stats().open_files <= 5);
        assert!(memory::descriptors() <= before + 5);
    }
    drop(files);
    assert_eq!(cache.stats().open_files, 0);
    assert_eq!(memory::descriptors(), before);
}

#[test]
fn hundreds_of_files_work_with_64_descriptors() {
    let name = "descriptors::hundreds_of_files_work_with_64_descriptors";
    if !child::is_me(name) {
        return under_tight_limits(name);
    }
    for path in [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned] {
        let directory = temp_dir();
        let cache = cache_of(options(40).copy_method(path));
        let files: Vec<_> = (0..320)
            .map(|name| writer(&cache, directory.path(), &name.to_string(), WINDOW + 10))
            .collect();
        for (file, seed) in files.iter().zip(0..) {
            let data = pattern(seed, 0, WINDOW + 10);
            file.write_at(0, &data).expect("a write");
        }
        for round in 0..2 {
            for (file, seed) in files.iter().zip(0..) {
                assert_reads(file, seed, 0, WINDOW + 10);
                if round == 0 {
                    file.sync().expect("a sync");
                }
            }
        }
        assert_eq!(cache.stats().dirty_files, 0);
    }
}

#[test]
fn write_pins_of_more_files_than_descriptors_need_no_descriptors() {
    let name = "descriptors::write_pins_of_more_files_than_descriptors_need_no_descriptors";
    if !child::is_me(name) {
        return under_tight_limits(name);
    }
    let directory = temp_dir();
    let cache = cache_of(options(1000));
    let files: Vec<_> = (0..200)
        .map(|name| writer(&cache, directory.path(), &name.to_string(), PAGE))
        .collect();
    let pins: Vec<_> = files
        .iter()
        .map(|file| file.pin(0, Access::ReadWrite).expect("a pin"))
        .collect();
    for pin in &pins {
        assert_eq!(pin.write_at(0, b"stored").expect("a store"), 6);
    }
    assert_eq!(cache.stats().dirty_files, 200);
    assert!(cache.stats().open_files <= 64 / 4);
    for file in &files {
        file.sync().expect("a sync");
    }
    assert_eq!(cache.stats().dirty_files, 200, "the mappings are writable");
    drop(pins);
    for file in &files {
        file.sync().expect("a sync");
    }
    assert_eq!(cache.stats().dirty_files, 0);
}

/// Opens descriptors until only the given number is left for the process.
fn use_up_descriptors(but: usize) -> Vec<File> {
    let mut taken: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.truncate(taken.len() - but);
    taken
}

#[test]
fn idle_descriptors_are_closed_at_the_process_limit() {
    let name = "descriptors::idle_descriptors_are_closed_at_the_process_limit";
    if !child::is_me(name) {
        return under_tight_limits(name);
    }
    let directory = temp_dir();
    let cache = cache_of(options(64).copy_method(CopyMethod::Positioned));
    let files = read_many(directory.path(), &cache, 30);
    for (file, seed) in files[..10].iter().zip(0..) {
        assert_reads(file, seed, 0, PAGE);
    }
    assert_eq!(cache.stats().open_files, 10);
    let _files = use_up_descriptors(0);
    for (file, seed) in files.iter().zip(0..) {
        assert_reads(file, seed, 0, PAGE);
    }
}

#[test]
fn i04_descriptors_of_dirty_files_are_replaced_at_the_process_limit() {
    let name = "descriptors::i04_descriptors_of_dirty_files_are_replaced_at_the_process_limit";
    if !child::is_me(name) {
        return under_tight_limits(name);
    }
    let directory = temp_dir();
    let cache = cache_of(options(64));
    let files = read_many(directory.path(), &cache, 10);
    let written: Vec<_> = (10..14)
        .map(|name| writer(&cache, directory.path(), &name.to_string(), PAGE))
        .collect();
    for file in &written {
        file.write_at(0, b"something").expect("a write");
    }
    assert_eq!(cache.stats().dirty_files, 4);
    let _files = use_up_descriptors(0);
    for (file, seed) in files.iter().zip(0..) {
        assert_reads(file, seed, 0, PAGE);
    }
    assert_eq!(cache.stats().dirty_files, 4);
    for file in &written {
        file.sync().expect("a sync");
    }
    assert_eq!(cache.stats().dirty_files, 0);
}

#[test]
fn without_idle_descriptors_the_error_names_the_limit() {
    let name = "descriptors::without_idle_descriptors_the_error_names_the_limit";
    if !child::is_me(name) {
        return under_tight_limits(name);
    }
    let directory = temp_dir();
    let cache = cache_of(options(64));
    let files = read_many(directory.path(), &cache, 1);
    let taken = use_up_descriptors(0);
    let refused = [
        files[0].read_at(0, &mut [0; 8]).err(),
        files[0].pin(0, Access::ReadOnly).err(),
    ];
    drop(taken);
    for refused in refused {
        let refused = refused.expect("no descriptor is available");
        assert!(refused.to_string().contains("`ulimit -n` (now 64)"));
        assert!(
            matches!(&refused, MappingError::TooManyDescriptors { path, descriptors_max: 64 }
                if path.ends_with("0")),
            "{refused:?}"
        );
    }
    assert_reads(&files[0], 0, 0, PAGE);
}
