//! Comparison with other programs: torrents of mktorrent, and an info-hash computed without the
//! reader of the example.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use flatspan::span::Sha1Digest;
use sha1::{Digest as _, Sha1};

use crate::metainfo::Metainfo;
use crate::program::{create, noise, put, verify};
use crate::support;
use crate::support::need::{Need, need};

/// The info-hash according to `bt_bencode`.
pub(crate) fn info_hash(torrent: &bt_bencode::Value) -> [u8; 20] {
    let info = &torrent["info"];
    Sha1::digest(bt_bencode::to_vec(info).expect("bencode")).into()
}

fn content(root: &Path) {
    for (i, name) in ["one", "two/ü", "two/a b", "two-b", "three/deep/er", "zero"]
        .iter()
        .enumerate()
    {
        let bytes = if *name == "zero" {
            0
        } else {
            50_000 * (i + 1) + 7
        };
        put(&root.join("content").join(name), &noise(i as u64, bytes));
    }
}

fn mktorrent(root: &Path, out: &Path, more: &[&str]) {
    let made = Command::new("mktorrent")
        .args(["-a", "http://tracker.invalid/announce", "-l", "15", "-o"])
        .arg(out)
        .args(more)
        .arg(root.join("content"))
        .output();
    let made = made.expect("mktorrent starts");
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn mktorrent_torrents_verify() {
    if !need(Need::Tools, "mktorrent") {
        return;
    }
    let directory = support::temp_dir();
    content(directory.path());
    let out = directory.path().join("theirs.torrent");
    mktorrent(directory.path(), &out, &[]);
    assert_eq!(verify(0, &out, directory.path(), &[])["ok"], true);
    put(&directory.path().join("content/two-b"), b"other");
    assert_eq!(verify(1, &out, directory.path(), &[])["ok"], false);
}

#[test]
fn same_order_gives_the_info_hash_of_mktorrent() {
    if !need(Need::Tools, "mktorrent") {
        return;
    }
    let directory = support::temp_dir();
    content(directory.path());
    let theirs = directory.path().join("theirs.torrent");
    let ours = directory.path().join("ours.torrent");
    mktorrent(directory.path(), &theirs, &["-p", "-s", "SOURCE"]);
    let order = [
        "--order-from",
        theirs.to_str().expect("UTF-8"),
        "--piece-length",
        "32K",
    ];
    let more = [&order[..], &["--private", "--source", "SOURCE"]].concat();
    create(&directory.path().join("content"), &ours, &more);

    let [theirs, ours] = [theirs, ours].map(|path| fs::read(path).expect("a torrent"));
    let [parsed_theirs, parsed_ours] =
        [&theirs, &ours].map(|bytes| Metainfo::parse(bytes).expect("a torrent"));
    assert_eq!(parsed_ours.files, parsed_theirs.files);
    assert_eq!(parsed_ours.pieces, parsed_theirs.pieces);
    assert_eq!(parsed_ours.info_hash, parsed_theirs.info_hash);
    for (bytes, metainfo) in [(&theirs, &parsed_theirs), (&ours, &parsed_ours)] {
        let value: bt_bencode::Value = bt_bencode::from_slice(bytes).expect("bencode");
        assert_eq!(info_hash(&value), *metainfo.info_hash.as_bytes());
    }
}

#[test]
fn pieces_are_digests_of_the_concatenated_files() {
    let directory = support::temp_dir();
    content(directory.path());
    let out = directory.path().join("x.torrent");
    create(
        &directory.path().join("content"),
        &out,
        &["--piece-length", "16K"],
    );
    let metainfo = Metainfo::parse(&fs::read(&out).expect("a torrent")).expect("a torrent");
    let mut files = BTreeMap::new();
    for i in 0..metainfo.files.len() {
        let path = Path::new(&metainfo.shown_path(i)).to_owned();
        let content = fs::read(directory.path().join(&path)).expect("a file");
        files.insert(
            path.components()
                .map(|c| c.as_os_str().to_owned())
                .collect::<Vec<_>>(),
            content,
        );
    }
    // The map has the order that the torrent should have.
    let bytes = files.values().flatten().copied().collect::<Vec<_>>();
    let digests: Vec<Sha1Digest> = bytes
        .chunks(16 << 10)
        .map(|piece| Sha1Digest::new(Sha1::digest(piece).into()))
        .collect();
    assert_eq!(metainfo.pieces, digests);
}
