//! Hashing all pieces: order, threads, progress and cancellation.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use flatspan::{
    mapping_cache::{CopyMethod, MappingError},
    span::{
        FileStatus, Group, GroupError, HashOptions, HashProgress, PieceHash, PieceState, Pieces,
    },
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{
    content::{COPY_PATHS, noise, put, small_cache},
    hashing::sha1,
    support,
};

/// Seven files. Returns the group and its bytes.
fn seven_files(root: &Path, copy_path: CopyMethod, bytes: usize) -> (Group, Vec<u8>) {
    let content = noise(1, bytes);
    let cache = small_cache(8, copy_path);
    let mut builder = Group::builder(root).cache(&cache);
    for (number, chunk) in content.chunks(bytes.div_ceil(7)).enumerate() {
        put(&root.join(format!("{number}")), chunk);
        builder = builder.existing_file(format!("{number}"));
    }
    (builder.open().expect("a group"), content)
}

fn pool(threads: usize) -> ThreadPool {
    let builder = ThreadPoolBuilder::new().num_threads(threads);
    let named = builder.thread_name(|number| format!("given-{number}"));
    named.build().expect("a pool")
}

#[track_caller]
fn assert_hashes(outcomes: &[PieceHash], bytes: &[u8], piece_bytes: usize) {
    assert_eq!(outcomes.len(), bytes.len().div_ceil(piece_bytes));
    for (piece, (outcome, chunk)) in outcomes.iter().zip(bytes.chunks(piece_bytes)).enumerate() {
        assert!(
            matches!(outcome, PieceHash::Hashed(hash) if *hash == sha1(chunk)),
            "piece {piece} of {piece_bytes} bytes: {outcome:?}"
        );
    }
}

#[test]
fn all_pieces_are_hashed_in_order() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let (group, bytes) = seven_files(directory.path(), copy_path, 300_007);
        for threads in [1, 2, 3, 16] {
            let pool = pool(threads);
            for piece_bytes in [97, 1000, 4096, 16_384, 150_000, 300_007, 1 << 30] {
                let pieces = Pieces::new(&group, piece_bytes as u64).expect("pieces");
                let outcomes = pieces
                    .hash_all(&HashOptions::new().pool(&pool))
                    .expect("enough memory");
                assert_hashes(&outcomes, &bytes, piece_bytes);
            }
        }
        let pieces = Pieces::new(&group, 5000).expect("pieces");
        assert_hashes(
            &pieces.hash_all(&HashOptions::new()).expect("enough memory"),
            &bytes,
            5000,
        );
    }
}

#[test]
fn pieces_of_one_byte_are_hashed_in_order() {
    let directory = support::temp_dir();
    let (group, bytes) = seven_files(directory.path(), CopyMethod::Auto, 5000);
    let pieces = Pieces::new(&group, 1).expect("pieces");
    assert_hashes(
        &pieces.hash_all(&HashOptions::new()).expect("enough memory"),
        &bytes,
        1,
    );
}

