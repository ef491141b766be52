//! Values to be written as bencode. The keys are sorted because they are in a `BTreeMap`.

use std::collections::BTreeMap;

use crate::bencode::{Item, Value};

/// A value that owns its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Dict(BTreeMap<Vec<u8>, Self>),
}

impl Node {
    /// A string.
    pub(crate) fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    /// A dictionary of the given keys; of equal keys the last one wins.
    pub(crate) fn dict<'k>(entries: impl IntoIterator<Item = (&'k str, Self)>) -> Self {
        Self::Dict(
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
            Self::Int(int) => out.extend_from_slice(format!("i{int}e").as_bytes()),
            Self::Bytes(bytes) => write_string(bytes, out),
            Self::List(nodes) => {
                out.push(b'l');
                for node in nodes {
                    node.write(out);
                }
                out.push(b'e');
            }
            Self::Dict(entries) => {
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
    fn from(item: &Item<'_>) -> Self {
        match &item.value {
            Value::Int(int) => Self::Int(*int),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Value::List(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Dict(entries) => Self::Dict(
                entries
                    .iter()
                    .map(|(key, item)| (key.to_vec(), Self::from(item)))
                    .collect(),
            ),
        }
    }
}
