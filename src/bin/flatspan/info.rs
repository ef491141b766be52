//! `flatspan info`.

use anyhow::Result;
use flatspan::snapshot::{
    Array, Choice, HeapFacts, HeapState, JournalFacts, Metadata, NoHeap, StoreReader, Survey,
};
use serde_json::{Value, json};

use crate::cli::StoreArgs;
use crate::format::{BinaryBytes, count, nanoseconds, time};
use crate::{content_length, exit_code, output};

/// All that the command prints.
struct Report {
    store: Survey,
    journal: Vec<JournalFacts>,
    content_bytes: Option<u64>,
}

pub(crate) fn run(args: &StoreArgs) -> Result<u8> {
    let reader = output::reader(&args.store)?;
    let store = reader.survey()?;
    let report = Report {
        journal: journal(&reader, &store)?,
        store,
        content_bytes: content_length::read(&args.store)?,
    };
    if args.json {
        let mut object = report.object();
        object["store"] = args.store.to_string_lossy().into();
        output::json(&object)?;
    } else {
        report.print(args)?;
    }
    Ok(match report.store.choice {
        Ok(_) => exit_code::OK,
        Err(NoHeap::Version { .. }) => exit_code::FAILED,
        Err(_) => exit_code::FOUND,
    })
}

/// The journal files; none if no valid header of a known version says which store they belong to.
fn journal(reader: &StoreReader, store: &Survey) -> Result<Vec<JournalFacts>> {
    let is_unsupported = matches!(store.choice, Err(NoHeap::Version { .. }));
    if is_unsupported || any_metadata(store).is_none() {
        return Ok(Vec::new());
    }
    Ok(reader.journal_files()?)
}

fn any_metadata(store: &Survey) -> Option<&Metadata> {
    store.heaps.iter().find_map(|heap| heap.state.metadata())
}

impl Report {
    fn print(&self, args: &StoreArgs) -> Result<()> {
        output::line(&format!("{}", args.store.display()))?;
        if let Some(metadata) = any_metadata(&self.store) {
            let parts = BinaryBytes(metadata.part_bytes);
            output::line(&format!(
                "  id {}, format 1, parts of {parts}",
                metadata.store
            ))?;
        }
        if let Some(bytes) = self.content_bytes {
            output::line(&format!("  imported from {bytes} bytes"))?;
        }
        if let Some(pid) = self.store.writer {
            output::line(&format!("  open for writing by process {pid}"))?;
        }
        for heap in &self.store.heaps {
            output::line(&format!("  heap {}: {}", heap.heap, heap_line(heap)))?;
            for (copy, error) in header_errors(heap) {
                output::line(&format!("    copy {copy} of METADATA: {error}"))?;
            }
        }
        for file in &self.journal {
            output::line(&format!("  {}", journal_line(file)))?;
        }
        output::line(&match &self.store.choice {
            Ok(selection) => self.plan_line(selection),
            Err(error) => format!("  opening would fail: {error}"),
        })
    }

    fn plan_line(&self, selection: &Choice) -> String {
        let first = &selection.first;
        let how = if first.closed {
            format!("clean shutdown at record {}", first.end.unwrap_or(0))
        } else {
            "unclean shutdown, so it is verified first".to_owned()
        };
        let last = self
            .journal
            .iter()
            .filter_map(|file| Some(file.sequences?.1))
            .max();
        let records = last.unwrap_or(0).saturating_sub(first.sequence);
        let fallback = match &selection.second {
            Some(second) => format!("fallback heap {}", second.heap),
            None => "no fallback heap".to_owned(),
        };
        format!(
            "  opening would restore heap {}, generation {} ({how}) and replay {}; {fallback}",
            first.heap,
            first.generation,
            count(records, "journal record"),
        )
    }

