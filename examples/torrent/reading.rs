//! Reading a torrent: lenient in what is only shown, strict in what leads to a file.
//!
//! [`Reading::of`] succeeds for all bencode that has a dictionary `info`. What was ignored is a
//! warning. What makes the torrent unusable is a refusal, and [`Reading::checked`] returns it. A
//! checked torrent has paths below its name, lengths whose sum does not overflow, and one digest
//! per piece.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use flatspan::span::Sha1Digest;
use sha1::{Digest as _, Sha1};

use crate::bencode::{self, Document, Item, Value};
use crate::fields::{Fields, bytes_of, problem};
use crate::file_list::{parse_files, parse_single, prefer_utf8};
use crate::file_tree::{is_single, parse_file_tree, refuse_contradiction};
use crate::findings::Findings;
use crate::metainfo::{FileEntry, Metainfo, TORRENT_BYTES_MAX};
use crate::metainfo_error::{MetainfoError, Problem};
use crate::paths::check_component;
use crate::tracker::parse_trackers;

const PIECE_BYTES_MAX: u64 = 2 << 30;
const DIGEST_BYTES: usize = 20;

/// A torrent as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    unchecked: Metainfo,
    /// Whether the torrent has a part of version 2 (BEP 52), which is not verified.
    pub(crate) has_version_two: bool,
    /// What was ignored.
    pub(crate) warnings: Vec<String>,
    /// The reason to refuse the name of the torrent.
    pub(crate) name_refusal: Option<MetainfoError>,
    /// The reason to refuse everything else.
    pub(crate) refusal: Option<MetainfoError>,
}

impl Metainfo {
    /// Parses a torrent and refuses it unless all of it is valid.
    pub(crate) fn parse(torrent: &[u8]) -> Result<Self, MetainfoError> {
        Reading::of(torrent)?.checked()
    }
}

impl Reading {
    /// Reads a torrent.
    pub(crate) fn of(torrent: &[u8]) -> Result<Self, MetainfoError> {
        let bytes = torrent.len() as u64;
        if bytes > TORRENT_BYTES_MAX {
            return Err(MetainfoError::TooLarge {
                bytes,
                bytes_max: TORRENT_BYTES_MAX,
            });
        }
        let document = bencode::parse(torrent)?;
        let outer = Fields::of(&document.item, String::new())?;
        let mut findings = Findings::default();
        let Some(info_item) = outer.first("info") else {
            return Err(outer.problem("info", Problem::Missing));
        };
        findings.keep(outer.required("info"));
        let info = Fields::of(info_item, "info".to_owned())?;
        note_deviations(&document, info_item, &mut findings);

        let content = Content::read(&info, &mut findings);
        let piece_bytes = findings.keep(parse_piece_bytes(&info));
        let total_bytes = content
            .files
            .iter()
            .fold(0u64, |sum, file| sum.saturating_add(file.bytes));
        let pieces = findings.keep(parse_pieces(&info, total_bytes, piece_bytes));
        content.compare_versions(&info, piece_bytes, &mut findings);

        let unchecked = Metainfo {
            info_hash: Sha1Digest::new(Sha1::digest(info_item.raw).into()),
            name: content.name,
            piece_bytes: piece_bytes.unwrap_or_default(),
            pieces: pieces.unwrap_or_default(),
            private: parse_private(&info, &mut findings),
            source: informational(&info, "source", &mut findings),
            multi_file: content.multi_file,
            files: content.files,
            total_bytes,
            tracker_tiers: parse_trackers(&outer, &mut findings),
            comment: informational(&outer, "comment", &mut findings),
            created_by: informational(&outer, "created by", &mut findings),
            creation_date: creation_date(&outer, &mut findings),
        };
        Ok(Self {
            unchecked,
            has_version_two: content.has_version_two,
            name_refusal: content.name_refusal,
            refusal: findings.refusal().cloned(),
            warnings: findings.into_warnings(),
        })
    }

