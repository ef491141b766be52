//! `flatspan rollback`.

use anyhow::{Context as _, Result, bail};
use flatspan::snapshot::{CurrentState, History, HistorySnapshot};
use serde_json::json;

use crate::cli::RollbackArgs;
use crate::format::BinaryBytes;
use crate::{exit_code, output};

pub(crate) fn run(args: &RollbackArgs) -> Result<u8> {
    // A directory without a store is an error of its own.
    output::reader(&args.store)?;
    let path = args.store.display();
    let history = History::new(&args.store);
    let is_wanted = |snapshot: &HistorySnapshot| snapshot.name() == args.snapshot;
    if !history.list()?.iter().any(is_wanted) {
        bail!(
            "store {path} has no snapshot {}; `flatspan history {path}` lists them",
            args.snapshot
        );
    }
    let current = if args.discard_current {
        CurrentState::Discard
    } else {
        CurrentState::Keep
    };
    let rollback = history
        .rollback(&args.snapshot, current)
        .with_context(|| format!("cannot roll back store {path} to {}", args.snapshot))?;
    let replaced = rollback.replaced.as_ref().map(HistorySnapshot::name);
    if args.json {
        output::json(&json!({
            "store": args.store.to_string_lossy(),
            "snapshot": args.snapshot,
            "generation": rollback.generation.get(),
            "region_bytes": rollback.region_bytes,
            "replaced_snapshot": replaced,
        }))?;
        return Ok(exit_code::OK);
    }
    let replaced = match replaced {
        Some(name) => format!("; the replaced state is snapshot {name}"),
        None => String::new(),
    };
    output::line(&format!(
        "{path}: restored snapshot {} as generation {}, region of {}{replaced}",
        args.snapshot,
        rollback.generation,
        BinaryBytes(rollback.region_bytes)
    ))?;
    Ok(exit_code::OK)
}