    fn object(&self) -> Value {
        let metadata = any_metadata(&self.store);
        let open_plan = self.store.choice.as_ref().ok().map(|selection| {
            json!({
                "heap": selection.first.heap.to_string(),
                "generation": selection.first.generation,
                "clean_shutdown": selection.first.closed,
                "fallback_heap": selection.second.map(|second| second.heap.to_string()),
                "next_generation": selection.next_generation,
            })
        });
        json!({
            "store_id": metadata.map(|metadata| metadata.store.to_string()),
            "format": 1,
            "part_bytes": metadata.map(|metadata| metadata.part_bytes),
            "content_bytes": self.content_bytes,
            "writer_pid": self.store.writer,
            "open_plan": open_plan,
            "error": self.store.choice.as_ref().err().map(ToString::to_string),
            "heaps": self.store.heaps.iter().map(heap_object).collect::<Vec<_>>(),
            "journal": self.journal.iter().map(journal_object).collect::<Vec<_>>(),
        })
    }
}

fn heap_line(heap: &HeapFacts) -> String {
    let (state, metadata) = match &heap.state {
        HeapState::Absent => return "missing".to_owned(),
        HeapState::Newer(version) => return format!("unsupported version {version}"),
        HeapState::Damaged(_) => return "corrupt, no copy of METADATA is valid".to_owned(),
        HeapState::Taken(metadata) => ("incomplete", metadata),
        HeapState::Released(metadata) if metadata.closed => ("complete, clean shutdown", metadata),
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

fn header_errors(heap: &HeapFacts) -> impl Iterator<Item = (usize, String)> {
    let copies = heap.copies.iter().flatten().enumerate();
    copies.filter_map(|(copy, outcome)| Some((copy, outcome.err()?.to_string())))
}

fn journal_line(file: &JournalFacts) -> String {
    let name = Array::Journal(file.number);
    let len = BinaryBytes(file.bytes);
    if let Some(error) = file.defect {
        return format!("{name}: {len}, header: {error}");
    }
    let sequences = match file.sequences {
        Some((first, last)) => format!(", {first} to {last}"),
        None => String::new(),
    };
    let records = count(file.records, "record");
    let sealed = if file.sealed { ", sealed" } else { "" };
    let rest = match file.bytes.saturating_sub(file.records_end) {
        0 => String::new(),
        bytes => format!(", {bytes} bytes after them"),
    };
    format!("{name}: {len}, {records}{sequences}{sealed}{rest}")
}

fn heap_object(heap: &HeapFacts) -> Value {
    let state = match heap.state {
        HeapState::Absent => "missing",
        HeapState::Newer(_) => "unsupported_version",
        HeapState::Damaged(_) => "corrupt",
        HeapState::Taken(_) => "incomplete",
        HeapState::Released(_) => "complete",
    };
    let copies: Vec<_> = heap
        .copies
        .iter()
        .flatten()
        .map(|copy| match copy {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        })
        .collect();
    json!({
        "heap": heap.heap.to_string(),
        "state": state,
        "metadata": heap.state.metadata().map(metadata_object),
        "metadata_copies": copies,
        "actual_bytes": heap.present_bytes,
    })
}

fn metadata_object(metadata: &Metadata) -> Value {
    json!({
        "generation": metadata.generation,
        "complete": metadata.released,
        "closed": metadata.closed,
        "revision": metadata.revision,
        "payload_bytes": metadata.payload_bytes,
        "tree_root_hash": format!("{:016x}", metadata.root),
        "last_sequence": metadata.sequence,
        "last_record_checksum": format!("{:016x}", metadata.chain),
        "first_journal": metadata.journal,
        "end_sequence": metadata.end,
        "committed_at_ns": nanoseconds(metadata.committed_at),
        "min_base_generation": metadata.floor,
    })
}

fn journal_object(file: &JournalFacts) -> Value {
    json!({
        "number": file.number,
        "len_bytes": file.bytes,
        "header_error": file.defect.map(|error| error.to_string()),
        "records": file.records,
        "records_end_offset": file.records_end,
        "first_sequence": file.sequences.map(|(first, _)| first),
        "last_sequence": file.sequences.map(|(_, last)| last),
        "sealed": file.sealed,
    })
}
