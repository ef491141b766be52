//! `torrent show`.

use std::io::Write;

use anyhow::Result;
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use crate::cli::ShowArgs;
use crate::exit;
use crate::metainfo::{FileEntry, FileKind, Metainfo};
use crate::metainfo_error::MetainfoError;
use crate::paths::printable;
use crate::reading::Reading;
use crate::torrent_file;

pub(crate) fn run(args: &ShowArgs) -> Result<u8> {
    let reading = torrent_file::read(&args.torrent)?;
    let mut stdout = std::io::stdout().lock();
    if args.json {
        writeln!(stdout, "{}", object(&reading))?;
    } else {
        write_text(&reading, &mut stdout)?;
    }
    stdout.flush()?;
    Ok(exit::OK)
}

fn write_text(reading: &Reading, out: &mut impl Write) -> Result<()> {
    write_properties(reading.unchecked(), out)?;
    for warning in &reading.warnings {
        writeln!(out, "warning       {}", printable(warning))?;
    }
    if let Some(reason) = &reading.refusal {
        let reason = printable(&reason.to_string());
        writeln!(out, "refused       {reason}; verify does not accept it")?;
    }
    if let Some(reason) = &reading.name_refusal {
        let reason = printable(&reason.to_string());
        writeln!(out, "refused       {reason}; verify needs --content PATH")?;
    }
    let metainfo = reading.unchecked();
    for (i, file) in metainfo.files.iter().enumerate() {
        writeln!(
            out,
            "{:<9} {:>15}  {}",
            kind(file.kind),
            file.bytes,
            printable(&metainfo.shown_path(i))
        )?;
    }
    Ok(())
}

fn write_properties(metainfo: &Metainfo, out: &mut impl Write) -> Result<()> {
    let (bytes, count) = (metainfo.total_bytes, metainfo.pieces.len());
    writeln!(out, "name          {}", printable(&metainfo.shown_name()))?;
    writeln!(out, "info-hash     {}", metainfo.info_hash_hex())?;
    writeln!(out, "size          {} ({bytes} bytes)", BinaryBytes(bytes))?;
    writeln!(
        out,
        "pieces        {count} of {}",
        BinaryBytes(metainfo.piece_bytes)
    )?;
    writeln!(
        out,
        "private       {}",
        if metainfo.private { "yes" } else { "no" }
    )?;
    for (i, urls) in metainfo.tracker_tiers.iter().enumerate() {
        writeln!(out, "tracker {:<5} {}", i + 1, printable(&urls.join(", ")))?;
    }
    let texts = [
        ("source", &metainfo.source),
        ("comment", &metainfo.comment),
        ("created by", &metainfo.created_by),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            writeln!(out, "{name:<13} {}", printable(text))?;
        }
    }
    if let Some(seconds) = metainfo.creation_date {
        writeln!(out, "created       {}", utc(seconds))?;
    }
    Ok(())
}

fn object(reading: &Reading) -> Value {
    let metainfo = reading.unchecked();
    let file = |(i, file): (usize, &FileEntry)| json!({ "path": metainfo.shown_path(i), "bytes": file.bytes, "kind": kind(file.kind) });
    let reason = |refusal: &Option<_>| refusal.as_ref().map(MetainfoError::to_string);
    json!({
        "name": metainfo.shown_name(),
        "info_hash": metainfo.info_hash_hex(),
        "total_bytes": metainfo.total_bytes,
        "piece_bytes": metainfo.piece_bytes,
        "pieces": metainfo.pieces.len(),
        "private": metainfo.private,
        "multi_file": metainfo.multi_file,
        "trackers": metainfo.tracker_tiers,
        "source": metainfo.source,
        "comment": metainfo.comment,
        "created_by": metainfo.created_by,
        "creation_date": metainfo.creation_date,
        "warnings": reading.warnings,
        "refusal": reason(&reading.refusal),
        "name_refusal": reason(&reading.name_refusal),
        "files": metainfo.files.iter().enumerate().map(file).collect::<Vec<_>>(),
    })
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Padding => "padding",
        FileKind::Symlink => "symlink",
    }
}

/// Converts seconds since 1970 into a date of the Gregorian calendar. Years are counted from March,
/// so that the leap day is the last one. 400 years have 146,097 days.
fn utc(seconds: i64) -> String {
    let (days, second) = (
        seconds.div_euclid(86_400) + 719_468,
        seconds.rem_euclid(86_400),
    );
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year_of_era + next_year;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}
