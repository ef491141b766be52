//! The content of a torrent: BEP 3 single and multi file, BEP 12 tracker tiers, BEP 27 private, BEP
//! 47 attributes.

use std::ffi::OsString;

use flatspan::span::Sha1Digest;

use crate::paths::joined;

/// The largest torrent that is read, in bytes.
pub(crate) const TORRENT_BYTES_MAX: u64 = 64 << 20;

/// A torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metainfo {
    /// SHA-1 of the bytes of `info` in the torrent.
    pub(crate) info_hash: Sha1Digest,
    pub(crate) name: OsString,
    pub(crate) piece_bytes: u64,
    pub(crate) pieces: Vec<Sha1Digest>,
    pub(crate) private: bool,
    pub(crate) source: Option<String>,
    /// Whether `files` are in a directory called `name`. Otherwise there is one file, with an empty
    /// path.
    pub(crate) multi_file: bool,
    pub(crate) files: Vec<FileEntry>,
    pub(crate) total_bytes: u64,
    pub(crate) tracker_tiers: Vec<Vec<String>>,
    pub(crate) comment: Option<String>,
    pub(crate) created_by: Option<String>,
    /// Seconds since 1970.
    pub(crate) creation_date: Option<i64>,
}

/// One entry of the torrent's list of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileEntry {
    /// The path below the torrent's name. Padding may have none.
    pub(crate) path: Vec<OsString>,
    pub(crate) bytes: u64,
    pub(crate) kind: FileKind,
}

/// The representation of an entry on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Regular,
    /// Zeros that are never stored on disk (BEP 47 `p`).
    Padding,
    /// A link without content, which is ignored (BEP 47 `l`).
    Symlink,
}

impl Metainfo {
    /// The path of file `index` for display. It may not be valid.
    pub(crate) fn shown_path(&self, index: usize) -> String {
        joined([&self.name].into_iter().chain(&self.files[index].path))
    }

    /// The name for display, with a replacement for bytes that are not UTF-8.
    pub(crate) fn shown_name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    /// The info-hash in hexadecimal.
    pub(crate) fn info_hash_hex(&self) -> String {
        self.info_hash.to_string()
    }

    /// The number of entries of a kind.
    pub(crate) fn count(&self, kind: FileKind) -> usize {
        self.files.iter().filter(|file| file.kind == kind).count()
    }
}
