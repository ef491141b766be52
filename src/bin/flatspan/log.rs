//! `flatspan log`.

use anyhow::{Error, Result, bail};
use flatspan::snapshot::{Change, Cut, HeapChoice, RecordFacts};
use serde_json::{Value, json};

use crate::cli::LogArgs;
use crate::text::{count, range};
use crate::{exit, output};

/// As many changes are named in a line; the JSON has all.
const NAMED_MAX: usize = 4;

pub(crate) fn run(args: &LogArgs) -> Result<u8> {
    let reader = output::reader(&args.store)?;
    let mut printed = Ok(());
    let mut number = 0_u64;
    let heap = if args.older {
        HeapChoice::Fallback
    } else {
        HeapChoice::Newest
    };
    let done = reader.records(heap, |record| {
        number += 1;
        // Not again after an error.
        if printed.is_ok() {
            printed = print(&record, args);
        }
    });
    printed?;
    match done {
        Ok(Some(cuts)) => {
            cuts.iter().try_for_each(|cut| print_cut(cut, args))?;
            if !args.json {
                output::line(&count(number, "record"))?;
            }
            Ok(exit::OK)
        }
        Ok(None) => bail!("{}: there is no older complete heap", args.store.display()),
        Err(error) => failed(error.into(), args),
    }
}

/// Damage is a part of the list.
fn failed(error: Error, args: &LogArgs) -> Result<u8> {
    let code = output::exit_code(&error);
    if !args.json {
        return Err(error);
    }
    eprintln!("flatspan: {error:#}");
    output::json(&json!({ "error": format!("{error:#}"), "exit_code": code }))?;
    Ok(code)
}

fn print(record: &RecordFacts, args: &LogArgs) -> Result<()> {
    if args.json {
        output::json(&object(record))
    } else {
        output::line(&text(record))
    }
}

fn text(record: &RecordFacts) -> String {
    let mut text = format!(
        "{:016x}+{:<9} #{:<8} {:<11} generation {}, {} bytes",
        record.journal,
        record.offset,
        record.sequence,
        record.kind.to_string(),
        record.generation,
        record.bytes
    );
    if let Some(bytes) = record.region_bytes {
        text += &format!(", region {bytes}");
    }
    let named = record.changes.iter().take(NAMED_MAX);
    let named =
        named.map(|change| range(&change.range) + if change.is_zero { " zeros" } else { "" });
    let named: Vec<_> = named.collect();
    if !named.is_empty() {
        text += &format!(", bytes {}", named.join(", "));
    }
    match record.changes.len().checked_sub(NAMED_MAX) {
        Some(rest) if rest > 0 => text += &format!(" and {rest} more"),
        _ => {}
    }
    if !record.last {
        text += ", to be continued";
    }
    text
}

fn object(record: &RecordFacts) -> Value {
    let changes = record.changes.iter();
    let changes = changes.map(|Change { range, is_zero, .. }| {
        json!([range.start, range.end - range.start, is_zero])
    });
    json!({
        "journal": record.journal,
        "offset": record.offset,
        "bytes": record.bytes,
        "kind": record.kind.to_string(),
        "sequence": record.sequence,
        "generation": record.generation,
        "durable": record.durable,
        "last": record.last,
        "region_bytes": record.region_bytes,
        "changes": changes.collect::<Vec<_>>(),
    })
}

fn print_cut(cut: &Cut, args: &LogArgs) -> Result<()> {
    if args.json {
        return output::json(&json!({ "cut": {
            "journal": cut.journal,
            "offset": cut.offset,
            "bytes": cut.bytes,
            "sequence": cut.sequence,
        } }));
    }
    output::line(&format!(
        "{:016x}+{:<9} cut: {} bytes, from record {} on, were never acknowledged or are being written",
        cut.journal, cut.offset, cut.bytes, cut.sequence
    ))
}
