//! `flatspan verify`.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Error, Result};
use flatspan::snapshot::{Problem, ProblemKind, StoreVerifyReport};
use serde_json::{Value, json};

use crate::cli::VerifyArgs;
use crate::format::count;
use crate::progress::Bar;
use crate::signals::Cancel;
use crate::{exit_code, output};

pub(crate) fn run(args: &VerifyArgs) -> Result<u8> {
    let cancel = Cancel::on_signal()?;
    let mut highest = exit_code::OK;
    for store in &args.stores {
        let code = match verify(store, args, &cancel) {
            Ok(report) => {
                print(store, &report, args)?;
                code_of(&report)
            }
            Err(error) => {
                let code = output::exit_code(&error);
                print_error(store, &error, code, args)?;
                code
            }
        };
        highest = highest.max(code);
        if cancel.is_requested() {
            return Ok(exit_code::INTERRUPTED);
        }
    }
    Ok(highest)
}

fn verify(store: &Path, args: &VerifyArgs, cancel: &Cancel) -> Result<StoreVerifyReport> {
    let reader = output::reader(store)?;
    if !args.allow_page_cache {
        reader.drop_page_cache()?;
    }
    let bar = Bar::new(&store.display().to_string(), 0);
    let report = reader.verify(|progress| {
        let message = format!("{}, heap {}", store.display(), progress.heap);
        bar.restart(message, progress.total_bytes);
        bar.set(progress.done_bytes);
        if cancel.is_requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(report)
}

fn code_of(report: &StoreVerifyReport) -> u8 {
    let is_unreadable = |problem: &Problem| matches!(problem.kind, ProblemKind::Unreadable { .. });
    if !report.complete {
        exit_code::INTERRUPTED
    } else if report.problems.iter().any(is_unreadable) {
        exit_code::FAILED
    } else if report.is_ok() {
        exit_code::OK
    } else {
        exit_code::FOUND
    }
}

fn print(store: &Path, report: &StoreVerifyReport, args: &VerifyArgs) -> Result<()> {
    if args.json {
        return output::json(&object(store, report));
    }
    let path = store.display();
    for problem in &report.problems {
        output::line(&format!("{path}: {problem}"))?;
    }
    if report.omitted_problems > 0 {
        output::line(&format!("{path}: and {} more", report.omitted_problems))?;
    }
    for note in &report.notes {
        output::line(&format!("{path}: note: {note}"))?;
    }
    let verdict = match (report.complete, report.is_ok()) {
        (false, _) => "interrupted after",
        (true, true) => "ok,",
        (true, false) => "CORRUPT,",
    };
    let heaps: Vec<_> = report.heaps.iter().map(ToString::to_string).collect();
    output::line(&format!(
        "{path}: {verdict} {} in heaps {}, {}, {}",
        count(report.verified_pages, "page"),
        heaps.join(" and "),
        count(report.verified_records, "journal record"),
        count(
            report.problems.len() as u64 + report.omitted_problems,
            "problem"
        ),
    ))
}

fn object(store: &Path, report: &StoreVerifyReport) -> Value {
    json!({
        "store": store.to_string_lossy(),
        "ok": report.is_ok(),
        "complete": report.complete,
        "heaps": report.heaps.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "verified_pages": report.verified_pages,
        "verified_records": report.verified_records,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
        "omitted_problems": report.omitted_problems,
        "notes": report.notes,
    })
}

fn problem(problem: &Problem) -> Value {
    let pages = problem.kind.pages().filter(|pages| !pages.is_empty());
    json!({
        "file": problem.file.to_string(),
        "kind": problem.kind.name(),
        "message": problem.to_string(),
        "first_page": pages.as_ref().map(|pages| pages.start),
        "last_page": pages.as_ref().map(|pages| pages.end - 1),
    })
}

/// Reports the error here, since the command continues with the next store.
fn print_error(store: &Path, error: &Error, code: u8, args: &VerifyArgs) -> Result<()> {
    eprintln!("flatspan: {error:#}");
    if !args.json {
        return Ok(());
    }
    let error = format!("{error:#}");
    output::json(&json!({ "store": store.to_string_lossy(), "error": error, "exit_code": code }))
}
