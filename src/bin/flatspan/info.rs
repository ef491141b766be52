//! `flatspan info`.

use anyhow::Result;
use flatspan::snapshot::{
    Array, HeapFacts, HeapState, JournalFacts, Metadata, NoHeap, StoreReader, Survey,
};
use serde_json::{Value, json};

use crate::cli::StoreArgs;
use crate::text::{BinaryBytes, count, nanoseconds, time};
use crate::{exit, output};

pub(crate) fn run(args: &StoreArgs) -> Result<u8> {
    let reader = output::reader(&args.store)?;
    let survey = reader.survey()?;
    // Of a version that is not known there is nothing more to say.
    let journal = match survey.choice {
        Err(NoHeap::Version { .. }) => Vec::new(),
        _ => journal(&reader, &survey)?,
    };
    if args.json {
        let mut object = object(&survey, &journal);
        object["store"] = args.store.to_string_lossy().into();
        output::json(&object)?;
    } else {
        print(args, &survey, &journal)?;
    }
    Ok(match survey.choice {
        Ok(_) => exit::OK,
        Err(NoHeap::Version { .. }) => exit::FAILED,
        Err(_) => exit::FOUND,
    })
}

/// Without any header there is no store that its files could belong to.
fn journal(reader: &StoreReader, survey: &Survey) -> Result<Vec<JournalFacts>> {
    match known(survey) {
        Some(_) => Ok(reader.journal_files()?),
        None => Ok(Vec::new()),
    }
}

fn known(survey: &Survey) -> Option<&Metadata> {
    survey.heaps.iter().find_map(|facts| facts.state.metadata())
}

fn print(args: &StoreArgs, survey: &Survey, journal: &[JournalFacts]) -> Result<()> {
    output::line(&format!("{}", args.store.display()))?;
    if let Some(metadata) = known(survey) {
        let parts = BinaryBytes(metadata.part_bytes);
        output::line(&format!(
            "  id {}, format 1, parts of {parts}",
            metadata.store
        ))?;
    }
    if let Some(pid) = survey.writer {
        output::line(&format!("  open for writing by process {pid}"))?;
    }
    for facts in &survey.heaps {
        output::line(&format!("  heap {}: {}", facts.heap, heap_line(facts)))?;
        for (copy, defect) in defects(facts) {
            output::line(&format!("    copy {copy} of METADATA: {defect}"))?;
        }
    }
    for file in journal {
        output::line(&format!("  {}", journal_line(file)))?;
    }
    output::line(&match &survey.choice {
        Ok(choice) => opens_line(&choice.first, choice.second.as_ref(), journal),
        Err(error) => format!("  would not open: {error}"),
    })
}

fn heap_line(facts: &HeapFacts) -> String {
    let (state, metadata) = match &facts.state {
        HeapState::Absent => return "is not there".to_owned(),
        HeapState::Newer(version) => return format!("has version {version}, which is newer"),
        HeapState::Damaged(_) => return "damaged, no copy of METADATA is valid".to_owned(),
        HeapState::Taken(metadata) => ("is or was being written, not complete", metadata),
        HeapState::Released(metadata) if metadata.closed => ("complete, closed", metadata),
        HeapState::Released(metadata) => ("complete", metadata),
    };
    format!(
        "{state}; generation {}, region of {}, record {}, committed {}",
        metadata.generation,
        BinaryBytes(metadata.payload_bytes),
        metadata.sequence,
        time(nanoseconds(metadata.committed_at)),
    )
}

fn defects(facts: &HeapFacts) -> impl Iterator<Item = (usize, String)> {
    let copies = facts.copies.iter().flatten().enumerate();
    copies.filter_map(|(copy, found)| Some((copy, found.err()?.to_string())))
}