    /// The torrent for display. Its paths and numbers may not be valid.
    pub(crate) fn unchecked(&self) -> &Metainfo {
        &self.unchecked
    }

    /// Returns the torrent if it is valid.
    pub(crate) fn checked(self) -> Result<Metainfo, MetainfoError> {
        match self.name_refusal {
            Some(reason) => Err(reason),
            None => self.checked_except_name(),
        }
    }

    /// Returns the torrent if everything except its name is valid.
    pub(crate) fn checked_except_name(self) -> Result<Metainfo, MetainfoError> {
        match self.refusal {
            Some(reason) => Err(reason),
            None => Ok(self.unchecked),
        }
    }
}

/// The files and their directory.
struct Content {
    name: OsString,
    name_refusal: Option<MetainfoError>,
    multi_file: bool,
    files: Vec<FileEntry>,
    has_version_two: bool,
    /// The files of version 2, if version 1 has its own list.
    tree: Option<Vec<FileEntry>>,
}

impl Content {
    fn read(info: &Fields<'_, '_>, findings: &mut Findings) -> Self {
        let has = |key| info.first(key).is_some();
        let has_version_two = has("meta version") || has("file tree");
        let version_two_only = has_version_two && !has("pieces");
        if version_two_only {
            findings.refuse(info.problem("meta version", Problem::VersionTwoOnly));
        }
        let (name, name_refusal) = parse_name(info, findings);
        let mut tree = has("file tree").then(|| parse_file_tree(info, findings));
        let (files, multi_file) = if has("files") {
            (parse_files(info, findings), true)
        } else if let Some(mut files) = tree.take_if(|_| version_two_only) {
            let multi_file = !is_single(&files, &name);
            if let ([file], false) = (&mut *files, multi_file) {
                // The path of a single file is empty, as in version 1.
                file.path.clear();
            }
            (files, multi_file)
        } else {
            (parse_single(info, findings), false)
        };
        if has_version_two && !version_two_only {
            let at = info
                .first("meta version")
                .or_else(|| info.first("file tree"));
            findings.warn(
                "info.meta version",
                at.map_or(0, |item| item.at),
                "the hashes of version 2 (BEP 52) are not verified",
            );
        }
        Self {
            name,
            name_refusal,
            multi_file,
            files,
            has_version_two,
            tree,
        }
    }

    fn compare_versions(
        &self,
        info: &Fields<'_, '_>,
        piece_bytes: Option<u64>,
        findings: &mut Findings,
    ) {
        let (Some(tree), Some(piece_bytes)) = (&self.tree, piece_bytes) else {
            return;
        };
        if self.multi_file {
            refuse_contradiction(info, &self.files, tree, piece_bytes, findings);
        } else {
            // The tree has the name of a single file, the list of version 1 has an empty path.
            let mut files = self.files.clone();
            for file in &mut files {
                file.path = vec![self.name.clone()];
            }
            refuse_contradiction(info, &files, tree, piece_bytes, findings);
        }
    }
}

/// Numbers with leading zeros are refused in `info`: other readers may read other numbers.
fn note_deviations(document: &Document<'_>, info: &Item<'_>, findings: &mut Findings) {
    let info_end = info.at + info.raw.len();
    for at in &document.non_canonical {
        if (info.at..info_end).contains(at) {
            findings.refuse(problem("info".to_owned(), *at, Problem::NotCanonical));
        } else {
            findings.warn(
                "torrent",
                *at,
                "a number with leading zeros, or a negative zero",
            );
        }
    }
    for at in &document.repeated_keys {
        findings.warn("torrent", *at, "a repeated dictionary key");
    }
    if !document.rest.is_empty() {
        let what = format!("{} bytes after the end are ignored", document.rest.len());
        findings.warn("torrent", document.item.raw.len(), &what);
    }
}

