//! Output, store access and exit codes, the same for all commands.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Error, Result};
use flatspan::snapshot::{HeapSelectionError, StoreError, StoreReader};
use serde_json::Value;

use crate::exit_code;
use crate::signals::Interrupted;

/// Opens a store for reading.
pub(crate) fn reader(store: &Path) -> Result<StoreReader> {
    StoreReader::open(store).with_context(|| format!("store {}", store.display()))
}

/// Returns the exit code of an error.
pub(crate) fn exit_code(error: &Error) -> u8 {
    if error.is::<Interrupted>() {
        return exit_code::INTERRUPTED;
    }
    let is_found = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<StoreError>())
        .any(is_corruption);
    if is_found {
        exit_code::FOUND
    } else {
        exit_code::FAILED
    }
}

/// Returns whether the error means corrupt data. An unsupported version does not: its data cannot
/// be checked.
pub(crate) fn is_corruption(error: &StoreError) -> bool {
    match error {
        StoreError::HeapSelection(error) => {
            !matches!(**error, HeapSelectionError::UnsupportedVersion { .. })
        }
        StoreError::Corrupt { .. } | StoreError::NoUsableHeap { .. } => true,
        // A missing part file.
        StoreError::Backend { source, .. } => source.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

pub(crate) fn is_broken_pipe(error: &Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints an object in one line.
pub(crate) fn json(value: &Value) -> Result<()> {
    line(&value.to_string())
}

pub(crate) fn line(text: &str) -> Result<()> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}
