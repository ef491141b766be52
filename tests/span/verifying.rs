//! From pieces to files: the state of each file.

use std::{
    fs::{self, File},
    ops::RangeInclusive,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::atomic::AtomicBool,
};

use flatspan::span::{
    FileReport, FileStatus, Group, GroupBuilder, HashOptions, PieceState, Pieces, Sha1Digest,
    VerifyReport,
};
use tempfile::TempDir;

use crate::{
    content::{noise, put},
    hashing::sha1,
    support,
};

const FILE_BYTES: usize = 10_000;
const FILES: usize = 5;
const PIECE_BYTES: usize = 4000;

/// Five files `0` to `4` of 10,000 bytes, and the hashes of pieces of 4,000. The first two files
/// share piece 2; the third and the fourth share piece 7. Files 1 and 2 meet at the end of piece 4.
struct Scene {
    directory: TempDir,
    expected: Vec<Sha1Digest>,
}

impl Scene {
    fn new() -> Self {
        let directory = support::temp_dir();
        let content = noise(1, FILES * FILE_BYTES);
        for (number, chunk) in content.chunks(FILE_BYTES).enumerate() {
            put(&directory.path().join(number.to_string()), chunk);
        }
        let expected = content.chunks(PIECE_BYTES).map(sha1).collect();
        Self {
            directory,
            expected,
        }
    }

    fn path(&self, number: usize) -> PathBuf {
        self.directory.path().join(number.to_string())
    }

    fn corrupt(&self, number: usize, at: u64) {
        let file = File::options()
            .read(true)
            .write(true)
            .open(self.path(number))
            .expect("open");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[!byte[0]], at).expect("write");
    }

    fn set_len(&self, number: usize, len: u64) {
        let file = File::options()
            .write(true)
            .open(self.path(number))
            .expect("open");
        file.set_len(len).expect("set_len");
    }

    fn verify(&self) -> VerifyReport {
        let mut builder = Group::builder(self.directory.path());
        for number in 0..FILES {
            builder = builder.file(number.to_string(), FILE_BYTES as u64);
        }
        verify(builder, &self.expected, PIECE_BYTES as u64)
    }
}

pub(crate) fn verify(
    builder: GroupBuilder,
    expected: &[Sha1Digest],
    piece_bytes: u64,
) -> VerifyReport {
    let group = builder.open().expect("a group");
    let pieces = Pieces::new(&group, piece_bytes).expect("pieces");
    let found = pieces
        .verify(expected, &HashOptions::new())
        .expect("a result");
    assert!(found.complete);
    found
}

/// One letter for each file, and its pieces that are known to be bad.
fn summary(found: &VerifyReport) -> (String, Vec<&[RangeInclusive<usize>]>) {
    let letter = |file: &FileReport| match file.status {
        FileStatus::Ok => '.',
        FileStatus::Missing => 'm',
        FileStatus::TooShort => 's',
        FileStatus::TooLong => 'l',
        FileStatus::Unreadable(_) => 'r',
        FileStatus::Corrupt => 'c',
        FileStatus::Undecided { .. } => 'u',
        _ => '?',
    };
    let pieces = found
        .files
        .iter()
        .map(|file| file.corrupt_pieces.as_slice());
    (found.files.iter().map(letter).collect(), pieces.collect())
}

#[track_caller]
pub(crate) fn assert_found(found: &VerifyReport, letters: &str, bad: &[&[RangeInclusive<usize>]]) {
    assert_eq!(
        summary(found),
        (letters.to_owned(), bad.to_vec()),
        "{found:#?}"
    );
    assert_eq!(found.is_ok(), letters.chars().all(|letter| letter == '.'));
}

#[track_caller]
pub(crate) fn suspects(found: &VerifyReport, file: usize) -> Vec<usize> {
    match &found.files[file].status {
        FileStatus::Undecided {
            shared_with: because_of,
        } => because_of.clone(),
        other => panic!("file {file} is {other:?}"),
    }
}

fn bad_pieces(found: &VerifyReport) -> Vec<usize> {
    let states = found.pieces.iter().enumerate();
    let bad = states.filter(|(_, state)| !matches!(state, PieceState::Ok));
    bad.map(|(piece, _)| piece).collect()
}

#[test]
fn correct_files_are_ok() {
    let found = Scene::new().verify();
    assert_found(&found, ".....", &[&[], &[], &[], &[], &[]]);
    assert_eq!(found.pieces.len(), 13);
    for (number, file) in found.files.iter().enumerate() {
        assert_eq!(
            (file.entry, file.path.clone()),
            (number, number.to_string().into())
        );
        assert_eq!(
            (file.declared_bytes, file.actual_bytes),
            (10_000, Some(10_000))
        );
    }
}

#[test]
fn a_missing_file_does_not_shift_the_others() {
    let scene = Scene::new();
    fs::remove_file(scene.path(2)).expect("rm");
    let found = scene.verify();
    assert_eq!(found.files[2].actual_bytes, None);
    // Files 1 and 2 meet at the end of a piece; file 3 shares piece 7 with file 2.
    assert_found(&found, "..mu.", &[&[], &[], &[], &[], &[]]);
    assert_eq!(suspects(&found, 3), [2]);
    assert_eq!(bad_pieces(&found), [5, 6, 7]);
    assert!(matches!(found.pieces[5], PieceState::Unreadable(_)));
}

