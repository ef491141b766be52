//! A report as text: the files with problems, then one line for the torrent.

use std::collections::HashSet;
use std::io::{self, Write};
use std::ops::RangeInclusive;

use flatspan::span::{FileReport, FileStatus};
use indicatif::BinaryBytes;

use crate::metainfo::FileKind;
use crate::paths::printable;
use crate::report::{Report, link_reason, reason};

/// The maximum number of pieces or neighbours in a line; the JSON report lists all.
const NAMED_MAX: usize = 8;

/// Writes the report; with `all`, also the correct files and what was ignored.
pub(crate) fn write(report: &Report, all: bool, out: &mut impl Write) -> io::Result<()> {
    if all {
        for warning in &report.warnings {
            writeln!(out, "warning     {}", printable(warning))?;
        }
    }
    write_links(report, all, out)?;
    if let Some(problem) = &report.directory_problem {
        writeln!(out, "missing     {problem}")?;
    }
    let mut problems = 0;
    // Unchecked files are only counted: one line for each would hide the problems.
    let mut unchecked = 0;
    let mut named_links = HashSet::new();
    for file in &report.verification.files {
        let listed = match file.status {
            FileStatus::Ok => all,
            FileStatus::Unchecked => {
                unchecked += 1;
                all
            }
            _ if report.is_tolerated(file) => true,
            _ => {
                problems += 1;
                match report.refused_link(file) {
                    Some(link) => named_links.insert(link) || all,
                    None => true,
                }
            }
        };
        if listed && (all || report.directory_problem.is_none()) {
            writeln!(out, "{}", file_line(report, file))?;
        }
    }
    summary(report, problems, unchecked, out)
}

/// Names the symbolic links of the torrent, which are not compared with those on disk.
fn write_links(report: &Report, all: bool, out: &mut impl Write) -> io::Result<()> {
    let metainfo = &report.metainfo;
    let count = metainfo.count(FileKind::Symlink);
    if count > 0 {
        writeln!(out, "note        symbolic links not verified: {count}")?;
    }
    for (i, file) in metainfo.files.iter().enumerate() {
        if all && file.kind == FileKind::Symlink {
            writeln!(out, "symlink     {}", printable(&metainfo.shown_path(i)))?;
        }
    }
    Ok(())
}

fn summary(
    report: &Report,
    problems: usize,
    unchecked: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let (files, pieces) = (report.verification.files.len(), report.pieces());
    let torrent = printable(&report.torrent.to_string_lossy());
    write!(out, "{torrent}: ")?;
    if report.is_ok() {
        let bytes = BinaryBytes(report.metainfo.total_bytes);
        write!(out, "ok, {files} files, {} pieces, {bytes}", pieces.ok)?;
        return writeln!(out, "{}", version_two(report));
    }
    if !report.verification.complete {
        write!(out, "interrupted, ")?;
    }
    write!(
        out,
        "{problems} of {files} files with problems; pieces: {} ok",
        pieces.ok
    )?;
    let others = [
        (pieces.mismatched, "corrupt"),
        (pieces.unreadable, "unreadable"),
        (pieces.unchecked, "unchecked"),
    ];
    for (count, state) in others.iter().filter(|(count, _)| *count > 0) {
        write!(out, ", {count} {state}")?;
    }
    if unchecked > 0 {
        write!(out, "; {unchecked} files unchecked")?;
    }
    writeln!(out, "{}", version_two(report))
}

fn version_two(report: &Report) -> &'static str {
    if report.has_version_two {
        "; hashes of version 2 not verified"
    } else {
        ""
    }
}

fn file_line(report: &Report, file: &FileReport) -> String {
    let path = printable(&report.path(file.entry));
    let actual = file
        .actual_bytes
        .map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string());
    let declared = file.declared_bytes;
    let line = match &file.status {
        FileStatus::Ok => format!("ok          {path}"),
        FileStatus::Missing if report.is_tolerated(file) => {
            format!("note        {path}: the file is empty and missing")
        }
        FileStatus::Missing => format!("missing     {path}: {declared} bytes"),
        FileStatus::TooShort => format!("too short   {path}: {actual} of {declared} bytes"),
        FileStatus::TooLong => format!("too long    {path}: {actual} bytes instead of {declared}"),
        FileStatus::Corrupt => format!("corrupt     {path}: damaged"),
        FileStatus::Unreadable(error) => {
            let link = report.refused_link(file);
            let reason = link.map_or_else(|| reason(error), |link| link_reason(&link));
            format!("unreadable  {path}: {}", printable(&reason))
        }
        FileStatus::Undecided {
            shared_with: because_of,
        } => {
            format!(
                "undecided   {path}: shares bad pieces with {}",
                neighbours(report, because_of)
            )
        }
        FileStatus::Unchecked => format!("unchecked   {path}"),
        other => format!("{other:?}  {path}"),
    };
    line + &pieces(&file.corrupt_pieces)
}

fn neighbours(report: &Report, entries: &[usize]) -> String {
    let names: Vec<_> = entries
        .iter()
        .take(NAMED_MAX)
        .map(|entry| printable(&report.path(*entry)))
        .collect();
    names.join(", ") + &more(entries.len())
}

fn pieces(ranges: &[RangeInclusive<usize>]) -> String {
    if ranges.is_empty() {
        return String::new();
    }
    let range = |range: &RangeInclusive<usize>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    let named: Vec<_> = ranges.iter().take(NAMED_MAX).map(range).collect();
    format!(
        ", corrupt pieces {}{}",
        named.join(", "),
        more(ranges.len())
    )
}

fn more(count: usize) -> String {
    count
        .checked_sub(NAMED_MAX + 1)
        .map_or_else(String::new, |rest| format!(" and {} more", rest + 1))
}
