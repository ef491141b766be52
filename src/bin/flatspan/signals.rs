//! SIGINT and SIGTERM as a flag that commands check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit_code;

/// The flag. The first signal sets it; a second one exits at once.
#[derive(Clone)]
pub(crate) struct Cancel(Arc<AtomicBool>);

/// The error of a command that was interrupted; it has an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("interrupted, nothing written")]
pub(crate) struct Interrupted;

impl Cancel {
    pub(crate) fn on_signal() -> Result<Self> {
        let cancel = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(
                signal,
                exit_code::INTERRUPTED.into(),
                Arc::clone(&cancel),
            )
            .and_then(|_| flag::register(signal, Arc::clone(&cancel)))
            .context("cannot handle signals")?;
        }
        Ok(Self(cancel))
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        if self.is_requested() {
            return Err(Interrupted);
        }
        Ok(())
    }
}
