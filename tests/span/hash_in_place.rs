//! Hashing in mapped memory gives the same hashes as hashing copies.
#![expect(unsafe_code, reason = "hashing in place is a promise of the caller")]

use flatspan::{
    mapping_cache::{BudgetPolicy, CacheOptions, CopyMethod, MappingCache},
    span::{Group, Pieces},
};

use crate::{
    content::{noise, put, small_cache},
    hashing::sha1,
    support,
};

/// A group whose pieces are partly inside one window and partly cross windows, files and padding.
fn hashes_agree(cache: &MappingCache) {
    let directory = support::temp_dir();
    let mut builder = Group::builder(directory.path()).cache(cache);
    let mut bytes = Vec::new();
    for (file, len) in [300_000, 0, 1, 200_123, 4096, 77].into_iter().enumerate() {
        let content = noise(file as u64, len);
        put(&directory.path().join(format!("{file}")), &content);
        builder = builder.existing_file(format!("{file}")).padding(5);
        bytes.extend(content);
        bytes.extend([0; 5]);
    }
    let group = builder.open().expect("a group");
    for piece_bytes in [64, 1000, 4096, 16 << 10, 100_000, 1 << 20] {
        let pieces = Pieces::new(&group, piece_bytes).expect("pieces");
        // SAFETY: no other code writes to the files of this test.
        let pieces = unsafe { pieces.hash_in_place() };
        for piece in 0..pieces.count() {
            let range = pieces.range(piece).expect("a piece");
            let expected = sha1(&bytes[range.start as usize..range.end as usize]);
            assert_eq!(pieces.hash(piece).expect("all bytes exist"), expected);
        }
        #[cfg(feature = "rayon")]
        for (piece, outcome) in pieces
            .hash_all(&flatspan::span::HashOptions::new())
            .expect("enough memory")
            .into_iter()
            .enumerate()
        {
            let range = pieces.range(piece).expect("a piece");
            let expected = sha1(&bytes[range.start as usize..range.end as usize]);
            assert!(
                matches!(outcome, flatspan::span::PieceHash::Hashed(hash) if hash == expected),
                "piece {piece} of {piece_bytes}: {outcome:?}"
            );
        }
    }
    assert_eq!(cache.stats().pinned_mappings, 0);
}

#[test]
fn hashing_in_place_equals_hashing_copies() {
    let roomy = CacheOptions::default().budget_bytes(64 << 20);
    hashes_agree(&MappingCache::new(roomy).expect("a cache"));
    hashes_agree(&small_cache(64, CopyMethod::Auto));
}

#[test]
fn with_a_pinned_budget_copies_are_hashed_instead() {
    let tight = CacheOptions::default()
        .window_bytes(4096)
        .budget_bytes(4096)
        .budget_policy(BudgetPolicy::Fail);
    hashes_agree(&MappingCache::new(tight).expect("a cache"));
}

#[test]
fn a_short_file_is_an_error_in_place_too() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, 10_000));
    let group = Group::builder(directory.path()).file("a", 12_000).open();
    let group = group.expect("a group");
    let pieces = Pieces::new(&group, 6000).expect("pieces");
    // SAFETY: no other code writes to the file of this test.
    let pieces = unsafe { pieces.hash_in_place() };
    assert_eq!(
        pieces.hash(0).expect("the file exists"),
        sha1(&noise(1, 10_000)[..6000])
    );
    assert!(pieces.hash(1).is_err(), "the end of its last page is zeros");
}
