//! The content of a torrent: BEP 3 single and multi file, BEP 12 tracker tiers, BEP 27 private, BEP
//! 47 attributes.
//!
//! `Metainfo::parse` performs all checks. A parsed torrent has paths below the torrent's name,
//! lengths whose sum does not overflow, and one digest per piece. `info` is parsed strictly. Errors
//! in informational texts are tolerated.

use std::path::PathBuf;

use sha1::{Digest as _, Sha1};

use crate::bencode::{self, Item, Value};
use crate::fields::{Fields, lossy, problem};
use crate::metainfo_error::{MetainfoError, Problem};
use crate::paths::{check_component, find_clash, parse_path};

/// The largest torrent that is read, in bytes.
pub(crate) const TORRENT_BYTES_MAX: u64 = 64 << 20;
const PIECE_BYTES_MAX: u64 = 2 << 30;
const FILES_MAX: usize = 1 << 20;
const DIGEST_BYTES: usize = 20;

/// A torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metainfo {
    /// SHA-1 of the bytes of `info` in the torrent.
    pub(crate) info_hash: [u8; DIGEST_BYTES],
    pub(crate) name: String,
    pub(crate) piece_bytes: u64,
    pub(crate) pieces: Vec<[u8; DIGEST_BYTES]>,
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
    /// The path below the torrent's name.
    pub(crate) path: Vec<String>,
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
    /// Parses and checks a torrent.
    pub(crate) fn parse(torrent: &[u8]) -> Result<Self, MetainfoError> {
        let bytes = torrent.len() as u64;
        if bytes > TORRENT_BYTES_MAX {
            return Err(MetainfoError::TooLarge {
                bytes,
                bytes_max: TORRENT_BYTES_MAX,
            });
        }
        let outermost = bencode::parse(torrent)?;
        let outer = Fields::of(&outermost, String::new())?;
        let info = outer.dict("info")?;
        refuse_version_two(&info)?;

        let name = info.text("name")?;
        check_component(name).map_err(|what| info.refuse("name", what))?;
        let multi_file = info.optional("files").is_some();
        let files = if multi_file {
            parse_files(&info)?
        } else {
            parse_single(&info)?
        };
        let total_bytes = files.iter().map(|file| file.bytes).sum();
        let piece_bytes = parse_piece_bytes(&info)?;
        let private = info
            .optional("private")
            .map(|_| info.unsigned("private"))
            .transpose()?;

        Ok(Self {
            info_hash: Sha1::digest(outer.required("info")?.raw).into(),
            name: name.to_owned(),
            piece_bytes,
            pieces: parse_pieces(&info, total_bytes, piece_bytes)?,
            private: private.is_some_and(|flag| flag != 0),
            source: info.informational("source"),
            multi_file,
            files,
            total_bytes,
            tracker_tiers: parse_trackers(&outer),
            comment: outer.informational("comment"),
            created_by: outer.informational("created by"),
            creation_date: outer.optional("creation date").and_then(integer),
        })
    }

    /// The path of entry `index`, relative to the directory with the torrent's content.
    pub(crate) fn disk_path(&self, index: usize) -> PathBuf {
        let mut path = PathBuf::from(&self.name);
        path.extend(&self.files[index].path);
        path
    }

    /// The info-hash in hexadecimal.
    pub(crate) fn info_hash_hex(&self) -> String {
        self.info_hash
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The number of entries of a kind.
    pub(crate) fn count(&self, kind: FileKind) -> usize {
        self.files.iter().filter(|file| file.kind == kind).count()
    }
}

fn refuse_version_two(info: &Fields<'_, '_>) -> Result<(), MetainfoError> {
    let only = info.optional("meta version").is_some() && info.optional("pieces").is_none();
    if only {
        Err(info.refuse("meta version", Problem::VersionTwoOnly))
    } else {
        Ok(())
    }
}

fn parse_single(info: &Fields<'_, '_>) -> Result<Vec<FileEntry>, MetainfoError> {
    Ok(vec![FileEntry {
        path: Vec::new(),
        bytes: info.unsigned("length")?,
        kind: FileKind::Regular,
    }])
}

