//! Bytes that parse as bencode or as a torrent are reproduced when they are written again.
//!
//! The fuzz target and `tests/torrent` include this file; both have the example's modules at their
//! root.

use std::path::{Component, Path, PathBuf};

use crate::bencode::{self, Item, Value};
use crate::bencode_writer::Node;
use crate::metainfo::Metainfo;
use crate::reading::Reading;

/// Panics if `data` breaks the property.
pub(crate) fn check(data: &[u8]) {
    let Ok(document) = bencode::parse(data) else {
        assert!(Reading::of(data).is_err());
        return;
    };
    let item = &document.item;
    assert_eq!(item.at, 0);
    assert_eq!([item.raw, document.rest].concat(), data);
    let node = Node::from(item);
    let canonical = node.encode();
    if document.non_canonical.is_empty() && document.repeated_keys.is_empty() {
        // Only the order of keys can differ from the canonical form.
        assert_eq!(canonical.len(), item.raw.len());
        assert_eq!(canonical == item.raw, is_sorted(item));
    }
    let again = bencode::parse(&canonical).expect("written bytes parse");
    assert_eq!(Node::from(&again.item), node);
    let is_positioned = |at: &usize| *at < item.raw.len();
    assert!(document.non_canonical.iter().all(is_positioned));
    assert!(document.repeated_keys.iter().all(is_positioned));
    check_reading(data);
}

/// What is read leniently is checked before it is used.
fn check_reading(data: &[u8]) {
    let Ok(reading) = Reading::of(data) else {
        return;
    };
    let unchecked = reading.unchecked();
    for i in 0..unchecked.files.len() {
        assert!(unchecked.shown_path(i).starts_with(&unchecked.shown_name()));
    }
    assert!(reading.warnings.len() <= 101);
    if let Ok(metainfo) = reading.clone().checked_except_name() {
        check_metainfo(&metainfo);
    }
    if let Ok(metainfo) = reading.checked() {
        check_path(Path::new(&metainfo.name), 1);
        let mut again = Metainfo::parse(&metainfo.encode()).expect("written bytes parse");
        // Ignored fields of a foreign torrent change its hash, so compare everything else.
        again.info_hash = metainfo.info_hash;
        assert_eq!(again, metainfo);
    }
}

fn check_metainfo(metainfo: &Metainfo) {
    let sum: u64 = metainfo.files.iter().map(|file| file.bytes).sum();
    assert_eq!(sum, metainfo.total_bytes);
    assert_eq!(
        metainfo.pieces.len() as u64,
        sum.div_ceil(metainfo.piece_bytes)
    );
    for file in &metainfo.files {
        check_path(&file.path.iter().collect::<PathBuf>(), file.path.len());
    }
}

/// No component leads anywhere but into its directory.
fn check_path(path: &Path, components: usize) {
    let is_normal = |component| matches!(component, Component::Normal(_));
    assert!(path.components().all(is_normal));
    assert_eq!(path.components().count(), components);
}

fn is_sorted(item: &Item<'_>) -> bool {
    match &item.value {
        Value::Int(_) | Value::Bytes(_) => true,
        Value::List(items) => items.iter().all(is_sorted),
        Value::Dict(entries) => {
            entries.is_sorted_by(|a, b| a.0 < b.0)
                && entries.iter().all(|(_, item)| is_sorted(item))
        }
    }
}
