//! Paths from a torrent: validation and display.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use crate::bencode::{Item, Value};
use crate::fields::{bytes_of, problem, wrong_type};
use crate::findings::Findings;
use crate::metainfo_error::Problem;

/// The start of the names of padding files that BitComet writes without the attribute `p`.
const BITCOMET_PADDING: &[u8] = b"_____padding_file_";

/// Returns the components of a path and refuses those that are not file names.
pub(crate) fn parse_path(item: &Item<'_>, name: &str, findings: &mut Findings) -> Vec<OsString> {
    let Value::List(items) = &item.value else {
        findings.refuse(wrong_type(name.to_owned(), item.at, "a list", &item.value));
        return Vec::new();
    };
    if items.is_empty() {
        findings.refuse(problem(name.to_owned(), item.at, Problem::EmptyPath));
    }
    let mut path = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let name = || format!("{name}[{i}]");
        let Some(bytes) = findings.keep(bytes_of(item, name)) else {
            continue;
        };
        if let Err(reason) = check_component(bytes) {
            findings.refuse(problem(name(), item.at, reason));
        }
        if std::str::from_utf8(bytes).is_err() {
            findings.warn(&name(), item.at, "is not UTF-8; its bytes are the name");
        }
        path.push(OsStr::from_bytes(bytes).to_owned());
    }
    path
}

/// Refuses a component that leads out of the directory or that cannot be a file name.
pub(crate) fn check_component(name: &[u8]) -> Result<(), Problem> {
    let hostile = matches!(name, b"" | b"." | b"..") || name.iter().any(|b| matches!(b, b'/' | 0));
    if hostile {
        Err(Problem::HostileName(excerpt(&String::from_utf8_lossy(
            name,
        ))))
    } else {
        Ok(())
    }
}

/// Returns whether BitComet, and other clients with it, take a file of this path for padding.
pub(crate) fn is_bitcomet_padding(path: &[OsString]) -> bool {
    path.last()
        .is_some_and(|name| name.as_bytes().starts_with(BITCOMET_PADDING))
}

/// The first clash among `paths` (index, path): two equal paths, or a file whose path is the
/// directory of another one. Returns both indexes, and whether the paths are equal.
pub(crate) fn find_clash(mut paths: Vec<(usize, &[OsString])>) -> Option<(usize, usize, bool)> {
    // In this order the paths below a path follow it directly.
    paths.sort_unstable_by(|a, b| a.1.cmp(b.1).then(a.0.cmp(&b.0)));
    paths
        .windows(2)
        .find(|pair| pair[1].1.starts_with(pair[0].1))
        .map(|pair| (pair[0].0, pair[1].0, pair[0].1 == pair[1].1))
}

/// The components of a path from a torrent, joined for display.
pub(crate) fn joined<'p>(components: impl IntoIterator<Item = &'p OsString>) -> String {
    let components = components.into_iter().map(|name| name.to_string_lossy());
    components.collect::<Vec<_>>().join("/")
}

/// A foreign text for output on a terminal, with control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // Bidirectional controls can make one name look like another.
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The first characters of a text, quoted.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let shortened: String = text.chars().take(CHARS_MAX).collect();
    let more = if shortened.len() < text.len() {
        "..."
    } else {
        ""
    };
    format!("\"{}\"{more}", shortened.escape_default())
}
