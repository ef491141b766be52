//! Why a program could not be stopped.

use std::io;
use std::time::Duration;

/// Why a program could not be stopped. It goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// The system does not let us.
    #[error("process {pid} cannot be stopped{}", because(*tracer, yama.as_deref()))]
    Refused {
        /// Which one.
        pid: i32,
        /// Who traces it already.
        tracer: Option<i32>,
        /// What `kernel.yama.ptrace_scope` is, if it is there.
        yama: Option<String>,
        /// What the system said.
        source: io::Error,
    },
    /// A thread did not stop in time: it is in a system call that cannot be interrupted.
    #[error(
        "thread {thread} of process {pid} does not stop within {patience:?} (its state is {state})"
    )]
    Deadline {
        /// Of which process.
        pid: i32,
        /// Which thread.
        thread: i32,
        /// The kernel's letter for what it does; `D` is a wait that nothing interrupts.
        state: char,
        /// How long it had.
        patience: Duration,
    },
    /// A signal that kills it is on its way to a thread, of those that mean a fault, or SIGKILL, and it was not gone in time.
    #[error("thread {thread} of process {pid} is about to be killed by a signal")]
    Dying {
        /// Of which process.
        pid: i32,
        /// Which thread.
        thread: i32,
    },
    /// A system call failed; or, with a `/proc` that is mounted with `hidepid=1`, the look at processes of others, as they may be descendants.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn because(tracer: Option<i32>, yama: Option<&str>) -> String {
    match (tracer, yama) {
        (Some(tracer), _) => format!(": process {tracer} traces it"),
        (None, Some(scope)) if scope != "0" => format!(
            " (kernel.yama.ptrace_scope is {scope}; 1 permits children, and a program with more rights than this one never is)"
        ),
        _ => " (a program with more rights than this one?)".to_owned(),
    }
}

impl FreezeError {
    pub(super) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }

    /// When all tries are over.
    pub(super) fn after(self, all: Duration) -> Self {
        match self {
            Self::Deadline {
                pid, thread, state, ..
            } => Self::Deadline {
                pid,
                thread,
                state,
                patience: all,
            },
            other => other,
        }
    }
}

impl From<FreezeError> for io::Error {
    fn from(error: FreezeError) -> Self {
        let kind = match &error {
            FreezeError::Refused { source, .. } | FreezeError::Io { source, .. } => source.kind(),
            FreezeError::Deadline { .. } | FreezeError::Dying { .. } => io::ErrorKind::TimedOut,
        };
        Self::new(kind, error)
    }
}