fn parse_files(info: &Fields<'_, '_>) -> Result<Vec<FileEntry>, MetainfoError> {
    if info.optional("length").is_some() {
        return Err(info.refuse("length", Problem::Excludes("info.files")));
    }
    let items = info.list("files")?;
    if items.is_empty() {
        return Err(info.refuse("files", Problem::NoFiles));
    }
    if items.len() > FILES_MAX {
        let problem = Problem::TooManyFiles {
            count: items.len(),
            count_max: FILES_MAX,
        };
        return Err(info.refuse("files", problem));
    }
    let mut files = Vec::with_capacity(items.len());
    let mut total_bytes = 0i64;
    for (i, item) in items.iter().enumerate() {
        let fields = Fields::of(item, format!("info.files[{i}]"))?;
        let file = parse_file(&fields)?;
        // Bencode integers are signed. If the sum fits into one, every total can be written again.
        total_bytes = total_bytes
            .checked_add_unsigned(file.bytes)
            .ok_or_else(|| fields.refuse("length", Problem::SumOverflows))?;
        files.push(file);
    }
    refuse_clashes(&files, items)?;
    Ok(files)
}

fn parse_file(fields: &Fields<'_, '_>) -> Result<FileEntry, MetainfoError> {
    let path = parse_path(fields.required("path")?, &fields.name_of("path"))?;
    let bytes = fields.unsigned("length")?;
    let attributes = fields
        .optional("attr")
        .map(|_| fields.bytes("attr"))
        .transpose()?
        .unwrap_or_default();
    let kind = if attributes.contains(&b'p') {
        FileKind::Padding
    } else if attributes.contains(&b'l') {
        FileKind::Symlink
    } else {
        FileKind::Regular
    };
    if kind == FileKind::Symlink && bytes > 0 {
        return Err(fields.refuse("length", Problem::SymlinkWithLength));
    }
    Ok(FileEntry { path, bytes, kind })
}

/// Padding is not on disk and often repeats one name many times.
fn refuse_clashes(files: &[FileEntry], items: &[Item<'_>]) -> Result<(), MetainfoError> {
    let on_disk = files
        .iter()
        .enumerate()
        .filter(|(_, file)| file.kind != FileKind::Padding);
    let Some((first, second, equal)) =
        find_clash(on_disk.map(|(i, file)| (i, &file.path[..])).collect())
    else {
        return Ok(());
    };
    let (index, what) = if equal {
        (second, Problem::DuplicatePath(first))
    } else {
        (first, Problem::FileAndDirectory(second))
    };
    Err(problem(
        format!("info.files[{index}].path"),
        items[index].at,
        what,
    ))
}

fn parse_piece_bytes(info: &Fields<'_, '_>) -> Result<u64, MetainfoError> {
    let piece_bytes = info.unsigned("piece length")?;
    if piece_bytes == 0 || piece_bytes > PIECE_BYTES_MAX {
        return Err(info.refuse("piece length", Problem::PieceLength(piece_bytes)));
    }
    Ok(piece_bytes)
}

fn parse_pieces(
    info: &Fields<'_, '_>,
    bytes: u64,
    piece_bytes: u64,
) -> Result<Vec<[u8; DIGEST_BYTES]>, MetainfoError> {
    let digests = info.bytes("pieces")?;
    let (pieces, rest) = digests.as_chunks::<DIGEST_BYTES>();
    if !rest.is_empty() {
        return Err(info.refuse("pieces", Problem::IncompleteDigest(digests.len())));
    }
    let (found, expected) = (pieces.len() as u64, bytes.div_ceil(piece_bytes));
    if found != expected {
        return Err(info.refuse(
            "pieces",
            Problem::PieceCount {
                found,
                expected,
                bytes,
            },
        ));
    }
    Ok(pieces.to_vec())
}

/// The trackers of `announce-list` if it has any (BEP 12), and of `announce` otherwise.
fn parse_trackers(outer: &Fields<'_, '_>) -> Vec<Vec<String>> {
    let tier = |item: &Item<'_>| match &item.value {
        Value::List(urls) => urls.iter().filter_map(lossy).collect(),
        _ => Vec::new(),
    };
    let tiers = match outer.optional("announce-list").map(|item| &item.value) {
        Some(Value::List(tiers)) => tiers
            .iter()
            .map(tier)
            .filter(|urls: &Vec<_>| !urls.is_empty())
            .collect(),
        _ => Vec::new(),
    };
    match outer.informational("announce") {
        Some(url) if tiers.is_empty() => vec![vec![url]],
        _ => tiers,
    }
}

fn integer(item: &Item<'_>) -> Option<i64> {
    match item.value {
        Value::Int(int) => Some(int),
        _ => None,
    }
}
