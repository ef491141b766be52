//! Files that are not mapped: on filesystems that refuse mappings, and files below the mapping
//! threshold.

use flatspan::mapping_cache::{Access, CopyMethod, MappingError};

use crate::{
    fixture::{
        PAGE, WINDOW, assert_reads, cache_of, copying, len_of, options, pattern, put, reader,
        writer,
    },
    support::{
        fuse::{FuseFs, Mode},
        temp_dir,
    },
};

#[test]
fn without_mmap_support_copies_use_positioned_io() {
    for mode in [Mode::DirectIo, Mode::NoMmap] {
        let Some(fs) = FuseFs::new(mode) else { return };
        for path in [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned] {
            let cache = copying(path);
            let name = format!("{path:?}");
            let file = writer(&cache, fs.path(), &name, 3 * WINDOW);
            file.write_at(0, &pattern(1, 0, 3 * WINDOW))
                .expect("a write");
            assert_reads(&file, 1, 0, 3 * WINDOW);
            assert_reads(&file, 1, 1000, WINDOW);
            file.sync().expect("a sync");
            assert_eq!(len_of(fs.path(), &name), 3 * WINDOW as u64);
            let mut buf = [0; 100];
            let end = 3 * WINDOW as u64 - 10;
            assert_eq!(file.read_at(end, &mut buf).expect("a read"), 10);
            assert_eq!(cache.stats().mappings, 0);
        }
    }
}

#[test]
fn a_file_found_to_be_unmappable_is_still_read() {
    let Some(fs) = FuseFs::new(Mode::DirectIo) else {
        return;
    };
    put(fs.path(), "a", 1, 3 * WINDOW);
    let cache = copying(CopyMethod::Mapped);
    let file = reader(&cache, fs.path(), "a", 3 * WINDOW);
    assert_reads(&file, 1, 10, 2 * WINDOW);
    assert_eq!(cache.stats().mappings, 0);
}

#[test]
fn pinning_without_mmap_support_reports_not_mappable() {
    let Some(fs) = FuseFs::new(Mode::DirectIo) else {
        return;
    };
    let cache = copying(CopyMethod::Mapped);
    let file = writer(&cache, fs.path(), "a", WINDOW);
    file.write_at(0, &pattern(1, 0, WINDOW)).expect("a write");
    for access in [Access::ReadOnly, Access::ReadWrite, Access::ReadOnly] {
        let refused = file.pin(0, access).expect_err("the file is not mappable");
        assert_eq!(refused.kind(), std::io::ErrorKind::Unsupported);
        assert!(
            matches!(&refused, MappingError::NotMappable { path } if path.ends_with("a")),
            "{refused:?}"
        );
    }
    let stats = cache.stats();
    assert_eq!(
        (stats.mappings, stats.mapped_bytes),
        (0, 0),
        "a failed mapping is not charged"
    );
    file.sync().expect("a sync");
    assert_eq!(cache.stats().dirty_files, 0);
}

#[test]
fn files_below_the_map_threshold_are_copied_without_mapping() {
    let directory = temp_dir();
    let mapped = options(64).copy_method(CopyMethod::Mapped);
    let cache = cache_of(mapped.map_threshold_bytes(2 * WINDOW as u64));
    put(directory.path(), "short", 1, 2 * WINDOW - 1);
    put(directory.path(), "long", 1, 2 * WINDOW);
    let short = writer(&cache, directory.path(), "short", 2 * WINDOW - 1);
    assert_reads(&short, 1, 0, 2 * WINDOW - 1);
    short.write_at(5, &pattern(1, 5, 10)).expect("a write");
    let stats = cache.stats();
    assert_eq!(stats.mappings, 0);
    assert!(stats.positioned_copies > 0);
    let long = reader(&cache, directory.path(), "long", 2 * WINDOW);
    assert_reads(&long, 1, 0, 2 * WINDOW);
    assert_eq!(cache.stats().mappings, 2);
    drop(
        short
            .pin(0, Access::ReadOnly)
            .expect("a pin maps the window nevertheless"),
    );
}

#[test]
fn the_copy_methods_see_each_others_writes() {
    let directory = temp_dir();
    let caches = [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned].map(copying);
    let files = caches
        .each_ref()
        .map(|cache| writer(cache, directory.path(), "a", 4 * WINDOW));
    let mut seed = 0;
    for (offset, len) in [
        (0, 4 * WINDOW),
        (PAGE - 7, 20),
        (WINDOW - 1, 2),
        (3 * WINDOW, WINDOW),
    ] {
        for from in &files {
            seed += 1;
            let data = pattern(seed, offset as u64, len);
            from.write_at(offset as u64, &data).expect("a write");
            for to in &files {
                assert_reads(to, seed, offset as u64, len);
            }
        }
    }
}

#[test]
fn page_cache_reads_do_not_touch_the_disk() {
    let directory = temp_dir();
    let cache = copying(CopyMethod::Auto);
    put(directory.path(), "a", 1, WINDOW);
    let file = reader(&cache, directory.path(), "a", WINDOW);
    let mut buf = vec![0; WINDOW];
    // The bytes were just written, so they are in memory.
    match file.read_page_cache_at(0, &mut buf).expect("a read") {
        Some(copied) => {
            assert!(copied > 0);
            assert!(buf[..copied] == pattern(1, 0, copied));
        }
        None => assert_reads(&file, 1, 0, WINDOW),
    }
    let past = file.read_page_cache_at(WINDOW as u64, &mut buf);
    assert!(matches!(past, Ok(Some(0) | None)), "{past:?}");
}
