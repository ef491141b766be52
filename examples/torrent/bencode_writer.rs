//! Values to be written as bencode. Keys come out sorted because a `BTreeMap` keeps them so.

use std::collections::BTreeMap;

use crate::bencode::{Item, Value};

/// A value that owns what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Node>),
    Dict(BTreeMap<Vec<u8>, Node>),
}

impl Node {
    /// A string.
    pub(crate) fn text(text: &str) -> Node {
        Node::Bytes(text.as_bytes().to_vec())
    }

    /// A dictionary of the given keys; later ones win.
    pub(crate) fn dict<'k>(entries: impl IntoIterator<Item = (&'k str, Node)>) -> Node {
        Node::Dict(
            entries
                .into_iter()
                .map(|(key, node)| (key.as_bytes().to_vec(), node))
                .collect(),
        )
    }

    /// The canonical bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Int(int) => out.extend_from_slice(format!("i{int}e").as_bytes()),
            Node::Bytes(bytes) => write_string(bytes, out),
            Node::List(nodes) => {
                out.push(b'l');
                nodes.iter().for_each(|node| node.write(out));
                out.push(b'e');
            }
            Node::Dict(entries) => {
                out.push(b'd');
                for (key, node) in entries {
                    write_string(key, out);
                    node.write(out);
                }
                out.push(b'e');
            }
        }
    }
}

fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
}

impl From<&Item<'_>> for Node {
    fn from(item: &Item<'_>) -> Node {
        match &item.value {
            Value::Int(int) => Node::Int(*int),
            Value::Bytes(bytes) => Node::Bytes(bytes.to_vec()),
            Value::List(items) => Node::List(items.iter().map(Node::from).collect()),
            Value::Dict(entries) => Node::Dict(
                entries
                    .iter()
                    .map(|(key, item)| (key.to_vec(), Node::from(item)))
                    .collect(),
            ),
        }
    }
}
