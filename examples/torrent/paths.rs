//! Paths from a torrent: validation and display.

use crate::bencode::{Item, Value};
use crate::fields::{problem, text_of, wrong_type};
use crate::metainfo_error::{MetainfoError, Problem};

/// Returns the components of a path after checking each one.
pub(crate) fn parse_path(item: &Item<'_>, name: &str) -> Result<Vec<String>, MetainfoError> {
    let Value::List(items) = &item.value else {
        return Err(wrong_type(name.to_owned(), item.at, "a list", &item.value));
    };
    if items.is_empty() {
        return Err(problem(name.to_owned(), item.at, Problem::EmptyPath));
    }
    let component = |(i, item): (usize, &Item<'_>)| {
        let name = || format!("{name}[{i}]");
        let text = text_of(item, name)?;
        check_component(text).map_err(|reason| problem(name(), item.at, reason))?;
        Ok(text.to_owned())
    };
    items.iter().enumerate().map(component).collect()
}

/// Refuses a component that leads out of the directory or that cannot be a file name.
pub(crate) fn check_component(text: &str) -> Result<(), Problem> {
    let hostile = matches!(text, "" | "." | "..") || text.contains(['/', '\0']);
    if hostile {
        Err(Problem::HostileName(excerpt(text)))
    } else {
        Ok(())
    }
}

/// The first clash among `paths` (index, path): two equal paths, or a file whose path is the
/// directory of another one. Returns both indexes, and whether the paths are equal.
pub(crate) fn find_clash(mut paths: Vec<(usize, &[String])>) -> Option<(usize, usize, bool)> {
    // In this order the paths below a path follow it directly.
    paths.sort_unstable_by(|a, b| a.1.cmp(b.1).then(a.0.cmp(&b.0)));
    paths
        .windows(2)
        .find(|pair| pair[1].1.starts_with(pair[0].1))
        .map(|pair| (pair[0].0, pair[1].0, pair[0].1 == pair[1].1))
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
fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let shortened: String = text.chars().take(CHARS_MAX).collect();
    let more = if shortened.len() < text.len() {
        "..."
    } else {
        ""
    };
    format!("\"{}\"{more}", shortened.escape_default())
}