#[test]
fn a_short_file_is_too_short_even_if_its_content_is_wrong() {
    let scene = Scene::new();
    scene.set_len(4, 5000);
    let found = scene.verify();
    assert_eq!(found.files[4].actual_bytes, Some(5000));
    assert_found(&found, "....s", &[&[], &[], &[], &[], &[]]);
    assert_eq!(bad_pieces(&found), [11, 12]);
    scene.set_len(4, 0);
    let found = scene.verify();
    assert_found(&found, "....s", &[&[], &[], &[], &[], &[]]);
    assert_eq!(bad_pieces(&found), [10, 11, 12]);
}

#[test]
fn a_long_file_is_too_long_and_does_not_shift_the_others() {
    let scene = Scene::new();
    scene.set_len(1, 12_345);
    let found = scene.verify();
    assert_eq!(found.files[1].actual_bytes, Some(12_345));
    assert_found(&found, ".l...", &[&[], &[], &[], &[], &[]]);
    assert!(bad_pieces(&found).is_empty());
}

#[test]
fn a_long_file_that_shares_a_bad_piece_is_too_long() {
    let scene = Scene::new();
    scene.set_len(2, 10_001);
    scene.corrupt(3, 1999);
    let found = scene.verify();
    // The length does not show which of the two files is corrupt.
    assert_found(&found, "..lu.", &[&[], &[], &[], &[], &[]]);
    assert_eq!(suspects(&found, 3), [2]);
    assert_eq!(bad_pieces(&found), [7]);
}

#[test]
fn a_long_file_is_too_long_even_if_it_is_not_hashed() {
    let scene = Scene::new();
    scene.set_len(2, 10_001);
    let mut builder = Group::builder(scene.directory.path());
    for number in 0..FILES {
        builder = builder.file(number.to_string(), FILE_BYTES as u64);
    }
    let group = builder.open().expect("a group");
    let pieces = Pieces::new(&group, PIECE_BYTES as u64).expect("pieces");
    let cancel = AtomicBool::new(true);
    let run = HashOptions::new().cancel(&cancel);
    let found = pieces.verify(&scene.expected, &run).expect("a result");
    assert!(!found.complete);
    assert_eq!(summary(&found).0, "??l??");
}

#[test]
fn a_file_with_bad_pieces_is_corrupt_and_lists_their_ranges() {
    let scene = Scene::new();
    for at in [0, 4000, 9999] {
        scene.corrupt(4, at);
    }
    let found = scene.verify();
    assert_found(&found, "....c", &[&[], &[], &[], &[], &[10..=12]]);
    scene.corrupt(4, 4000);
    let found = scene.verify();
    assert_found(&found, "....c", &[&[], &[], &[], &[], &[10..=10, 12..=12]]);
}

#[test]
fn a_bad_shared_piece_is_attributed_to_a_corrupt_neighbour() {
    let scene = Scene::new();
    scene.corrupt(0, 0);
    scene.corrupt(0, 9999);
    let found = scene.verify();
    assert_found(&found, "cu...", &[&[0..=0], &[], &[], &[], &[]]);
    assert_eq!(suspects(&found, 1), [0]);
    assert_eq!(bad_pieces(&found), [0, 2]);
}

#[test]
fn without_a_corrupt_neighbour_all_sharers_are_undecided() {
    let scene = Scene::new();
    scene.corrupt(3, 1999);
    let found = scene.verify();
    assert_found(&found, "..uu.", &[&[], &[], &[], &[], &[]]);
    assert_eq!(
        (suspects(&found, 2), suspects(&found, 3)),
        (vec![3], vec![2])
    );
    assert_eq!(bad_pieces(&found), [7]);
}

#[test]
fn all_files_of_a_bad_shared_piece_are_undecided() {
    let directory = support::temp_dir();
    let mut builder = Group::builder(directory.path());
    let mut content = Vec::new();
    for number in 0..4 {
        let bytes = noise(number, 100);
        put(&directory.path().join(number.to_string()), &bytes);
        builder = builder.file(number.to_string(), 100);
        content.extend(bytes);
    }
    content[250] ^= 1;
    let expected = [sha1(&content)];
    let found = verify(builder, &expected, 1000);
    assert_found(&found, "uuuu", &[&[], &[], &[], &[]]);
    assert_eq!(suspects(&found, 2), [0, 1, 3]);

    fs::remove_file(directory.path().join("1")).expect("rm");
    let names = (0..4).map(|number| number.to_string());
    let builder = names.fold(Group::builder(directory.path()), |builder, name| {
        builder.file(name, 100)
    });
    let found = verify(builder, &expected, 1000);
    assert_found(&found, "umuu", &[&[], &[], &[], &[]]);
    for file in [0, 2, 3] {
        assert_eq!(suspects(&found, file), [1], "only the corrupt neighbour");
    }
}

#[test]
fn several_problems_are_reported_together() {
    let scene = Scene::new();
    fs::remove_file(scene.path(0)).expect("rm");
    scene.corrupt(1, 5000);
    scene.set_len(2, 10_001);
    scene.set_len(3, 9999);
    scene.corrupt(4, 0);
    let found = scene.verify();
    assert_found(&found, "mclsc", &[&[], &[3..=3], &[], &[], &[10..=10]]);
}

#[test]
fn a_directory_in_place_of_a_file_is_unreadable() {
    let scene = Scene::new();
    fs::remove_file(scene.path(4)).expect("rm");
    fs::create_dir(scene.path(4)).expect("mkdir");
    let found = scene.verify();
    assert_found(&found, "....r", &[&[], &[], &[], &[], &[]]);
    assert_eq!(found.files[4].actual_bytes, None);
}
