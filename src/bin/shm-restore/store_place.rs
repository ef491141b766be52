//! What is where the store should be.

use std::io;
use std::path::Path;

use anyhow::{Result, anyhow, bail};

/// Refuses what is no directory, in particular a raw file of a state. What is wrong inside of one is found by opening it.
pub(crate) fn check(store: &Path) -> Result<()> {
    let shown = store.display();
    match store.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(found) if found.is_file() => bail!(
            "{shown} is a file and no store; `flatspan import {shown} NEW_STORE` makes a store of its bytes"
        ),
        Ok(_) => bail!("{shown} is no directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(anyhow!(error).context(format!("store {shown}"))),
    }
}