fn journal_line(file: &JournalFacts) -> String {
    let name = Array::Journal(file.number);
    if let Some(defect) = file.defect {
        return format!("{name}: {}, header: {defect}", BinaryBytes(file.bytes));
    }
    let sequences = match file.sequences {
        Some((first, last)) => format!(", {first} to {last}"),
        None => String::new(),
    };
    let records = count(file.records, "record");
    let sealed = if file.sealed { ", sealed" } else { "" };
    let behind = file.bytes.saturating_sub(file.records_end);
    let behind = match behind {
        0 => String::new(),
        bytes => format!(", {bytes} bytes behind them"),
    };
    format!(
        "{name}: {}, {records}{sequences}{sealed}{behind}",
        BinaryBytes(file.bytes)
    )
}

fn opens_line(first: &Metadata, second: Option<&Metadata>, journal: &[JournalFacts]) -> String {
    let how = if first.closed {
        format!("closed at record {}", first.end.unwrap_or(0))
    } else {
        "not closed: verified first".to_owned()
    };
    let last = journal
        .iter()
        .filter_map(|file| Some(file.sequences?.1))
        .max();
    let records = last.unwrap_or(0).saturating_sub(first.sequence);
    let second = second.map_or_else(
        || "there is no second chance".to_owned(),
        |second| format!("if that is damaged, from heap {}", second.heap),
    );
    format!(
        "  opens from heap {}, generation {}, {how}; {} behind it; {second}",
        first.heap,
        first.generation,
        count(records, "journal record"),
    )
}

fn object(survey: &Survey, journal: &[JournalFacts]) -> Value {
    let known = known(survey);
    let opens = survey.choice.as_ref().ok().map(|choice| {
        json!({
            "heap": choice.first.heap.to_string(),
            "generation": choice.first.generation,
            "closed": choice.first.closed,
            "second": choice.second.map(|second| second.heap.to_string()),
            "next_generation": choice.next_generation,
        })
    });
    json!({
        "id": known.map(|metadata| metadata.store.to_string()),
        "format": 1,
        "part_bytes": known.map(|metadata| metadata.part_bytes),
        "writer": survey.writer,
        "opens": opens,
        "error": survey.choice.as_ref().err().map(ToString::to_string),
        "heaps": survey.heaps.iter().map(heap).collect::<Vec<_>>(),
        "journal": journal.iter().map(file).collect::<Vec<_>>(),
    })
}

fn heap(facts: &HeapFacts) -> Value {
    let state = match facts.state {
        HeapState::Absent => "absent",
        HeapState::Newer(_) => "newer",
        HeapState::Damaged(_) => "damaged",
        HeapState::Taken(_) => "taken",
        HeapState::Released(_) => "released",
    };
    let copies = facts.copies.iter().flatten();
    let copies = copies.map(|copy| match copy {
        Ok(_) => "good".to_owned(),
        Err(defect) => defect.to_string(),
    });
    json!({
        "heap": facts.heap.to_string(),
        "state": state,
        "metadata": facts.state.metadata().map(metadata),
        "copies": copies.collect::<Vec<_>>(),
        "present_bytes": facts.present_bytes,
    })
}

fn metadata(metadata: &Metadata) -> Value {
    json!({
        "generation": metadata.generation,
        "released": metadata.released,
        "closed": metadata.closed,
        "revision": metadata.revision,
        "payload_bytes": metadata.payload_bytes,
        "root": format!("{:016x}", metadata.root),
        "sequence": metadata.sequence,
        "chain": format!("{:016x}", metadata.chain),
        "journal": metadata.journal,
        "end": metadata.end.unwrap_or(0),
        "committed_at": nanoseconds(metadata.committed_at),
        "committed": time(nanoseconds(metadata.committed_at)),
    })
}

fn file(facts: &JournalFacts) -> Value {
    json!({
        "number": facts.number,
        "bytes": facts.bytes,
        "defect": facts.defect.map(|defect| defect.to_string()),
        "records": facts.records,
        "records_end": facts.records_end,
        "first_sequence": facts.sequences.map(|(first, _)| first),
        "last_sequence": facts.sequences.map(|(_, last)| last),
        "sealed": facts.sealed,
    })
}
