//! `flatspan info`.

use anyhow::Result;
use flatspan::snapshot::{
    HeapInfo, HeapSelection, HeapSelectionError, HeapState, JournalFileInfo, LogicalFile, Metadata,
    Sequence, StoreInfo, StoreReader,
};
use serde_json::{Value, json};

use crate::cli::StoreArgs;
use crate::format::{BinaryBytes, count, nanoseconds, time};
use crate::{content_length, exit_code, output};

/// All that the command prints.
struct Report {
    store: StoreInfo,
    journal: Vec<JournalFileInfo>,
    content_bytes: Option<u64>,
}

pub(crate) fn run(args: &StoreArgs) -> Result<u8> {
    let reader = output::reader(&args.store)?;
    let store = reader.inspect()?;
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
    Ok(match report.store.selection {
        Ok(_) => exit_code::OK,
        Err(HeapSelectionError::UnsupportedVersion { .. }) => exit_code::FAILED,
        Err(_) => exit_code::FOUND,
    })
}

/// The journal files; none if no valid header of a known version says which store they belong to.
fn journal(reader: &StoreReader, store: &StoreInfo) -> Result<Vec<JournalFileInfo>> {
    let is_unsupported = matches!(
        store.selection,
        Err(HeapSelectionError::UnsupportedVersion { .. })
    );
    if is_unsupported || any_metadata(store).is_none() {
        return Ok(Vec::new());
    }
    Ok(reader.journal_files()?)
}

fn any_metadata(store: &StoreInfo) -> Option<&Metadata> {
    store.heaps.iter().find_map(|heap| heap.state.metadata())
}

impl Report {
    fn print(&self, args: &StoreArgs) -> Result<()> {
        output::line(&format!("{}", args.store.display()))?;
        if let Some(metadata) = any_metadata(&self.store) {
            let parts = BinaryBytes(metadata.part_bytes);
            output::line(&format!(
                "  id {}, format 1, parts of {parts}",
                metadata.store_id
            ))?;
        }
        if let Some(bytes) = self.content_bytes {
            output::line(&format!("  imported from {bytes} bytes"))?;
        }
        if let Some(pid) = self.store.writer_pid {
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
        output::line(&match &self.store.selection {
            Ok(selection) => self.plan_line(selection),
            Err(error) => format!("  opening would fail: {error}"),
        })
    }

    fn plan_line(&self, selection: &HeapSelection) -> String {
        let first = &selection.primary;
        let how = if first.closed {
            format!(
                "clean shutdown at record {}",
                first.end_sequence.unwrap_or_default()
            )
        } else {
            "unclean shutdown, so it is verified first".to_owned()
        };
        let last = self
            .journal
            .iter()
            .filter_map(|file| Some(file.sequences?.1))
            .max();
        let last = last.map_or(0, Sequence::get);
        let records = last.saturating_sub(first.last_sequence.get());
        let fallback = match &selection.fallback {
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
        let open_plan = self.store.selection.as_ref().ok().map(|selection| {
            json!({
                "heap": selection.primary.heap.to_string(),
                "generation": selection.primary.generation.get(),
                "clean_shutdown": selection.primary.closed,
                "fallback_heap": selection.fallback.map(|second| second.heap.to_string()),
                "next_generation": selection.next_generation.get(),
            })
        });
        json!({
            "store_id": metadata.map(|metadata| metadata.store_id.to_string()),
            "format": 1,
            "part_bytes": metadata.map(|metadata| metadata.part_bytes),
            "content_bytes": self.content_bytes,
            "writer_pid": self.store.writer_pid,
            "open_plan": open_plan,
            "error": self.store.selection.as_ref().err().map(ToString::to_string),
            "heaps": self.store.heaps.iter().map(heap_object).collect::<Vec<_>>(),
            "journal": self.journal.iter().map(journal_object).collect::<Vec<_>>(),
        })
    }
}

fn heap_line(heap: &HeapInfo) -> String {
    let (state, metadata) = match &heap.state {
        HeapState::Missing => return "missing".to_owned(),
        HeapState::UnsupportedVersion(version) => return format!("unsupported version {version}"),
        HeapState::Corrupt(_) => return "corrupt, no copy of METADATA is valid".to_owned(),
        HeapState::Incomplete(metadata) => ("incomplete", metadata),
        HeapState::Complete(metadata) if metadata.closed => ("complete, clean shutdown", metadata),
        HeapState::Complete(metadata) => ("complete", metadata),
    };
    format!(
        "{state}; generation {}, region of {}, record {}, committed {}",
        metadata.generation,
        BinaryBytes(metadata.payload_bytes),
        metadata.last_sequence,
        time(nanoseconds(metadata.committed_at)),
    )
}

fn header_errors(heap: &HeapInfo) -> impl Iterator<Item = (usize, String)> {
    let copies = heap.metadata_copies.iter().flatten().enumerate();
    copies.filter_map(|(copy, outcome)| Some((copy, outcome.err()?.to_string())))
}

fn journal_line(file: &JournalFileInfo) -> String {
    let name = LogicalFile::Journal(file.number);
    let len = BinaryBytes(file.len_bytes);
    if let Some(error) = file.header_error {
        return format!("{name}: {len}, header: {error}");
    }
    let sequences = match file.sequences {
        Some((first, last)) => format!(", {first} to {last}"),
        None => String::new(),
    };
    let records = count(file.records, "record");
    let sealed = if file.sealed { ", sealed" } else { "" };
    let rest = match file.len_bytes.saturating_sub(file.records_end_offset) {
        0 => String::new(),
        bytes => format!(", {bytes} bytes after them"),
    };
    format!("{name}: {len}, {records}{sequences}{sealed}{rest}")
}

fn heap_object(heap: &HeapInfo) -> Value {
    let state = match heap.state {
        HeapState::Missing => "missing",
        HeapState::UnsupportedVersion(_) => "unsupported_version",
        HeapState::Corrupt(_) => "corrupt",
        HeapState::Incomplete(_) => "incomplete",
        HeapState::Complete(_) => "complete",
    };
    let copies: Vec<_> = heap
        .metadata_copies
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
        "actual_bytes": heap.actual_bytes,
    })
}

fn metadata_object(metadata: &Metadata) -> Value {
    json!({
        "generation": metadata.generation.get(),
        "complete": metadata.complete,
        "closed": metadata.closed,
        "revision": metadata.revision,
        "payload_bytes": metadata.payload_bytes,
        "tree_root_hash": format!("{:016x}", metadata.tree_root_hash),
        "last_sequence": metadata.last_sequence.get(),
        "last_record_checksum": format!("{:016x}", metadata.last_record_checksum),
        "first_journal": metadata.first_journal.get(),
        "end_sequence": metadata.end_sequence.map(Sequence::get),
        "committed_at_ns": nanoseconds(metadata.committed_at),
        "min_base_generation": metadata.min_base_generation.get(),
    })
}

fn journal_object(file: &JournalFileInfo) -> Value {
    json!({
        "number": file.number.get(),
        "len_bytes": file.len_bytes,
        "header_error": file.header_error.map(|error| error.to_string()),
        "records": file.records,
        "records_end_offset": file.records_end_offset,
        "first_sequence": file.sequences.map(|(first, _)| first.get()),
        "last_sequence": file.sequences.map(|(_, last)| last.get()),
        "sealed": file.sealed,
    })
}
