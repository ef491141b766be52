//! Who keeps the state: one of the two kinds, opened, asked for snapshots, closed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use flatspan::shm::queue::{Host, HostOptions, QueueError, Snapshot};
use flatspan::shm::{SharedFile, Unaware, UnawareError, UnawareOptions};
use flatspan::snapshot::{
    CheckpointKind, CheckpointReport, OpenReport, SnapshotError, StoreOptions,
};

use crate::cli::{Cli, How};
use crate::standing::{CommandEnded, Standing};

pub(crate) enum Keeper {
    Unaware(Box<Unaware>),
    Queue(Box<Host>),
}

/// What a snapshot came to.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Nothing has changed, or nothing was committed.
    Nothing,
    /// The program has no queue.
    NoQueue,
    /// The command has ended before it could be stopped: whether its memory is kept is seen then.
    Ended,
    Starved {
        attempts: u32,
    },
    Taken(Taken),
}

#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// Of the store; of the program where that commits.
    pub(crate) generation: u64,
    pub(crate) pages: u64,
    pub(crate) bytes: u64,
    pub(crate) pause: Duration,
    pub(crate) took: Duration,
}

impl Keeper {
    /// Restores the state into the memory, unless that is live.
    /// Whoever is to be stopped for a snapshot is by `standing`; not where the program commits.
    pub(crate) fn open(
        cli: &Cli,
        memory: &SharedFile,
        standing: Option<&Arc<Standing>>,
    ) -> Result<Self> {
        let store = || format!("store {}", cli.store.display());
        if cli.snapshot == How::Queue {
            let mut options = StoreOptions::default();
            if let Some(bytes) = cli.part_len {
                options = options.part_bytes(bytes).change_part_bytes(true);
            }
            let options = HostOptions::default().store(options);
            let host = Host::open(&cli.store, memory.try_clone()?, options);
            return Ok(Self::Queue(Box::new(host.with_context(store)?)));
        }
        let mut options = UnawareOptions::default();
        if let Some(standing) = standing {
            options = options.standstill(Arc::<Standing>::clone(standing));
        }
        if let Some(bytes) = cli.part_len {
            options = options.part_bytes(bytes);
        }
        let unaware = Unaware::open(&cli.store, memory, options);
        Ok(Self::Unaware(Box::new(unaware.with_context(store)?)))
    }

    /// Restores the newest state into a live memory. What programs have committed is never undone.
    pub(crate) fn roll_back(&mut self) -> Result<()> {
        match self {
            Self::Unaware(unaware) => Ok(unaware.roll_back()?),
            Self::Queue(_) => Ok(()),
        }
    }

    pub(crate) fn restored(&self) -> bool {
        match self {
            Self::Unaware(unaware) => unaware.restored(),
            Self::Queue(host) => host.restored(),
        }
    }

    pub(crate) fn open_report(&self) -> &OpenReport {
        match self {
            Self::Unaware(unaware) => unaware.open_report(),
            Self::Queue(host) => host.open_report(),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        match self {
            Self::Unaware(unaware) => unaware.generation(),
            Self::Queue(host) => host.persisted().unwrap_or(0),
        }
    }

    pub(crate) fn snapshot(&mut self) -> Result<Outcome> {
        let taken = match self {
            Self::Unaware(unaware) => unaware.snapshot_once().map_err(Error::from).map(Into::into),
            Self::Queue(host) => host.snapshot_once().map_err(Error::from).map(Into::into),
        };
        match taken {
            Err(error) if is_of_the_end(&error) => Ok(Outcome::Ended),
            taken => taken,
        }
    }

    /// Writes everything once more where that is not so yet, so that the next start is quick.
    pub(crate) fn close(self) -> Result<()> {
        match self {
            Self::Unaware(unaware) => Ok(unaware.close()?),
            Self::Queue(host) => Ok(host.close()?),
        }
    }
}

/// Only opening the store again helps.
pub(crate) fn is_poisoned(error: &Error) -> bool {
    matches!(of_store(error), Some(SnapshotError::Poisoned { .. }))
}

/// There was nobody left to be stopped.
fn is_of_the_end(error: &Error) -> bool {
    let Some(SnapshotError::Standstill(why)) = of_store(error) else {
        return false;
    };
    why.get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync + 'static>::is::<CommandEnded>)
}

/// What the store has said. The errors around it are transparent: in a chain they stand for it.
fn of_store(error: &Error) -> Option<&SnapshotError> {
    error.chain().find_map(|cause| {
        if let Some(UnawareError::Store(error)) = cause.downcast_ref() {
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
            CheckpointKind::Nothing => Self::Nothing,
            _ => Self::Taken(Taken {
                generation: report.generation,
                pages: report.pages,
                bytes: report.bytes,
                pause: report.pause,
                took: report.took,
            }),
        }
    }
}

impl From<Snapshot> for Outcome {
    fn from(snapshot: Snapshot) -> Self {
        match snapshot {
            Snapshot::NoQueue => Self::NoQueue,
            Snapshot::Starved { attempts } => Self::Starved { attempts },
            Snapshot::Persisted {
                generation,
                pages,
                checkpoint,
                ..
            } => Self::Taken(Taken {
                generation,
                pages,
                bytes: checkpoint.bytes,
                // The program does not wait.
                pause: Duration::ZERO,
                took: checkpoint.took,
            }),
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_command_is_known_from_what_else_cannot_be_stopped() {
        let ended = || SnapshotError::Standstill(std::io::Error::other(CommandEnded));
        assert!(is_of_the_end(&UnawareError::from(ended()).into()));
        let refused = SnapshotError::Standstill(std::io::Error::other("it is not allowed"));
        assert!(!is_of_the_end(&UnawareError::from(refused).into()));
    }

    #[test]
    fn a_poisoned_store_is_known_through_what_is_around_its_error() {
        let poisoned = || SnapshotError::Poisoned {
            why: "a sync failed".to_owned(),
        };
        for error in [
            Error::from(UnawareError::from(poisoned())),
            Error::from(QueueError::from(poisoned())),
            Error::from(poisoned()),
            Error::from(UnawareError::from(poisoned())).context("around it"),
        ] {
            assert!(is_poisoned(&error), "{error:?}");
        }
        for error in [
            Error::from(UnawareError::from(SnapshotError::MemoryLost)),
            Error::from(QueueError::from(SnapshotError::MemoryLost)),
            Error::from(QueueError::InUse),
            Error::msg("the store is poisoned"),
        ] {
            assert!(!is_poisoned(&error), "{error:?}");
        }
    }
}