#[test]
fn results_of_2_to_60_pieces_are_refused_and_not_a_panic() {
    let padding = Group::builder("/").padding(1 << 60).open();
    let group = padding.expect("a group");
    let pieces = Pieces::new(&group, 1).expect("pieces");
    let refused = pieces.hash_all(&HashOptions::new());
    assert!(
        matches!(
            &refused,
            Err(GroupError::InvalidArgument {
                argument: "piece_bytes",
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn a_group_without_bytes_has_no_pieces_to_hash() {
    let directory = support::temp_dir();
    let group = Group::builder(directory.path())
        .file("a", 0)
        .open()
        .expect("a group");
    let pieces = Pieces::new(&group, 100).expect("pieces");
    assert!(
        pieces
            .hash_all(&HashOptions::new())
            .expect("enough memory")
            .is_empty()
    );
    let found = pieces
        .verify(&[], &HashOptions::new())
        .expect("nothing to compare");
    assert!(found.complete);
    assert!(matches!(found.files[0].status, FileStatus::Missing));
}

#[test]
fn hashing_runs_on_the_given_pool() {
    let directory = support::temp_dir();
    let (group, bytes) = seven_files(directory.path(), CopyMethod::Auto, 200_000);
    let pieces = Pieces::new(&group, 1000).expect("pieces");
    let names = Mutex::new(BTreeSet::new());
    let progress = |_: HashProgress| {
        let name = thread::current().name().unwrap_or("").to_owned();
        names.lock().expect("names").insert(name);
    };
    let pool = pool(2);
    let run = HashOptions::new().pool(&pool).progress(&progress);
    assert_hashes(&pieces.hash_all(&run).expect("enough memory"), &bytes, 1000);
    let names = names.into_inner().expect("names");
    assert!(!names.is_empty());
    assert!(
        names.iter().all(|name| name.starts_with("given-")),
        "{names:?}"
    );
}

#[test]
fn hashing_defaults_to_the_current_pool() {
    let directory = support::temp_dir();
    let (group, bytes) = seven_files(directory.path(), CopyMethod::Auto, 50_000);
    let pieces = Pieces::new(&group, 1000).expect("pieces");
    let elsewhere = AtomicBool::new(false);
    let progress = |_: HashProgress| {
        let is_given = thread::current()
            .name()
            .is_some_and(|name| name.starts_with("given-"));
        elsewhere.fetch_or(!is_given, Ordering::Relaxed);
    };
    let outcomes = pool(2).install(|| {
        pieces
            .hash_all(&HashOptions::new().progress(&progress))
            .expect("enough memory")
    });
    assert_hashes(&outcomes, &bytes, 1000);
    assert!(!elsewhere.into_inner());
}

#[test]
fn progress_rises_to_the_total() {
    let directory = support::temp_dir();
    let (group, _) = seven_files(directory.path(), CopyMethod::Auto, 200_003);
    let pieces = Pieces::new(&group, 1000).expect("pieces");
    for threads in [1, 4] {
        let reports = Mutex::new(Vec::new());
        let progress = |progress: HashProgress| reports.lock().expect("reports").push(progress);
        let pool = pool(threads);
        drop(
            pieces
                .hash_all(&HashOptions::new().pool(&pool).progress(&progress))
                .expect("enough memory"),
        );
        let mut reports = reports.into_inner().expect("reports");
        assert!(
            reports
                .iter()
                .all(|now| (now.pieces, now.bytes) == (201, 200_003))
        );
        if threads == 1 {
            let rises = |pair: &[HashProgress]| {
                pair[0].bytes_done < pair[1].bytes_done && pair[0].pieces_done < pair[1].pieces_done
            };
            assert!(reports.windows(2).all(rises), "{reports:?}");
        }
        // Threads may overtake each other on their way to the callback. No two report the same
        // count.
        reports.sort_by_key(|now| now.bytes_done);
        assert!(
            reports
                .windows(2)
                .all(|pair| pair[0].bytes_done < pair[1].bytes_done)
        );
        let last = reports.last().expect("some");
        assert_eq!((last.pieces_done, last.bytes_done), (201, 200_003));
    }
}

#[test]
fn a_cancelled_run_returns_partial_results() {
    let directory = support::temp_dir();
    let (group, bytes) = seven_files(directory.path(), CopyMethod::Auto, 1_000_000);
    let pieces = Pieces::new(&group, 1000).expect("pieces");
    let expected: Vec<_> = bytes.chunks(1000).map(sha1).collect();
    let cancel = AtomicBool::new(false);
    let progress = |now: HashProgress| {
        if now.pieces_done >= 300 {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let pool = pool(2);
    let run = HashOptions::new()
        .pool(&pool)
        .progress(&progress)
        .cancel(&cancel);
    let outcomes = pieces.hash_all(&run).expect("enough memory");
    assert_eq!(outcomes.len(), 1000);
    let mut hashed = 0;
    for (outcome, expected) in outcomes.iter().zip(&expected) {
        match outcome {
            PieceHash::Hashed(hash) => {
                hashed += 1;
                assert_eq!(hash, expected);
            }
            PieceHash::Cancelled => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((300..500).contains(&hashed), "{hashed} of 1000 hashed");

    cancel.store(false, Ordering::Relaxed);
    // A single thread takes the pieces in order, hence the whole first file. With two threads one
    // may be late.
    let pool = self::pool(1);
    let run = run.pool(&pool);
    let found = pieces.verify(&expected, &run).expect("a result");
    assert!(!found.complete && !found.is_ok());
    let unchecked = |state: &&PieceState| matches!(state, PieceState::Unchecked);
    assert!(found.pieces.iter().filter(unchecked).count() > 500);
    assert!(
        matches!(found.files[0].status, FileStatus::Ok),
        "{:?}",
        found.files[0]
    );
    assert!(
        matches!(found.files[6].status, FileStatus::Unchecked),
        "{:?}",
        found.files[6]
    );
}

#[test]
fn a_run_cancelled_before_its_start_reads_nothing() {
    let directory = support::temp_dir();
    let (group, bytes) = seven_files(directory.path(), CopyMethod::Auto, 10_000);
    let pieces = Pieces::new(&group, 1000).expect("pieces");
    let cancel = AtomicBool::new(true);
    let outcomes = pieces
        .hash_all(&HashOptions::new().cancel(&cancel))
        .expect("enough memory");
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, PieceHash::Cancelled))
    );
    cancel.store(false, Ordering::Relaxed);
    assert_hashes(
        &pieces
            .hash_all(&HashOptions::new().cancel(&cancel))
            .expect("enough memory"),
        &bytes,
        1000,
    );
}

#[test]
fn unreadable_pieces_fail_alone() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let (group, bytes) = seven_files(directory.path(), copy_path, 70_000);
        std::fs::remove_file(directory.path().join("2")).expect("rm");
        std::fs::write(directory.path().join("4"), &bytes[40_000..45_500]).expect("write");
        let builder = |mut builder: flatspan::span::GroupBuilder| {
            for number in 0..7 {
                builder = builder.file(format!("{number}"), 10_000);
            }
            builder.cache(group.cache()).open().expect("a group")
        };
        let group = builder(Group::builder(directory.path()));
        let pieces = Pieces::new(&group, 1000).expect("pieces");
        for (piece, outcome) in pieces
            .hash_all(&HashOptions::new())
            .expect("enough memory")
            .into_iter()
            .enumerate()
        {
            let error = match outcome {
                PieceHash::Hashed(hash) => {
                    assert!(!(20..30).contains(&piece) && !(45..50).contains(&piece));
                    assert_eq!(hash, sha1(&bytes[piece * 1000..][..1000]), "piece {piece}");
                    continue;
                }
                PieceHash::Failed(error) => error,
                other => panic!("{other:?}"),
            };
            match &*error {
                GroupError::File(MappingError::NotFound { path }) => {
                    assert!((20..30).contains(&piece) && path.ends_with("2"));
                }
                GroupError::File(MappingError::FileTooShort {
                    path,
                    actual_bytes: present_bytes,
                    ..
                }) => {
                    assert!((45..50).contains(&piece) && path.ends_with("4"));
                    assert_eq!(*present_bytes, 5500);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_wrong_number_of_expected_hashes_is_refused() {
    let directory = support::temp_dir();
    let (group, bytes) = seven_files(directory.path(), CopyMethod::Auto, 10_000);
    let pieces = Pieces::new(&group, 1000).expect("pieces");
    let expected: Vec<_> = bytes.chunks(1000).map(sha1).collect();
    let more = [&expected[..], &expected[..1]].concat();
    for wrong in [&expected[..9], &more[..], &[]] {
        let refused = pieces.verify(wrong, &HashOptions::new());
        assert!(matches!(
            refused,
            Err(GroupError::InvalidArgument {
                argument: "expected",
                ..
            })
        ));
    }
    assert!(
        pieces
            .verify(&expected, &HashOptions::new())
            .expect("a result")
            .is_ok()
    );
}
