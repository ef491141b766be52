//! What all commands say in the same way.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Error, Result};
use flatspan::snapshot::{NoHeap, SnapshotError, StoreReader};
use serde_json::Value;

use crate::cancel::Interrupted;
use crate::exit;

/// Opens a store to look at it.
pub(crate) fn reader(store: &Path) -> Result<StoreReader> {
    StoreReader::open(store).with_context(|| format!("store {}", store.display()))
}

/// The code for an error.
pub(crate) fn exit_code(error: &Error) -> u8 {
    if error.is::<Interrupted>() {
        return exit::INTERRUPTED;
    }
    let found = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<SnapshotError>());
    if found.into_iter().any(is_damage) {
        exit::FOUND
    } else {
        exit::FAILED
    }
}

/// A newer version cannot be judged, all other contradictions are damage.
pub(crate) fn is_damage(error: &SnapshotError) -> bool {
    match error {
        SnapshotError::NoHeap(error) => !matches!(**error, NoHeap::Version { .. }),
        SnapshotError::Damaged { .. } | SnapshotError::NothingGood { .. } => true,
        // A row of files with a gap.
        SnapshotError::Disk { source, .. } => source.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

pub(crate) fn is_broken_pipe(error: &Error) -> bool {
    let mut kinds = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    kinds.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// One object, in a line.
pub(crate) fn json(value: &Value) -> Result<()> {
    line(&value.to_string())
}

pub(crate) fn line(text: &str) -> Result<()> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}
