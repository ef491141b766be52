//! Files that another process truncates: an error, never a signal, also without a signal handler.

use std::{
    fs::File,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use flatspan::{
    mapping_cache::{Access, CopyMethod, MappingError},
    span::{Group, GroupError, Pieces, Sha1},
};

use crate::{
    content::{COPY_PATHS, Rng, noise, put, short_file, small_cache},
    support::{self, child},
};

const FILE_BYTES: usize = 40_000;

fn truncate(path: &Path, len: u64) {
    let file = File::options().write(true).open(path).expect("open");
    file.set_len(len).expect("set_len");
}

/// One file that was read and written once, so that its windows are mapped if they ever are.
fn warm_group(root: &Path, copy_path: CopyMethod, windows: u64) -> Group {
    put(&root.join("a"), &noise(1, FILE_BYTES));
    let cache = small_cache(windows, copy_path);
    let builder = Group::builder(root).cache(&cache).access(Access::ReadWrite);
    let group = builder
        .file("a", FILE_BYTES as u64)
        .open()
        .expect("a group");
    let mut buf = vec![0; FILE_BYTES];
    group.read_exact_at(0, &mut buf).expect("all bytes");
    group.write_all_at(0, &buf).expect("all bytes");
    group
}

#[test]
fn reading_a_truncated_file_names_it() {
    for copy_path in COPY_PATHS {
        for len in [0_u64, 1, 4096, 20_000, FILE_BYTES as u64 - 1] {
            let directory = support::temp_dir();
            let group = warm_group(directory.path(), copy_path, 64);
            let path = directory.path().join("a");
            truncate(&path, len);
            let mut buf = vec![0xEE; FILE_BYTES];
            let error = group.read_exact_at(0, &mut buf).unwrap_err();
            assert_eq!(short_file(error), (path.clone(), FILE_BYTES as u64, len));
            let error = group.read_at(len, &mut [0]).unwrap_err();
            assert_eq!(short_file(error), (path, len + 1, len), "{copy_path:?}");
            if len > 0 {
                assert_eq!(group.read_at(0, &mut buf).expect("a part"), len as usize);
                assert!(buf[..len as usize] == noise(1, FILE_BYTES)[..len as usize]);
            }
        }
    }
}

#[test]
fn hashing_a_truncated_file_names_it() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let group = warm_group(directory.path(), copy_path, 64);
        let path = directory.path().join("a");
        let pieces = Pieces::new(&group, 10_000).expect("pieces");
        let before = pieces.hash(1).expect("all bytes exist");
        truncate(&path, 20_500);
        assert_eq!(pieces.hash(1).expect("the existing part"), before);
        for error in [
            pieces.hash(2).unwrap_err(),
            pieces.hash_with::<Sha1>(2).unwrap_err(),
        ] {
            assert_eq!(short_file(error), (path.clone(), 30_000, 20_500));
        }
        assert!(pieces.hash(3).is_err());
        #[cfg(feature = "rayon")]
        {
            use flatspan::span::{HashOptions, PieceHash};
            let outcomes = pieces.hash_all(&HashOptions::new()).expect("enough memory");
            let hashed = outcomes
                .iter()
                .map(|outcome| matches!(outcome, PieceHash::Hashed(_)));
            assert_eq!(hashed.collect::<Vec<_>>(), [true, true, false, false]);
        }
    }
}

#[test]
fn writing_to_a_truncated_file_does_not_restore_its_length() {
    for copy_path in COPY_PATHS {
        // The last length is inside the page that is written next.
        for len in [0, 4096, 10_000, 20_500] {
            let directory = support::temp_dir();
            let group = warm_group(directory.path(), copy_path, 64);
            let path = directory.path().join("a");
            truncate(&path, len);
            let refused = group.write_all_at(20_600, &noise(3, 1000));
            assert!(
                matches!(&refused, Err(GroupError::File(MappingError::FileTooShort { path: named, .. }))
                    if *named == path),
                "{copy_path:?}, {len}: {refused:?}"
            );
            assert_eq!(crate::content::length_of(&path), len, "{copy_path:?}");
        }
    }
}

#[test]
fn a_truncated_file_closed_without_sync_is_reopened_with_its_length() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let mut group = warm_group(directory.path(), copy_path, 64);
        truncate(&directory.path().join("a"), 100);
        assert!(group.write_all_at(0, &noise(3, FILE_BYTES)).is_err());
        group.close_file_without_sync(0).expect("abandon_file");
        group
            .write_all_at(0, &noise(3, FILE_BYTES))
            .expect("the new file is written");
        let found = std::fs::read(directory.path().join("a")).expect("read");
        assert!(found == noise(3, FILE_BYTES));
    }
}

/// Hashes and copies while another thread truncates and extends the file thousands of times.
fn copy_while_truncating(copy_path: CopyMethod, windows: u64) {
    let directory = support::temp_dir();
    let group = warm_group(directory.path(), copy_path, windows);
    let pieces = Pieces::new(&group, 7000).expect("pieces");
    let done = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_millis(1500);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Rng::new(1);
            let path = directory.path().join("a");
            let file = File::options().write(true).open(path).expect("open");
            while !done.load(Ordering::Relaxed) {
                file.set_len(rng.below(FILE_BYTES as u64 + 1))
                    .expect("the file is truncated");
                file.set_len(FILE_BYTES as u64)
                    .expect("the file is extended again");
            }
        });
        let (mut fine, mut failed) = (0_u32, 0_u32);
        let mut count = |was_fine: bool| *if was_fine { &mut fine } else { &mut failed } += 1;
        let mut buf = vec![0; FILE_BYTES];
        while Instant::now() < deadline {
            for piece in 0..pieces.count() {
                count(pieces.hash(piece).is_ok());
                count(pieces.hash_with::<Sha1>(piece).is_ok());
            }
            count(group.read_exact_at(0, &mut buf).is_ok());
            // Other readers may miss their bytes. The only requirement on a write is that it
            // returns.
            count(group.write_all_at(30_000, &buf[..9000]).is_ok());
            #[cfg(feature = "rayon")]
            drop(
                pieces
                    .hash_all(&flatspan::span::HashOptions::new())
                    .expect("enough memory"),
            );
        }
        done.store(true, Ordering::Relaxed);
        assert!(
            fine > 0 && failed > 0,
            "{fine} fine, {failed} failed: not much of a race"
        );
    });
}

/// In a child process, which a signal may kill.
fn survive_in_a_child(name: &str, copy_path: CopyMethod) {
    if child::is_me(name) {
        copy_while_truncating(copy_path, 64);
        copy_while_truncating(copy_path, 2);
        return;
    }
    let Some(done) = child::in_child(name, &[], child::Limits::default()) else {
        return;
    };
    assert_eq!(done.signal(), None, "{done}");
    done.assert_passed();
}

#[test]
fn i34_truncation_during_mapped_copies_raises_no_signal() {
    survive_in_a_child(
        "truncation::i34_truncation_during_mapped_copies_raises_no_signal",
        CopyMethod::Mapped,
    );
}

#[test]
fn i34_truncation_during_copies_of_any_method_raises_no_signal() {
    survive_in_a_child(
        "truncation::i34_truncation_during_copies_of_any_method_raises_no_signal",
        CopyMethod::Auto,
    );
}
