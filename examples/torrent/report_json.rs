//! A report as one JSON object. `verify --help` documents it.

use std::path::Path;

use flatspan::span::{FileReport, FileStatus};
use serde_json::{Value, json};

use crate::report::{Report, link_reason, reason};

/// Limits the size of a report in which thousands of small files share a bad piece.
const NEIGHBOURS_MAX: usize = 64;

/// The object of a verified torrent.
pub(crate) fn report(report: &Report) -> Value {
    let pieces = report.pieces();
    json!({
        "torrent": report.torrent.to_string_lossy(),
        "name": report.metainfo.shown_name(),
        "info_hash": report.metainfo.info_hash_hex(),
        "total_bytes": report.metainfo.total_bytes,
        "ok": report.is_ok(),
        "complete": report.verification.complete,
        "pieces": {
            "total": report.verification.pieces.len(),
            "ok": pieces.ok,
            "mismatched": pieces.mismatched,
            "unreadable": pieces.unreadable,
            "unchecked": pieces.unchecked,
        },
        "directory_problem": report.directory_problem,
        "warnings": report.warnings,
        "files": report.verification.files.iter().map(|found| file(report, found)).collect::<Vec<_>>(),
    })
}

/// The object of a torrent that could not be verified.
pub(crate) fn failure(torrent: &Path, error: &anyhow::Error, exit_code: u8) -> Value {
    json!({ "torrent": torrent.to_string_lossy(), "error": format!("{error:#}"), "exit_code": exit_code })
}

fn file(report: &Report, file: &FileReport) -> Value {
    let mut object = json!({
        "path": report.path(file.entry),
        "status": status(&file.status),
        "declared_bytes": file.declared_bytes,
        "actual_bytes": file.actual_bytes,
        "corrupt_pieces": file.corrupt_pieces.iter().map(|range| [*range.start(), *range.end()]).collect::<Vec<_>>(),
    });
    match &file.status {
        FileStatus::Undecided {
            shared_with: because_of,
        } => {
            let named = because_of.iter().take(NEIGHBOURS_MAX);
            object["shared_with"] = named.map(|entry| report.path(*entry)).collect();
        }
        FileStatus::Unreadable(error) => {
            let link = report.refused_link(file);
            object["error"] = link
                .map_or_else(|| reason(error), |link| link_reason(&link))
                .into();
        }
        _ => {}
    }
    object
}

fn status(status: &FileStatus) -> &'static str {
    match status {
        FileStatus::Ok => "ok",
        FileStatus::Missing => "missing",
        FileStatus::TooShort => "too_short",
        FileStatus::TooLong => "too_long",
        FileStatus::Corrupt => "corrupt",
        FileStatus::Undecided { .. } => "undecided",
        FileStatus::Unreadable(_) => "unreadable",
        _ => "unchecked",
    }
}
