//! The files of a torrent of version 1: `length` or `files` of `info` (BEP 3), with the attributes
//! of BEP 47.

use std::ffi::OsString;

use crate::bencode::{Item, Value};
use crate::fields::{Fields, problem};
use crate::findings::Findings;
use crate::metainfo::{FileEntry, FileKind};
use crate::metainfo_error::Problem;
use crate::paths::{find_clash, is_bitcomet_padding, parse_path};

/// The maximum number of files.
pub(crate) const FILES_MAX: usize = 1 << 20;

/// The file of `info.length`.
pub(crate) fn parse_single(info: &Fields<'_, '_>, findings: &mut Findings) -> Vec<FileEntry> {
    vec![FileEntry {
        path: Vec::new(),
        bytes: findings.keep(info.unsigned("length")).unwrap_or_default(),
        kind: FileKind::Regular,
    }]
}

/// The files of `info.files`.
pub(crate) fn parse_files(info: &Fields<'_, '_>, findings: &mut Findings) -> Vec<FileEntry> {
    if let Some(length) = info.first("length") {
        findings.warn(
            &info.name_of("length"),
            length.at,
            "ignored, since info.files is present",
        );
    }
    let Some(items) = findings.keep(info.list("files")) else {
        return Vec::new();
    };
    if items.is_empty() {
        findings.refuse(info.problem("files", Problem::NoFiles));
    }
    if items.len() > FILES_MAX {
        let problem = Problem::TooManyFiles {
            count: items.len(),
            count_max: FILES_MAX,
        };
        findings.refuse(info.problem("files", problem));
        return Vec::new();
    }
    let mut files = Vec::with_capacity(items.len());
    let mut total_bytes = 0i64;
    for (i, item) in items.iter().enumerate() {
        let fields = Fields::of(item, format!("info.files[{i}]"));
        let Some(fields) = findings.keep(fields) else {
            continue;
        };
        let file = parse_file(&fields, findings);
        // Bencode integers are signed. If the sum fits into one, every total can be written again.
        match total_bytes.checked_add_unsigned(file.bytes) {
            Some(sum) => total_bytes = sum,
            None => findings.refuse(fields.problem("length", Problem::SumOverflows)),
        }
        files.push(file);
    }
    // Otherwise the files may not correspond to the items.
    if findings.refusal().is_none() {
        refuse_clashes(&files, items, findings);
    }
    files
}

fn parse_file(fields: &Fields<'_, '_>, findings: &mut Findings) -> FileEntry {
    let attributes = parse_attributes(fields, findings);
    let (path, kind) = if attributes.contains(&b'p') {
        (padding_path(fields, findings), FileKind::Padding)
    } else {
        let path = file_path(fields, findings);
        let kind = if attributes.contains(&b'l') {
            FileKind::Symlink
        } else if is_bitcomet_padding(&path) {
            FileKind::Padding
        } else {
            FileKind::Regular
        };
        (path, kind)
    };
    let bytes = if kind == FileKind::Symlink {
        warn_of_link_length(fields, findings);
        0
    } else {
        findings.keep(fields.unsigned("length")).unwrap_or_default()
    };
    FileEntry { path, bytes, kind }
}

/// Attributes of a wrong type are ignored: they would only add what clients may ignore.
fn parse_attributes<'a>(fields: &Fields<'_, 'a>, findings: &mut Findings) -> &'a [u8] {
    let Some(Some(item)) = findings.keep(fields.optional("attr")) else {
        return b"";
    };
    match item.value {
        Value::Bytes(attributes) => attributes,
        ref other => {
            let what = format!("is {} instead of a string; ignored", other.kind());
            findings.warn(&fields.name_of("attr"), item.at, &what);
            b""
        }
    }
}

fn file_path(fields: &Fields<'_, '_>, findings: &mut Findings) -> Vec<OsString> {
    let is_usable = |item: &Item<'_>| {
        let is_text = |item: &Item<'_>| match item.value {
            Value::Bytes(bytes) => std::str::from_utf8(bytes).is_ok(),
            _ => false,
        };
        matches!(&item.value, Value::List(items) if !items.is_empty() && items.iter().all(is_text))
    };
    let key = prefer_utf8(fields, "path", "path.utf-8", is_usable, findings);
    match fields.required(key) {
        Ok(item) => parse_path(item, &fields.name_of(key), findings),
        Err(reason) => {
            findings.refuse(reason);
            Vec::new()
        }
    }
}

/// The path of padding, which is only shown. It is often absent, and empty then.
fn padding_path(fields: &Fields<'_, '_>, findings: &mut Findings) -> Vec<OsString> {
    let Some(item) = fields.first("path") else {
        return Vec::new();
    };
    let mut ignored = Findings::default();
    let path = parse_path(item, "", &mut ignored);
    if ignored.refusal().is_none() {
        return path;
    }
    findings.warn(
        &fields.name_of("path"),
        item.at,
        "no valid path; ignored, since padding is not stored",
    );
    Vec::new()
}

fn warn_of_link_length(fields: &Fields<'_, '_>, findings: &mut Findings) {
    let Some(length) = fields.first("length") else {
        return;
    };
    if length.value != Value::Int(0) {
        findings.warn(
            &fields.name_of("length"),
            length.at,
            "ignored, since a symbolic link has no content",
        );
    }
}

/// Returns the key with a name or path in UTF-8 if its value is usable, and `key` otherwise.
pub(crate) fn prefer_utf8(
    fields: &Fields<'_, '_>,
    key: &'static str,
    utf8_key: &'static str,
    is_usable: impl Fn(&Item<'_>) -> bool,
    findings: &mut Findings,
) -> &'static str {
    match fields.first(utf8_key) {
        None => key,
        Some(item) if is_usable(item) => utf8_key,
        Some(item) => {
            findings.warn(&fields.name_of(utf8_key), item.at, "not UTF-8; ignored");
            key
        }
    }
}

/// Padding is not on disk and often repeats one name many times.
fn refuse_clashes(files: &[FileEntry], items: &[Item<'_>], findings: &mut Findings) {
    let on_disk = files
        .iter()
        .enumerate()
        .filter(|(_, file)| file.kind != FileKind::Padding);
    let clash = find_clash(on_disk.map(|(i, file)| (i, &file.path[..])).collect());
    let Some((first, second, equal)) = clash else {
        return;
    };
    let (index, what) = if equal {
        (second, Problem::DuplicatePath(first))
    } else {
        (first, Problem::FileAndDirectory(second))
    };
    let field = format!("info.files[{index}].path");
    findings.refuse(problem(field, items[index].at, what));
}
