//! The host that persists the state: transparent, or with a queue.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use flatspan::shm::queue::{Generation, QueueError, QueueHost, QueueHostOptions, SnapshotOutcome};
use flatspan::shm::{Memfd, TransparentHost, TransparentHostError, TransparentHostOptions};
use flatspan::snapshot::{CheckpointKind, CheckpointReport, OpenReport, StoreError, StoreOptions};

use crate::cli::{Cli, Mode};
use crate::freeze_command::{CommandExited, CommandFreezer};

pub(crate) enum StateHost {
    Transparent(Box<TransparentHost>),
    Queue(Box<QueueHost>),
}

/// The result of a snapshot.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The memory has no changes, or the client committed none.
    Unchanged,
    /// The memory has no queue.
    NoQueue,
    /// The command exited before it could be frozen; its exit status decides about the memory.
    CommandExited,
    Starved {
        attempts: u32,
    },
    Persisted(Persisted),
}

/// A snapshot that is durable.
#[derive(Clone, Debug)]
pub(crate) struct Persisted {
    /// The generation of the store; in mode `queue` that of the client.
    pub(crate) generation: u64,
    pub(crate) pages: u64,
    pub(crate) bytes: u64,
    pub(crate) pause: Duration,
    pub(crate) duration: Duration,
}

impl StateHost {
    /// Opens the store and restores the state into the memory, unless the memory is restored
    /// already. `freezer` quiesces the programs for a snapshot, except in mode `queue`.
    pub(crate) fn open(
        cli: &Cli,
        memory: &Memfd,
        freezer: Option<&Arc<CommandFreezer>>,
    ) -> Result<Self> {
        let context = || format!("store {}", cli.store.display());
        if cli.mode == Mode::Queue {
            let mut options = StoreOptions::default();
            if let Some(bytes) = cli.part_size {
                options = options.part_bytes(bytes).convert_part_bytes(true);
            }
            let options = QueueHostOptions::default().store_options(options);
            let host = QueueHost::open(&cli.store, memory.try_clone()?, options);
            return Ok(Self::Queue(Box::new(host.with_context(context)?)));
        }
        let mut options = TransparentHostOptions::default();
        if let Some(freezer) = freezer {
            options = options.quiesce_with(Arc::<CommandFreezer>::clone(freezer));
        }
        if let Some(bytes) = cli.part_size {
            options = options.part_bytes(bytes);
        }
        let host = TransparentHost::open(&cli.store, memory, options);
        Ok(Self::Transparent(Box::new(host.with_context(context)?)))
    }

    /// Restores the newest state into a memory that was restored before. Committed updates of a
    /// queue are never undone.
    pub(crate) fn rollback(&mut self) -> Result<()> {
        match self {
            Self::Transparent(host) => Ok(host.rollback()?),
            Self::Queue(_) => Ok(()),
        }
    }

    pub(crate) fn was_restored(&self) -> bool {
        match self {
            Self::Transparent(host) => host.was_restored(),
            Self::Queue(host) => host.was_restored(),
        }
    }

    pub(crate) fn open_report(&self) -> &OpenReport {
        match self {
            Self::Transparent(host) => host.open_report(),
            Self::Queue(host) => host.open_report(),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        match self {
            Self::Transparent(host) => host.generation().get(),
            Self::Queue(host) => host.persisted().map_or(0, Generation::get),
        }
    }

    pub(crate) fn snapshot(&mut self) -> Result<Outcome> {
        let outcome = match self {
            Self::Transparent(host) => host.snapshot().map_err(Error::from).map(Into::into),
            Self::Queue(host) => host.snapshot().map_err(Error::from).map(Into::into),
        };
        match outcome {
            Err(error) if is_command_exit(&error) => Ok(Outcome::CommandExited),
            outcome => outcome,
        }
    }

    /// Closes the store cleanly, so that the next start need not verify it.
    pub(crate) fn close(self) -> Result<()> {
        match self {
            Self::Transparent(host) => Ok(host.close()?),
            Self::Queue(host) => Ok(host.close()?),
        }
    }
}

/// Returns whether the store is poisoned; it must be opened again.
pub(crate) fn is_poisoned(error: &Error) -> bool {
    matches!(store_error(error), Some(StoreError::Poisoned { .. }))
}

/// Returns whether the snapshot failed because the command had exited.
fn is_command_exit(error: &Error) -> bool {
    let Some(StoreError::Quiesce(cause)) = store_error(error) else {
        return false;
    };
    cause
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<CommandExited>)
}

/// The error of the store. The errors around it are transparent, so the chain of sources lacks it.
fn store_error(error: &Error) -> Option<&StoreError> {
    error.chain().find_map(|cause| {
        if let Some(TransparentHostError::Store(error)) = cause.downcast_ref() {
            return Some(error);
        }
        if let Some(QueueError::Store(error)) = cause.downcast_ref() {
            return Some(error);
        }
        cause.downcast_ref()
    })
}

impl From<CheckpointReport> for Outcome {
    fn from(report: CheckpointReport) -> Self {
        match report.kind {
            CheckpointKind::Unchanged => Self::Unchanged,
            _ => Self::Persisted(Persisted {
                generation: report.generation.get(),
                pages: report.written_pages,
                bytes: report.written_bytes,
                pause: report.pause_duration,
                duration: report.duration,
            }),
        }
    }
}

impl From<SnapshotOutcome> for Outcome {
    fn from(snapshot: SnapshotOutcome) -> Self {
        match snapshot {
            SnapshotOutcome::NoQueue => Self::NoQueue,
            SnapshotOutcome::Starved { attempts } => Self::Starved { attempts },
            SnapshotOutcome::Persisted {
                generation,
                pages,
                checkpoint,
                ..
            } => Self::Persisted(Persisted {
                generation: generation.get(),
                pages,
                bytes: checkpoint.written_bytes,
                // The client does not wait.
                pause: Duration::ZERO,
                duration: checkpoint.duration,
            }),
            _ => Self::Unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_of_the_command_differs_from_other_errors_of_freezing() {
        let exited = || StoreError::Quiesce(std::io::Error::other(CommandExited));
        assert!(is_command_exit(
            &TransparentHostError::from(exited()).into()
        ));
        let refused = StoreError::Quiesce(std::io::Error::other("not permitted"));
        assert!(!is_command_exit(
            &TransparentHostError::from(refused).into()
        ));
    }

    #[test]
    fn a_poisoned_store_is_detected_inside_other_errors() {
        let poisoned = || StoreError::Poisoned {
            why: "a sync failed".to_owned(),
        };
        for error in [
            Error::from(TransparentHostError::from(poisoned())),
            Error::from(QueueError::from(poisoned())),
            Error::from(poisoned()),
            Error::from(TransparentHostError::from(poisoned())).context("context"),
        ] {
            assert!(is_poisoned(&error), "{error:?}");
        }
        for error in [
            Error::from(TransparentHostError::from(StoreError::MemoryLost)),
            Error::from(QueueError::from(StoreError::MemoryLost)),
            Error::from(QueueError::InUse),
            Error::msg("the store is poisoned"),
        ] {
            assert!(!is_poisoned(&error), "{error:?}");
        }
    }
}
