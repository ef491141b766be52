//! Verifying entries other than adjacent whole files: padding, ranges, empty files.

use std::fs;

use flatspan::span::{FileStatus, Group, PieceState};

use crate::{
    content::{noise, put},
    hashing::sha1,
    support,
    verifying::{assert_found, suspects, verify},
};

#[test]
fn a_piece_of_a_file_and_padding_belongs_to_the_file() {
    let directory = support::temp_dir();
    let (a, b) = (noise(1, 5000), noise(2, 5000));
    put(&directory.path().join("a"), &a);
    put(&directory.path().join("b"), &b);
    let mut content = a.clone();
    content.resize(8000, 0);
    content.extend(&b);
    content.resize(16_000, 0);
    let expected: Vec<_> = content.chunks(4000).map(sha1).collect();
    let verify = || {
        let builder = Group::builder(directory.path())
            .file("a", 5000)
            .padding(3000);
        verify(builder.file("b", 5000).padding(3000), &expected, 4000)
    };
    assert_found(&verify(), "..", &[&[], &[]]);
    fs::write(directory.path().join("a"), [&a[..4999], b"\0"].concat()).expect("write");
    let found = verify();
    assert_found(&found, "c.", &[&[1..=1], &[]]);
    assert_eq!(
        (found.files[0].entry, found.files[1].entry),
        (0, 2),
        "numbers of entries"
    );
    fs::write(directory.path().join("a"), &a).expect("write");
    fs::write(directory.path().join("b"), [b"\0", &b[1..]].concat()).expect("write");
    assert_found(&verify(), ".c", &[&[], &[2..=2]]);
}

#[test]
fn nonzero_padding_never_verifies() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, 1000));
    let builder = Group::builder(directory.path())
        .file("a", 1000)
        .padding(1000);
    let expected = [sha1(&noise(1, 1000)), sha1(&noise(2, 1000))];
    let found = verify(builder, &expected, 1000);
    assert!(matches!(found.pieces[1], PieceState::Mismatch));
    assert!(matches!(found.files[0].status, FileStatus::Ok));
    assert!(!found.is_ok(), "a piece is not as expected");
}

#[test]
fn ranges_of_a_file_are_verified_independently() {
    let directory = support::temp_dir();
    let content = noise(1, 10_000);
    put(&directory.path().join("a"), &content);
    let bytes = [&content[6000..8000], &content[0..4000]].concat();
    let expected: Vec<_> = bytes.chunks(2000).map(sha1).collect();
    let verify = || {
        let builder = Group::builder(directory.path()).file_range("a", 6000..8000);
        verify(builder.file_range("a", 0..4000), &expected, 2000)
    };
    let found = verify();
    // Longer than the ranges, as intended.
    assert_found(&found, "..", &[&[], &[]]);
    assert_eq!(found.files[0].actual_bytes, Some(10_000));
    let mut spoiled = content.clone();
    spoiled[3000] ^= 1;
    fs::write(directory.path().join("a"), &spoiled).expect("write");
    assert_found(&verify(), ".c", &[&[], &[2..=2]]);
    fs::write(directory.path().join("a"), &content[..7000]).expect("write");
    assert_found(&verify(), "s.", &[&[], &[]]);
}

#[test]
fn empty_files_must_exist_too() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, 100));
    put(&directory.path().join("there"), b"");
    put(&directory.path().join("full"), b"not empty");
    let builder = Group::builder(directory.path())
        .file("gone", 0)
        .file("a", 100);
    let builder = builder.file("there", 0).file("full", 0);
    let found = verify(builder, &[sha1(&noise(1, 100))], 100);
    assert_found(&found, "m..l", &[&[], &[], &[], &[]]);
}

#[test]
fn an_empty_file_never_shares_a_bad_piece() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, 100));
    put(&directory.path().join("empty"), b"");
    put(&directory.path().join("b"), &noise(2, 100));
    let builder = Group::builder(directory.path())
        .file("a", 100)
        .file("empty", 0);
    let found = verify(builder.file("b", 100), &[[0; 20].into()], 200);
    assert_found(&found, "u.u", &[&[], &[], &[]]);
    assert_eq!(
        (suspects(&found, 0), suspects(&found, 2)),
        (vec![2], vec![0])
    );
    fs::remove_file(directory.path().join("empty")).expect("rm");
    let builder = Group::builder(directory.path())
        .file("a", 100)
        .file("empty", 0);
    let found = verify(builder.file("b", 100), &[[0; 20].into()], 100 + 100);
    assert_found(&found, "umu", &[&[], &[], &[]]);
    assert_eq!(
        suspects(&found, 0),
        [2],
        "a missing empty file makes no piece bad"
    );
}
