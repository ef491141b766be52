//! Hashes of pieces equal SHA-1 of the same bytes in memory.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use flatspan::{
    mapping_cache::{Access, CopyMethod, MappingError, Preallocation},
    span::{Group, GroupError, PieceHasher, Pieces, Sha1, Sha1Digest},
};
use sha1::{Digest as _, Sha1 as Reference};

use crate::{
    content::{COPY_PATHS, WINDOW_BYTES, noise, put, small_cache},
    support,
};

pub(crate) fn sha1(bytes: &[u8]) -> Sha1Digest {
    Sha1Digest::new(Reference::digest(bytes).into())
}

/// Files, padding, an empty file and a hole at the end of a file. Returns the group and its bytes.
fn mixed_group(root: &Path, copy_path: CopyMethod) -> (Group, Vec<u8>) {
    let content = [noise(1, 5000), noise(2, 123), noise(3, 9001)];
    put(&root.join("a"), &content[0]);
    put(&root.join("b"), &content[1]);
    put(&root.join("empty"), b"");
    put(&root.join("c"), &content[2]);
    let file = File::options()
        .write(true)
        .open(root.join("c"))
        .expect("open");
    file.set_len(20_000).expect("set_len");
    let cache = small_cache(4, copy_path);
    let builder = Group::builder(root)
        .cache(&cache)
        .existing_file("a")
        .padding(77);
    let builder = builder
        .existing_file("b")
        .existing_file("empty")
        .existing_file("c");
    let group = builder
        .file_range("a", 10..30)
        .padding(3)
        .open()
        .expect("a group");
    let mut bytes = content[0].clone();
    bytes.resize(5077, 0);
    bytes.extend(&content[1]);
    bytes.extend(&content[2]);
    bytes.resize(5077 + 123 + 20_000, 0);
    bytes.extend(&content[0][10..30]);
    bytes.extend([0; 3]);
    (group, bytes)
}

#[test]
fn pieces_of_every_length_hash_like_the_same_bytes_in_memory() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let (group, bytes) = mixed_group(directory.path(), copy_path);
        let total = bytes.len() as u64;
        for piece_bytes in [
            13,
            55,
            56,
            63,
            64,
            65,
            100,
            4095,
            4096,
            4097,
            16_384,
            total - 1,
            total,
            total + 1,
            1 << 40,
            u64::MAX,
        ] {
            let pieces = Pieces::new(&group, piece_bytes).expect("pieces");
            assert_eq!(pieces.count() as u64, total.div_ceil(piece_bytes));
            assert_eq!(
                (pieces.piece_bytes(), pieces.group().len()),
                (piece_bytes, total)
            );
            let in_memory = bytes.chunks(usize::try_from(piece_bytes).expect("64 bit"));
            for (piece, chunk) in in_memory.enumerate() {
                let range = pieces.range(piece).expect("a piece");
                assert_eq!(range.end - range.start, chunk.len() as u64);
                let hash = pieces.hash(piece).expect("a hash");
                assert_eq!(hash, sha1(chunk), "piece {piece} of {piece_bytes} bytes");
                assert_eq!(pieces.hash_with::<Sha1>(piece).expect("a hash"), hash);
            }
        }
    }
}

#[test]
fn pieces_of_one_byte_hash_like_their_byte() {
    let directory = support::temp_dir();
    let (group, bytes) = mixed_group(directory.path(), CopyMethod::Auto);
    let pieces = Pieces::new(&group, 1).expect("pieces");
    assert_eq!(pieces.count(), bytes.len());
    for (piece, byte) in bytes.iter().enumerate().step_by(7) {
        assert_eq!(
            pieces.hash(piece).expect("a hash"),
            sha1(&[*byte]),
            "piece {piece}"
        );
    }
}

