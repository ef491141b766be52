//! `flatspan verify`.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Error, Result};
use flatspan::snapshot::{Fault, FaultKind, Verified};
use serde_json::{Value, json};

use crate::cancel::Cancel;
use crate::cli::VerifyArgs;
use crate::progress::Bar;
use crate::text::count;
use crate::{exit, output};

pub(crate) fn run(args: &VerifyArgs) -> Result<u8> {
    let cancel = Cancel::on_signal()?;
    let mut worst = exit::OK;
    for store in &args.stores {
        let code = match verify(store, args, &cancel) {
            Ok(found) => {
                print(store, &found, args)?;
                code_of(&found)
            }
            Err(error) => {
                let code = output::exit_code(&error);
                print_failure(store, &error, code, args)?;
                code
            }
        };
        worst = worst.max(code);
        if cancel.is_asked() {
            return Ok(exit::INTERRUPTED);
        }
    }
    Ok(worst)
}

fn verify(store: &Path, args: &VerifyArgs, cancel: &Cancel) -> Result<Verified> {
    let reader = output::reader(store)?;
    if !args.cached {
        reader.forget_cached()?;
    }
    let bar = Bar::new(&store.display().to_string(), 0);
    let found = reader.verify(|progress| {
        let what = format!("{}, heap {}", store.display(), progress.heap);
        bar.restart(what, progress.total_bytes);
        bar.set(progress.done_bytes);
        if cancel.is_asked() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(found)
}

fn code_of(found: &Verified) -> u8 {
    let unread = |fault: &Fault| matches!(fault.kind, FaultKind::Unreadable { .. });
    match found.faults.iter().any(unread) {
        _ if !found.complete => exit::INTERRUPTED,
        true => exit::FAILED,
        false if found.is_good() => exit::OK,
        false => exit::FOUND,
    }
}

fn print(store: &Path, found: &Verified, args: &VerifyArgs) -> Result<()> {
    if args.json {
        return output::json(&object(store, found));
    }
    for fault in &found.faults {
        output::line(&format!("{}: {fault}", store.display()))?;
    }
    if found.more_faults > 0 {
        output::line(&format!(
            "{}: and {} more",
            store.display(),
            found.more_faults
        ))?;
    }
    for note in &found.notes {
        output::line(&format!("{}: note: {note}", store.display()))?;
    }
    let verdict = match (found.complete, found.is_good()) {
        (false, _) => "interrupted, so far",
        (true, true) => "ok,",
        (true, false) => "DAMAGED,",
    };
    let heaps: Vec<_> = found.heaps.iter().map(ToString::to_string).collect();
    output::line(&format!(
        "{}: {verdict} {} in heaps {}, {}, {}",
        store.display(),
        count(found.pages, "page"),
        heaps.join(" and "),
        count(found.records, "journal record"),
        count(found.faults.len() as u64 + found.more_faults, "fault"),
    ))
}

fn object(store: &Path, found: &Verified) -> Value {
    json!({
        "store": store.to_string_lossy(),
        "ok": found.is_good(),
        "complete": found.complete,
        "heaps": found.heaps.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "pages": found.pages,
        "records": found.records,
        "faults": found.faults.iter().map(fault).collect::<Vec<_>>(),
        "more_faults": found.more_faults,
        "notes": found.notes,
    })
}

fn fault(fault: &Fault) -> Value {
    let pages = fault.kind.pages().filter(|pages| !pages.is_empty());
    json!({
        "array": fault.array.to_string(),
        "kind": fault.kind.name(),
        "text": fault.to_string(),
        "first_page": pages.as_ref().map(|pages| pages.start),
        "last_page": pages.as_ref().map(|pages| pages.end - 1),
    })
}

/// Goes on to the next store, so the error is told here.
fn print_failure(store: &Path, error: &Error, code: u8, args: &VerifyArgs) -> Result<()> {
    eprintln!("flatspan: {error:#}");
    if !args.json {
        return Ok(());
    }
    let error = format!("{error:#}");
    output::json(&json!({ "store": store.to_string_lossy(), "error": error, "exit_code": code }))
}
