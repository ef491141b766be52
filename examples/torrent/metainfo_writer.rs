//! Writing a torrent as bencode.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use crate::bencode_writer::Node;
use crate::metainfo::{FileEntry, FileKind, Metainfo};

impl Metainfo {
    /// Returns the bytes of the torrent. `info_hash` and `total_bytes` follow from the other fields
    /// and are ignored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut outer = vec![("info", self.info())];
        let urls: Vec<_> = self.tracker_tiers.iter().flatten().collect();
        if let Some(first) = urls.first() {
            outer.push(("announce", Node::text(first)));
        }
        if urls.len() > 1 {
            let tier =
                |urls: &Vec<String>| Node::List(urls.iter().map(|url| Node::text(url)).collect());
            outer.push((
                "announce-list",
                Node::List(self.tracker_tiers.iter().map(tier).collect()),
            ));
        }
        outer.extend(
            self.comment
                .as_deref()
                .map(|text| ("comment", Node::text(text))),
        );
        outer.extend(
            self.created_by
                .as_deref()
                .map(|text| ("created by", Node::text(text))),
        );
        outer.extend(
            self.creation_date
                .map(|seconds| ("creation date", Node::Int(seconds))),
        );
        Node::dict(outer).encode()
    }

    fn info(&self) -> Node {
        let mut info = vec![
            ("name", Node::Bytes(self.name.as_bytes().to_vec())),
            ("piece length", int(self.piece_bytes)),
            (
                "pieces",
                Node::Bytes(
                    self.pieces
                        .iter()
                        .flat_map(|hash| *hash.as_bytes())
                        .collect(),
                ),
            ),
        ];
        if self.multi_file {
            info.push(("files", Node::List(self.files.iter().map(file).collect())));
        } else {
            info.push((
                "length",
                int(self.files.iter().map(|file| file.bytes).sum()),
            ));
        }
        if self.private {
            info.push(("private", Node::Int(1)));
        }
        info.extend(
            self.source
                .as_deref()
                .map(|text| ("source", Node::text(text))),
        );
        Node::dict(info)
    }
}

fn file(entry: &FileEntry) -> Node {
    let mut fields = vec![("length", int(entry.bytes))];
    // Padding may have no path.
    if !entry.path.is_empty() {
        let component = |name: &OsString| Node::Bytes(name.as_bytes().to_vec());
        fields.push((
            "path",
            Node::List(entry.path.iter().map(component).collect()),
        ));
    }
    match entry.kind {
        FileKind::Regular => {}
        FileKind::Padding => fields.push(("attr", Node::text("p"))),
        FileKind::Symlink => fields.push(("attr", Node::text("l"))),
    }
    Node::dict(fields)
}

/// No file has 2^63 bytes, so the value does not change. The reader would refuse any other value.
fn int(bytes: u64) -> Node {
    Node::Int(i64::try_from(bytes).unwrap_or(i64::MAX))
}