#[test]
fn pieces_longer_than_any_buffer_are_hashed_whole() {
    let directory = support::temp_dir();
    let content = noise(1, (3 << 20) + 12_345);
    put(&directory.path().join("a"), &content[..1_000_001]);
    put(&directory.path().join("b"), &content[1_000_001..]);
    for copy_path in COPY_PATHS {
        let cache = small_cache(3, copy_path);
        let builder = Group::builder(directory.path())
            .cache(&cache)
            .existing_file("a");
        let group = builder.existing_file("b").open().expect("a group");
        for piece_bytes in [(1 << 20) + 1, 3 << 20, 1 << 30] {
            let pieces = Pieces::new(&group, piece_bytes).expect("pieces");
            for (piece, chunk) in content.chunks(piece_bytes as usize).enumerate() {
                assert_eq!(pieces.hash(piece).expect("a hash"), sha1(chunk));
                assert_eq!(
                    pieces.hash_with::<Sha1>(piece).expect("a hash"),
                    sha1(chunk)
                );
            }
        }
    }
}

#[test]
fn any_hash_can_be_used() {
    /// A hasher that sums the bytes.
    #[derive(Default)]
    struct Sum(u64);
    impl PieceHasher for Sum {
        type Digest = u64;
        fn update(&mut self, bytes: &[u8]) {
            self.0 += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        }
        fn finish(self) -> u64 {
            self.0
        }
    }
    let directory = support::temp_dir();
    let (group, bytes) = mixed_group(directory.path(), CopyMethod::Auto);
    let pieces = Pieces::new(&group, 1000).expect("pieces");
    for (piece, chunk) in bytes.chunks(1000).enumerate() {
        let expected: u64 = chunk.iter().map(|byte| u64::from(*byte)).sum();
        assert_eq!(pieces.hash_with::<Sum>(piece).expect("a sum"), expected);
    }
}

#[test]
fn recent_writes_are_hashed() {
    for copy_path in COPY_PATHS {
        for preallocation in [
            Preallocation::Full,
            Preallocation::Window,
            Preallocation::Sparse,
        ] {
            let directory = support::temp_dir();
            let cache = small_cache(64, copy_path);
            let builder = Group::builder(directory.path()).cache(&cache).create(true);
            let builder = builder
                .access(Access::ReadWrite)
                .preallocation(preallocation);
            let group = builder.file("a", 100_000).open().expect("a group");
            let mut bytes = vec![0; 100_000];
            // The last byte is written first, so that a hole precedes it.
            group.write_all_at(99_999, b"!").expect("a write");
            bytes[99_999] = b'!';
            let pieces = Pieces::new(&group, 10_000).expect("pieces");
            for (seed, at) in [(1, 35_000), (2, 5), (3, 89_000), (4, 35_010)] {
                let content = noise(seed, 3000);
                group.write_all_at(at as u64, &content).expect("a write");
                bytes[at..at + 3000].copy_from_slice(&content);
                for (piece, chunk) in bytes.chunks(10_000).enumerate() {
                    let hash = pieces.hash(piece).expect("a hash");
                    assert_eq!(hash, sha1(chunk), "{copy_path:?} {preallocation:?} {piece}");
                }
            }
        }
    }
}

#[test]
fn holes_are_hashed_without_being_read() {
    const LEN: u64 = 2 << 30;
    const PIECE: u64 = 64 << 20;
    let directory = support::temp_dir();
    let file = File::create(directory.path().join("a")).expect("create");
    file.set_len(LEN).expect("set_len");
    file.write_all_at(b"data", 5 * PIECE + 17).expect("write");
    file.write_all_at(b"end", LEN - 3).expect("write");
    let cache = small_cache(16, CopyMethod::Auto);
    let builder = Group::builder(directory.path())
        .cache(&cache)
        .existing_file("a");
    let group = builder.padding(3 * PIECE).open().expect("a group");
    let pieces = Pieces::new(&group, PIECE).expect("pieces");
    let mut zeros = vec![0; PIECE as usize];
    let of_zeros = sha1(&zeros);
    for piece in 0..pieces.count() {
        let hash = pieces.hash(piece).expect("a hash");
        match piece {
            5 => {
                zeros[17..21].copy_from_slice(b"data");
                assert_eq!(hash, sha1(&zeros));
                zeros[17..21].fill(0);
            }
            31 => {
                let end = zeros.len() - 3;
                zeros[end..].copy_from_slice(b"end");
                assert_eq!(hash, sha1(&zeros));
                zeros[end..].fill(0);
            }
            _ => assert_eq!(hash, of_zeros, "piece {piece}"),
        }
    }
    let copies = group.stats().positioned_copies + group.stats().misses;
    assert!(
        copies <= 2 * PIECE / WINDOW_BYTES,
        "{copies} copies for two pieces with data"
    );
}