/// The name, and the reason to refuse it: it is not used if the user gives the path of the content.
fn parse_name(info: &Fields<'_, '_>, findings: &mut Findings) -> (OsString, Option<MetainfoError>) {
    let is_text = |item: &Item<'_>| match item.value {
        Value::Bytes(bytes) => std::str::from_utf8(bytes).is_ok(),
        _ => false,
    };
    let key = prefer_utf8(info, "name", "name.utf-8", is_text, findings);
    let name = info
        .required(key)
        .and_then(|item| Ok((item.at, bytes_of(item, || info.name_of(key))?)));
    let (at, bytes) = match name {
        Ok(name) => name,
        Err(reason) => return (OsString::new(), Some(reason)),
    };
    if std::str::from_utf8(bytes).is_err() {
        let what = "is not UTF-8; its bytes are the name";
        findings.warn(&info.name_of(key), at, what);
    }
    let refusal = check_component(bytes).map_err(|what| info.problem(key, what));
    (OsStr::from_bytes(bytes).to_owned(), refusal.err())
}

fn parse_piece_bytes(info: &Fields<'_, '_>) -> Result<u64, MetainfoError> {
    let piece_bytes = info.unsigned("piece length")?;
    if piece_bytes == 0 || piece_bytes > PIECE_BYTES_MAX {
        return Err(info.problem("piece length", Problem::PieceLength(piece_bytes)));
    }
    Ok(piece_bytes)
}

/// The digests. Without a valid piece length their number is not checked.
fn parse_pieces(
    info: &Fields<'_, '_>,
    bytes: u64,
    piece_bytes: Option<u64>,
) -> Result<Vec<Sha1Digest>, MetainfoError> {
    let digests = info.bytes("pieces")?;
    let (pieces, rest) = digests.as_chunks::<DIGEST_BYTES>();
    if !rest.is_empty() {
        return Err(info.problem("pieces", Problem::IncompleteDigest(digests.len())));
    }
    let found = pieces.len() as u64;
    let expected = piece_bytes.map_or(found, |piece_bytes| bytes.div_ceil(piece_bytes));
    if found != expected {
        return Err(info.problem(
            "pieces",
            Problem::PieceCount {
                found,
                expected,
                bytes,
            },
        ));
    }
    Ok(pieces.iter().copied().map(Sha1Digest::new).collect())
}

/// Whether peers may come from the trackers only (BEP 27). Values that are no number are in use.
fn parse_private(info: &Fields<'_, '_>, findings: &mut Findings) -> bool {
    let Some(Some(item)) = findings.keep(info.optional("private")) else {
        return false;
    };
    let (private, what) = match item.value {
        Value::Int(flag @ (0 | 1)) => return flag == 1,
        Value::Int(flag) => (true, format!("is {flag} instead of 1")),
        ref other => {
            let private = matches!(other, Value::Bytes(text) if !matches!(*text, b"" | b"0"));
            (
                private,
                format!("is {} instead of an integer", other.kind()),
            )
        }
    };
    let meaning = if private { "yes" } else { "no" };
    let what = format!("{what}; taken as {meaning}");
    findings.warn("info.private", item.at, &what);
    private
}

/// An informational text. Bytes that are not UTF-8 are replaced.
fn informational(
    fields: &Fields<'_, '_>,
    key: &'static str,
    findings: &mut Findings,
) -> Option<String> {
    let item = fields.first(key)?;
    if let Value::Bytes(bytes) = item.value {
        return Some(String::from_utf8_lossy(bytes).into_owned());
    }
    let what = format!("is {} instead of a string; ignored", item.value.kind());
    findings.warn(&fields.name_of(key), item.at, &what);
    None
}

fn creation_date(outer: &Fields<'_, '_>, findings: &mut Findings) -> Option<i64> {
    let item = outer.first("creation date")?;
    if let Value::Int(seconds) = item.value {
        return Some(seconds);
    }
    let what = format!("is {} instead of an integer; ignored", item.value.kind());
    findings.warn("creation date", item.at, &what);
    None
}
