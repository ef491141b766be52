//! `flatspan journal`.

use std::fmt::Write as _;

use anyhow::{Error, Result, bail};
use flatspan::snapshot::{Change, HeapChoice, IgnoredTail, RecordInfo};
use serde_json::{Value, json};

use crate::cli::JournalArgs;
use crate::format::{count, range};
use crate::{exit_code, output};

/// Changes listed in a line of text; the JSON has all.
const LISTED_MAX: usize = 4;

pub(crate) fn run(args: &JournalArgs) -> Result<u8> {
    let reader = output::reader(&args.store)?;
    let mut printed = Ok(());
    let mut records = 0_u64;
    let heap = if args.from_fallback {
        HeapChoice::Fallback
    } else {
        HeapChoice::Newest
    };
    let read = reader.records(heap, |record| {
        records += 1;
        // Keep the first output error; skip the remaining records.
        if printed.is_ok() {
            printed = print(&record, args);
        }
    });
    printed?;
    match read {
        Ok(Some(tails)) => {
            tails.iter().try_for_each(|tail| print_tail(tail, args))?;
            if !args.json {
                output::line(&count(records, "record"))?;
            }
            Ok(exit_code::OK)
        }
        Ok(None) => bail!("store {} has no fallback heap", args.store.display()),
        Err(error) => failed(error.into(), args),
    }
}

/// With `--json`, corruption is a line of the list.
fn failed(error: Error, args: &JournalArgs) -> Result<u8> {
    let code = output::exit_code(&error);
    if !args.json {
        return Err(error);
    }
    eprintln!("flatspan: {error:#}");
    output::json(&json!({ "error": format!("{error:#}"), "exit_code": code }))?;
    Ok(code)
}

fn print(record: &RecordInfo, args: &JournalArgs) -> Result<()> {
    if args.json {
        output::json(&object(record))
    } else {
        output::line(&text(record)?)
    }
}

fn text(record: &RecordInfo) -> Result<String> {
    let mut text = format!(
        "{}+{:<9} #{:<8} {:<11} generation {}, {} bytes",
        record.journal,
        record.offset,
        record.sequence,
        record.kind.to_string(),
        record.generation,
        record.len_bytes
    );
    if let Some(bytes) = record.region_bytes {
        write!(text, ", region {bytes}")?;
    }
    let listed: Vec<_> = record
        .changes
        .iter()
        .take(LISTED_MAX)
        .map(|change| range(&change.range) + if change.is_zero { " zeros" } else { "" })
        .collect();
    if !listed.is_empty() {
        write!(text, ", bytes {}", listed.join(", "))?;
    }
    if record.changes.len() > LISTED_MAX {
        write!(text, " and {} more", record.changes.len() - LISTED_MAX)?;
    }
    if !record.completes_group {
        text.push_str(", continued in the next record");
    }
    Ok(text)
}

fn object(record: &RecordInfo) -> Value {
    let changes: Vec<_> = record
        .changes
        .iter()
        .map(|Change { range, is_zero, .. }| {
            json!({
                "offset_bytes": range.start,
                "len_bytes": range.end - range.start,
                "zero": is_zero,
            })
        })
        .collect();
    json!({
        "journal": record.journal.get(),
        "offset_bytes": record.offset,
        "len_bytes": record.len_bytes,
        "kind": record.kind.to_string(),
        "sequence": record.sequence.get(),
        "generation": record.generation.get(),
        "durable_sequence": record.durable_sequence.get(),
        "completes_group": record.completes_group,
        "region_bytes": record.region_bytes,
        "changes": changes,
    })
}

fn print_tail(tail: &IgnoredTail, args: &JournalArgs) -> Result<()> {
    if args.json {
        return output::json(&json!({ "ignored_tail": {
            "journal": tail.journal.get(),
            "offset_bytes": tail.offset,
            "len_bytes": tail.len_bytes,
            "first_sequence": tail.first_sequence.get(),
        } }));
    }
    output::line(&format!(
        "{}+{:<9} ignored tail: {} bytes from record {} on were never acknowledged or are being written",
        tail.journal, tail.offset, tail.len_bytes, tail.first_sequence
    ))
}
