//! `flatspan history`.

use anyhow::{Error, Result};
use flatspan::snapshot::{History, HistorySnapshot, Image, StoreReader};
use serde_json::json;

use crate::cli::StoreArgs;
use crate::format::{BinaryBytes, count, nanoseconds, time};
use crate::{exit_code, output};

pub(crate) fn run(args: &StoreArgs) -> Result<u8> {
    // A directory without a store is an error, not an empty history.
    output::reader(&args.store)?;
    let snapshots = History::new(&args.store).list()?;
    let mut code = exit_code::OK;
    for snapshot in &snapshots {
        let image = StoreReader::open(snapshot.path()).and_then(|reader| reader.newest());
        code = code.max(print(args, snapshot, &image.map_err(Error::from))?);
    }
    if !args.json {
        output::line(&count(snapshots.len() as u64, "snapshot"))?;
    }
    Ok(code)
}

/// Prints a line for the snapshot, readable or not, and returns its exit code.
fn print(args: &StoreArgs, snapshot: &HistorySnapshot, image: &Result<Image>) -> Result<u8> {
    let code = match image {
        Ok(_) => exit_code::OK,
        Err(error) => output::exit_code(error),
    };
    if args.json {
        let readable = image.as_ref().ok();
        output::json(&json!({
            "name": snapshot.name(),
            "path": snapshot.path().to_string_lossy(),
            "generation": snapshot.generation().get(),
            "sequence": readable.map(|image| image.sequence().get()),
            "region_bytes": readable.map(Image::len),
            "created_at_ns": readable.map(|image| nanoseconds(image.metadata().committed_at)),
            "error": image.as_ref().err().map(|error| format!("{error:#}")),
        }))?;
        return Ok(code);
    }
    let description = match image {
        Ok(image) => format!(
            "created {}, region of {}",
            time(nanoseconds(image.metadata().committed_at)),
            BinaryBytes(image.len())
        ),
        Err(error) => format!("{error:#}"),
    };
    output::line(&format!("{:<12} {description}", snapshot.name()))?;
    Ok(code)
}
