//! Bytes that parse as bencode or as a torrent are reproduced when they are written again.
//!
//! The fuzz target and `tests/torrent` include this file; both have the example's modules at their
//! root.

use crate::bencode::{self, Item, Value};
use crate::bencode_writer::Node;
use crate::metainfo::Metainfo;

/// Panics if `data` breaks the property.
pub(crate) fn check(data: &[u8]) {
    let Ok(item) = bencode::parse(data) else {
        assert!(Metainfo::parse(data).is_err());
        return;
    };
    assert_eq!((item.at, item.raw), (0, data));
    let node = Node::from(&item);
    let canonical = node.encode();
    // Only the order of keys can differ from the canonical form.
    assert_eq!(canonical.len(), data.len());
    assert_eq!(canonical == data, is_sorted(&item));
    let again = bencode::parse(&canonical).expect("written bytes parse");
    assert_eq!(Node::from(&again), node);
    if let Ok(metainfo) = Metainfo::parse(data) {
        check_metainfo(&metainfo);
    }
}

fn check_metainfo(metainfo: &Metainfo) {
    let sum: u64 = metainfo.files.iter().map(|file| file.bytes).sum();
    assert_eq!(sum, metainfo.total_bytes);
    assert_eq!(
        metainfo.pieces.len() as u64,
        sum.div_ceil(metainfo.piece_bytes)
    );
    for i in 0..metainfo.files.len() {
        let path = metainfo.disk_path(i);
        let mut components = path.components();
        assert!(components.all(|component| matches!(component, std::path::Component::Normal(_))));
        assert_eq!(path.components().count(), 1 + metainfo.files[i].path.len());
    }
    let mut again = Metainfo::parse(&metainfo.encode()).expect("written bytes parse");
    // Ignored fields of a foreign torrent change its hash, so compare everything else.
    again.info_hash = metainfo.info_hash;
    assert_eq!(again, *metainfo);
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
