//! The files of a torrent of version 2: `file tree` of `info` (BEP 52). They are listed and
//! compared with the files of version 1; their hashes are not read.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use crate::bencode::Value;
use crate::fields::{Fields, problem};
use crate::file_list::FILES_MAX;
use crate::findings::Findings;
use crate::metainfo::{FileEntry, FileKind};
use crate::metainfo_error::Problem;
use crate::paths::{excerpt, joined};

/// The name of the tree in errors. The names of its directories are of any length.
const NAME: &str = "info.file tree";

/// The files of `info.file tree`, in the order of their paths.
pub(crate) fn parse_file_tree(info: &Fields<'_, '_>, findings: &mut Findings) -> Vec<FileEntry> {
    let mut files = Vec::new();
    let root = info.required("file tree");
    let root = root.and_then(|item| Fields::of(item, NAME.to_owned()));
    if let Some(root) = findings.keep(root) {
        collect(&root, &mut Vec::new(), &mut files, findings);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn collect(
    directory: &Fields<'_, '_>,
    path: &mut Vec<OsString>,
    files: &mut Vec<FileEntry>,
    findings: &mut Findings,
) {
    let mut names = HashSet::new();
    for (name, item) in directory.entries() {
        if !names.insert(*name) {
            findings.refuse(problem(NAME.to_owned(), item.at, Problem::Repeated));
        }
        let Some(node) = findings.keep(Fields::of(item, NAME.to_owned())) else {
            continue;
        };
        path.push(OsStr::from_bytes(name).to_owned());
        match node.first("") {
            None => collect(&node, path, files, findings),
            Some(_) if node.entries().len() > 1 => {
                let (file, at) = (excerpt(&joined(&*path)), item.at);
                findings.refuse(problem(NAME.to_owned(), at, Problem::FileWithFiles(file)));
            }
            Some(_) if files.len() == FILES_MAX => {
                let problem_of_count = Problem::TooManyFiles {
                    count: FILES_MAX + 1,
                    count_max: FILES_MAX,
                };
                findings.refuse(problem(NAME.to_owned(), item.at, problem_of_count));
            }
            Some(file) => {
                let file = Fields::of(file, NAME.to_owned());
                if let Some(file) = findings.keep(file) {
                    files.push(parse_file(&file, path.clone(), findings));
                }
            }
        }
        path.pop();
    }
}

fn parse_file(fields: &Fields<'_, '_>, path: Vec<OsString>, findings: &mut Findings) -> FileEntry {
    let attributes = match fields.first("attr").map(|item| &item.value) {
        Some(Value::Bytes(attributes)) => attributes,
        _ => &b""[..],
    };
    let (bytes, kind) = if attributes.contains(&b'l') {
        (0, FileKind::Symlink)
    } else {
        let bytes = findings.keep(fields.unsigned("length"));
        (bytes.unwrap_or_default(), FileKind::Regular)
    };
    FileEntry { path, bytes, kind }
}

/// Whether the tree has one file only, which is called like the torrent.
pub(crate) fn is_single(tree: &[FileEntry], name: &OsStr) -> bool {
    matches!(tree, [file] if file.path == [name])
}

/// Refuses a hybrid torrent whose versions describe different files, or the same files in different
/// pieces: clients of both versions exchange pieces by number. `files` is the list of version 1.
pub(crate) fn refuse_contradiction(
    info: &Fields<'_, '_>,
    files: &[FileEntry],
    tree: &[FileEntry],
    piece_bytes: u64,
    findings: &mut Findings,
) {
    let listed = |file: Option<&&FileEntry>| match file {
        Some(file) => format!("{} of {} bytes", excerpt(&joined(&file.path)), file.bytes),
        None => "no further file".to_owned(),
    };
    let is_regular = |file: &&FileEntry| file.kind == FileKind::Regular;
    let mut expected = files.iter().filter(is_regular).peekable();
    let mut found = tree.iter().filter(is_regular).peekable();
    while expected.peek().is_some() || found.peek().is_some() {
        if expected.peek() != found.peek() {
            let contradiction = Problem::Contradiction {
                found: listed(found.peek()),
                expected: listed(expected.peek()),
            };
            findings.refuse(info.problem("file tree", contradiction));
            return;
        }
        expected.next();
        found.next();
    }
    let mut start = 0u64;
    for file in files {
        if file.kind == FileKind::Regular && file.bytes > 0 && !start.is_multiple_of(piece_bytes) {
            let unaligned = Problem::UnalignedFile {
                file: excerpt(&joined(&file.path)),
                at: start,
            };
            findings.refuse(info.problem("file tree", unaligned));
            return;
        }
        start = start.saturating_add(file.bytes);
    }
}
