//! A report as text: the files with problems, then one line for the torrent.

use std::io::{self, Write};
use std::ops::RangeInclusive;

use flatspan::span::{FileReport, FileStatus};
use indicatif::BinaryBytes;

use crate::paths::printable;
use crate::report::Report;

/// The maximum number of pieces or neighbours in a line; the JSON report lists all.
const NAMED_MAX: usize = 8;

/// Writes the report; with `all`, also the correct files.
pub(crate) fn write(report: &Report, all: bool, out: &mut impl Write) -> io::Result<()> {
    let mut problems = 0;
    // Unchecked files are only counted: one line for each would hide the problems.
    let mut unchecked = 0;
    for file in &report.verification.files {
        let listed = match file.status {
            FileStatus::Ok => all,
            FileStatus::Unchecked => {
                unchecked += 1;
                all
            }
            _ => {
                problems += 1;
                true
            }
        };
        if listed {
            writeln!(out, "{}", file_line(report, file))?;
        }
    }
    summary(report, problems, unchecked, out)
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
        return writeln!(out, "ok, {files} files, {} pieces, {bytes}", pieces.ok);
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
    writeln!(out)
}

fn file_line(report: &Report, file: &FileReport) -> String {
    let path = printable(&report.path(file.entry));
    let actual = file
        .actual_bytes
        .map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string());
    let declared = file.declared_bytes;
    let line = match &file.status {
        FileStatus::Ok => format!("ok          {path}"),
        FileStatus::Missing => format!("missing     {path}: {declared} bytes"),
        FileStatus::TooShort => format!("too short   {path}: {actual} of {declared} bytes"),
        FileStatus::TooLong => format!("too long    {path}: {actual} bytes instead of {declared}"),
        FileStatus::Corrupt => format!("corrupt     {path}: damaged"),
        FileStatus::Unreadable(error) => {
            format!("unreadable  {path}: {}", printable(&error.to_string()))
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
