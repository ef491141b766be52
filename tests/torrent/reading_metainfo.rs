//! Reading and writing torrents.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::bencode_writer::Node;
use crate::metainfo::{FileEntry, FileKind, Metainfo, TORRENT_BYTES_MAX};
use crate::metainfo_error::MetainfoError;
use crate::reading::Reading;

/// A single-file torrent with `more` in its outermost dictionary.
fn torrent(more: Vec<(&str, Node)>) -> Vec<u8> {
    let info = Node::dict([
        ("length", Node::Int(5)),
        ("name", Node::text("a")),
        ("piece length", Node::Int(4)),
        ("pieces", Node::Bytes(vec![7; 40])),
    ]);
    Node::dict([("info", info)].into_iter().chain(more)).encode()
}

#[test]
fn a_single_file_torrent_is_parsed() {
    let metainfo = Metainfo::parse(&torrent(vec![])).expect("a torrent");
    assert!(!metainfo.multi_file && !metainfo.private);
    assert_eq!((metainfo.total_bytes, metainfo.piece_bytes), (5, 4));
    assert_eq!(metainfo.pieces, [[7; 20].into(); 2]);
    assert_eq!(metainfo.shown_path(0), "a");
}

#[test]
fn the_info_hash_uses_the_original_bytes() {
    let unsorted =
        b"d4:infod6:pieces20:aaaaaaaaaaaaaaaaaaaa4:name1:n12:piece lengthi4e6:lengthi4eee";
    let metainfo = Metainfo::parse(unsorted).expect("unsorted keys are tolerated");
    // python3 -c 'import hashlib; print(hashlib.sha1(unsorted[7:-1]).hexdigest())'
    assert_eq!(
        metainfo.info_hash_hex(),
        "697b6321b2e5af4396561547505a637ff67f1621"
    );
}

#[test]
fn the_tracker_list_takes_precedence() {
    let tiers = |more| {
        Metainfo::parse(&torrent(more))
            .expect("a torrent")
            .tracker_tiers
    };
    let list = |urls: &[&str]| Node::List(urls.iter().map(|url| Node::text(url)).collect());
    let announce = || ("announce", Node::text("u"));
    assert_eq!(tiers(vec![]), Vec::<Vec<String>>::new());
    assert_eq!(tiers(vec![announce()]), [["u"]]);
    let announce_list = Node::List(vec![list(&["x", "y"]), list(&[]), list(&["z"])]);
    assert_eq!(
        tiers(vec![announce(), ("announce-list", announce_list)]),
        [vec!["x", "y"], vec!["z"]]
    );
    assert_eq!(
        tiers(vec![
            announce(),
            ("announce-list", Node::List(vec![list(&[])]))
        ]),
        [["u"]]
    );
}

#[test]
fn informational_fields_of_a_wrong_type_are_ignored() {
    let more = vec![
        ("comment", Node::Int(1)),
        ("creation date", Node::text("today")),
        ("created by", Node::Bytes(vec![b'x', 0xff])),
        ("announce-list", Node::Int(1)),
    ];
    let metainfo = Metainfo::parse(&torrent(more)).expect("a torrent");
    assert_eq!((metainfo.comment, metainfo.creation_date), (None, None));
    assert_eq!(metainfo.created_by.as_deref(), Some("x\u{fffd}"));
}

#[test]
fn a_part_of_version_2_is_noticed() {
    let read = |info: &[u8]| {
        let torrent = [b"d4:info", info, b"e"].concat();
        Reading::of(&torrent).expect("a torrent").has_version_two
    };
    assert!(!read(b"de"));
    assert!(read(b"d12:meta versioni2ee"));
    assert!(read(b"d9:file treedee"));
}

#[test]
fn padding_may_repeat_a_name() {
    let file = |name: &str, attr: Option<&str>| {
        let fields = [
            ("length", Node::Int(2)),
            ("path", Node::List(vec![Node::text(name)])),
        ];
        Node::dict(
            fields
                .into_iter()
                .chain(attr.map(|attr| ("attr", Node::text(attr)))),
        )
    };
    let files = vec![
        file("a", None),
        file("2", Some("hp")),
        file("b", Some("x")),
        file("2", Some("p")),
    ];
    let info = Node::dict([
        ("files", Node::List(files)),
        ("name", Node::text("n")),
        ("piece length", Node::Int(4)),
        ("pieces", Node::Bytes(vec![7; 40])),
    ]);
    let metainfo = Metainfo::parse(&Node::dict([("info", info)]).encode()).expect("a torrent");
    assert_eq!(
        (
            metainfo.count(FileKind::Padding),
            metainfo.count(FileKind::Regular)
        ),
        (2, 2)
    );
}

#[test]
fn a_torrent_above_the_limit_is_refused_without_parsing() {
    let bytes = vec![b'l'; usize::try_from(TORRENT_BYTES_MAX).expect("64 MiB") + 1];
    assert!(matches!(
        Metainfo::parse(&bytes),
        Err(MetainfoError::TooLarge { .. })
    ));
}

prop_compose! {
    fn metainfo()(
        multi_file in any::<bool>(),
        // A prefix for each list prevents a file from being the directory of another one.
        lengths in btree_map("[a-z ü]{1,5}", (0u64..100, 0u8..4), 1..8),
        piece_bytes in 1u64..70,
        private in any::<bool>(),
        texts in (any::<Option<String>>(), any::<Option<String>>(), any::<Option<String>>()),
        creation_date in any::<Option<i64>>(),
        tracker_tiers in vec(vec("[a-z]{1,8}", 1..3), 0..3),
        digest in any::<[u8; 20]>(),
    ) -> Metainfo {
        let entry = |(name, (bytes, kind)): (&String, &(u64, u8))| match kind {
            0 => FileEntry { path: vec![".pad".into(), bytes.to_string().into()], bytes: *bytes, kind: FileKind::Padding },
            1 => FileEntry { path: vec![name.into()], bytes: 0, kind: FileKind::Symlink },
            _ => FileEntry { path: vec![name.into(), "x".into()], bytes: *bytes, kind: FileKind::Regular },
        };
        let single = FileEntry { path: vec![], bytes: 77, kind: FileKind::Regular };
        let files: Vec<_> = if multi_file { lengths.iter().map(entry).collect() } else { vec![single] };
        let total_bytes: u64 = files.iter().map(|file| file.bytes).sum();
        Metainfo {
            info_hash: [0; 20].into(),
            name: "näme".into(),
            piece_bytes,
            pieces: vec![digest.into(); usize::try_from(total_bytes.div_ceil(piece_bytes)).expect("the number is small")],
            private,
            source: texts.0,
            multi_file,
            files,
            total_bytes,
            tracker_tiers,
            comment: texts.1,
            created_by: texts.2,
            creation_date,
        }
    }
}

proptest! {
    #[test]
    fn written_values_parse_to_the_same_values(metainfo in metainfo()) {
        let bytes = metainfo.encode();
        let mut read = Metainfo::parse(&bytes).expect("own torrent");
        let value: bt_bencode::Value = bt_bencode::from_slice(&bytes).expect("bencode");
        prop_assert_eq!(crate::foreign::info_hash(&value), *read.info_hash.as_bytes());
        read.info_hash = [0; 20].into();
        prop_assert_eq!(read, metainfo);
        crate::property::check(&bytes);
    }

    /// Damaged input is refused or read, but never causes a panic or a path that leads outside.
    #[test]
    fn damaged_torrents_never_panic_or_escape(metainfo in metainfo(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = metainfo.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        crate::property::check(&bytes);
        bytes.truncate(at);
        crate::property::check(&bytes);
    }
}
