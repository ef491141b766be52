//! The path given as STORE.

use std::io;
use std::path::Path;

use anyhow::{Result, anyhow, bail};

/// Refuses a path that is not a directory, in particular a raw file. The content of a directory is
/// checked by opening the store.
pub(crate) fn check(store: &Path) -> Result<()> {
    let path = store.display();
    match store.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(metadata) if metadata.is_file() => bail!(
            "{path} is a file, not a store; create a store from it with `flatspan import {path} NEW_STORE`"
        ),
        Ok(_) => bail!("{path} is not a directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(anyhow!(error).context(format!("store {path}"))),
    }
}