#[test]
fn bytes_past_the_end_of_a_short_file_are_not_a_hole() {
    let directory = support::temp_dir();
    let file = File::create(directory.path().join("a")).expect("create");
    file.set_len(50_000).expect("set_len");
    let builder = Group::builder(directory.path()).file("a", 100_000);
    let group = builder.open().expect("a group");
    let pieces = Pieces::new(&group, 10_000).expect("pieces");
    for piece in 0..5 {
        assert_eq!(pieces.hash(piece).expect("a hole"), sha1(&[0; 10_000]));
    }
    for piece in 5..10 {
        let error = pieces.hash(piece).unwrap_err();
        assert_eq!(crate::content::short_file(error).2, 50_000, "piece {piece}");
    }
    let crossing = Pieces::new(&group, 15_000).expect("pieces");
    assert_eq!(crossing.hash(2).expect("a hole"), sha1(&[0; 15_000]));
    let error = crossing.hash(3).unwrap_err();
    assert_eq!(crate::content::short_file(error).2, 50_000);
}

#[test]
fn invalid_piece_lengths_are_refused() {
    let directory = support::temp_dir();
    let (group, bytes) = mixed_group(directory.path(), CopyMethod::Auto);
    assert!(matches!(
        Pieces::new(&group, 0),
        Err(GroupError::InvalidArgument {
            argument: "piece_bytes",
            ..
        })
    ));
    let pieces = Pieces::new(&group, 1000).expect("pieces");
    for piece in [pieces.count(), usize::MAX] {
        let refused = pieces.hash(piece);
        assert!(matches!(
            refused,
            Err(GroupError::InvalidArgument {
                argument: "piece",
                ..
            })
        ));
        let refused = pieces.hash_with::<Sha1>(piece);
        assert!(matches!(
            refused,
            Err(GroupError::InvalidArgument {
                argument: "piece",
                ..
            })
        ));
        assert_eq!(pieces.range(piece), None);
    }
    let last = pieces.range(pieces.count() - 1).expect("a piece");
    assert_eq!(last.end, bytes.len() as u64);

    let empty = Group::builder(directory.path()).open().expect("a group");
    let none = Pieces::new(&empty, 16).expect("no pieces");
    assert_eq!(none.count(), 0);
    assert!(none.hash(0).is_err());
}

#[test]
fn a_missing_file_fails_its_pieces_and_no_others() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, 1000));
    put(&directory.path().join("c"), &noise(3, 1000));
    let builder = Group::builder(directory.path())
        .file("a", 1000)
        .file("b", 1000);
    let group = builder.file("c", 1000).open().expect("a group");
    let pieces = Pieces::new(&group, 500).expect("pieces");
    for piece in 0..6 {
        match (piece, pieces.hash(piece)) {
            (2 | 3, Err(GroupError::File(MappingError::NotFound { path }))) => {
                assert_eq!(path, directory.path().join("b"));
            }
            (0 | 1, Ok(hash)) => assert_eq!(hash, sha1(&noise(1, 1000)[piece * 500..][..500])),
            (4 | 5, Ok(hash)) => {
                assert_eq!(hash, sha1(&noise(3, 1000)[(piece - 4) * 500..][..500]));
            }
            other => panic!("{other:?}"),
        }
    }
}
