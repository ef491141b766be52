//! Every method that takes a range refuses one outside the group, and then has no effect.

use std::{fs, ops::Bound, path::Path};

use flatspan::{
    mapping_cache::{Access, Advice, FlushMode},
    span::{Group, GroupError, Pieces},
};

use crate::{
    content::{noise, put},
    support,
};

type Range = (Bound<u64>, Bound<u64>);

const ADVICE: [Advice; 8] = [
    Advice::Normal,
    Advice::Random,
    Advice::Sequential,
    Advice::WillNeed,
    Advice::DontNeed,
    Advice::HugePages,
    Advice::Lock,
    Advice::Unlock,
];

/// A group of ten bytes: files of three and seven.
fn ten_bytes(root: &Path) -> Group {
    put(&root.join("a"), b"012");
    put(&root.join("b"), b"3456789");
    let builder = Group::builder(root).access(Access::ReadWrite);
    builder.file("a", 3).file("b", 7).open().expect("a group")
}

fn bad_ranges() -> Vec<Range> {
    use Bound::{Excluded, Included, Unbounded};
    vec![
        (Included(0), Excluded(11)),
        (Included(0), Included(10)),
        (Included(10), Included(10)),
        (Included(11), Unbounded),
        (Excluded(10), Unbounded),
        (Included(7), Excluded(2)),
        (Included(11), Excluded(10)),
        (Excluded(5), Excluded(5)),
        (Unbounded, Included(u64::MAX)),
        (Unbounded, Excluded(u64::MAX)),
        (Included(3), Included(u64::MAX)),
        (Included(u64::MAX), Included(u64::MAX)),
        (Included(u64::MAX), Excluded(u64::MAX)),
        (Excluded(u64::MAX), Unbounded),
        (Excluded(u64::MAX), Included(u64::MAX)),
        (Excluded(u64::MAX), Excluded(0)),
    ]
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "callers pass temporaries")]
fn assert_refused<T: std::fmt::Debug>(what: impl std::fmt::Debug, result: Result<T, GroupError>) {
    assert!(
        matches!(
            result,
            Err(GroupError::OutOfBounds {
                group_bytes: 10,
                ..
            })
        ),
        "{what:?}: {result:?}"
    );
}

#[test]
fn invalid_ranges_are_refused_by_every_method() {
    let directory = support::temp_dir();
    let group = ten_bytes(directory.path());
    for range in bad_ranges() {
        assert_refused(range, group.flush(range, FlushMode::Sync));
        assert_refused(range, group.flush(range, FlushMode::Async));
        assert_refused(range, group.evict(range));
        assert_refused(range, group.prefetch(range));
        assert_refused(range, group.is_resident(range));
        for advice in ADVICE {
            assert_refused((range, advice), group.advise(range, advice));
        }
    }
}

#[test]
fn valid_ranges_are_accepted_in_every_form() {
    use Bound::{Excluded, Included, Unbounded};
    let directory = support::temp_dir();
    let group = ten_bytes(directory.path());
    let ranges: [Range; 7] = [
        (Unbounded, Unbounded),
        (Unbounded, Included(9)),
        (Unbounded, Excluded(10)),
        (Included(10), Unbounded),
        (Included(10), Excluded(10)),
        (Excluded(9), Unbounded),
        (Excluded(1), Included(4)),
    ];
    for range in ranges {
        group.flush(range, FlushMode::Sync).expect("flush");
        group.flush(range, FlushMode::Async).expect("flush");
        group.prefetch(range).expect("prefetch");
        group.is_resident(range).expect("is_resident");
        for advice in [Advice::Normal, Advice::WillNeed, Advice::DontNeed] {
            group.advise(range, advice).expect("advise");
        }
        group.evict(range).expect("evict");
    }
}

#[test]
fn reads_past_the_end_fill_nothing() {
    let directory = support::temp_dir();
    let group = ten_bytes(directory.path());
    for (offset, len) in [
        (0, 11),
        (10, 1),
        (11, 0),
        (3, 8),
        (u64::MAX, 0),
        (u64::MAX, 1),
        (u64::MAX - 3, 8),
    ] {
        let mut buf = vec![0xEE; len];
        assert_refused((offset, len), group.read_exact_at(offset, &mut buf));
        assert!(buf.iter().all(|byte| *byte == 0xEE), "{offset} + {len}");
    }
    let mut buf = [0xEE; 4];
    for offset in [10, 11, u64::MAX - 1, u64::MAX] {
        assert_eq!(
            group.read_at(offset, &mut buf).expect("the process ends"),
            0
        );
    }
    assert_eq!(group.read_at(8, &mut buf).expect("two bytes"), 2);
    assert_eq!(&buf, b"89\xEE\xEE");
    group
        .read_exact_at(10, &mut [])
        .expect("nothing at the end");
}

#[test]
fn writes_past_the_end_change_nothing() {
    let directory = support::temp_dir();
    let group = ten_bytes(directory.path());
    for (offset, len) in [
        (0, 11),
        (2, 9),
        (10, 1),
        (11, 0),
        (u64::MAX, 0),
        (u64::MAX, 1),
        (u64::MAX - 3, 8),
    ] {
        let bytes = vec![0xEE; len];
        assert_refused((offset, len), group.write_all_at(offset, &bytes));
    }
    for offset in [10, 11, u64::MAX - 1, u64::MAX] {
        let refused = group.write_at(offset, b"x");
        assert!(
            matches!(refused, Err(GroupError::UnexpectedEof { group_bytes: 10 })),
            "{offset}: {refused:?}"
        );
        assert_eq!(group.write_at(offset, b"").expect("an empty read"), 0);
    }
    assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"012");
    assert_eq!(fs::read(directory.path().join("b")).unwrap(), b"3456789");
    assert_eq!(group.write_at(8, b"wxyz").expect("two bytes"), 2);
    assert_eq!(fs::read(directory.path().join("b")).unwrap(), b"34567wx");
}

#[test]
fn the_last_bytes_of_the_largest_group_are_accessible() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), &noise(1, 10));
    let builder = Group::builder(directory.path()).access(Access::ReadWrite);
    let group = builder
        .padding(u64::MAX - 10)
        .file("a", 10)
        .open()
        .expect("a group");
    assert_eq!(group.len(), u64::MAX);
    let mut buf = [0xEE; 14];
    group
        .read_exact_at(u64::MAX - 14, &mut buf)
        .expect("the last bytes");
    assert_eq!(buf[..4], [0; 4]);
    assert_eq!(buf[4..], noise(1, 10));
    assert_eq!(group.read_at(u64::MAX - 1, &mut buf).expect("one byte"), 1);
    group
        .write_all_at(u64::MAX - 1, b"!")
        .expect("the last byte");
    assert_eq!(fs::read(directory.path().join("a")).unwrap()[9], b'!');
    group.flush(.., FlushMode::Sync).expect("flush");
    assert!(matches!(
        group.flush(..=u64::MAX, FlushMode::Sync),
        Err(GroupError::OutOfBounds { .. })
    ));
    assert!(group.is_resident(..).expect("is_resident"));
    assert_eq!(
        Pieces::new(&group, 1 << 62).expect("four pieces").count(),
        4
    );
    assert!(matches!(
        Pieces::new(&group, 1),
        Err(GroupError::InvalidArgument {
            argument: "piece_bytes",
            ..
        })
    ));
}
