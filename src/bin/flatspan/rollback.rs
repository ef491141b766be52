//! `flatspan rollback`.

use anyhow::{Context as _, Result, bail};
use flatspan::snapshot::History;

use crate::cli::RollbackArgs;
use crate::{exit_code, output};

pub(crate) fn run(args: &RollbackArgs) -> Result<u8> {
    output::reader(&args.store)?;
    let store = args.store.display();
    let history = History::of(&args.store);
    let snapshots = history.list()?;
    let Some(snapshot) = snapshots
        .iter()
        .find(|snapshot| snapshot.name() == args.snapshot)
    else {
        bail!(
            "store {store} has no snapshot {}; `flatspan history {store}` lists them",
            args.snapshot
        );
    };
    history
        .rollback(snapshot)
        .with_context(|| format!("cannot roll back store {store}"))?;
    output::line(&format!(
        "{store}: the newest state is now snapshot {}",
        args.snapshot
    ))?;
    Ok(exit_code::OK)
}
