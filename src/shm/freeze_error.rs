//! Error type of freezing a process tree.

use std::io;
use std::time::Duration;

/// Reason why a process tree cannot be frozen. All its threads continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// The kernel refuses to trace a process.
    #[error("cannot stop process {pid}{}", explain_refusal(*tracer, yama.as_deref()))]
    PermissionDenied {
        /// Process id.
        pid: u32,
        /// Thread that already traces it.
        tracer: Option<u32>,
        /// Value of `kernel.yama.ptrace_scope`, if the kernel has it.
        yama: Option<String>,
        /// Error of ptrace(2).
        source: io::Error,
    },
    /// A thread does not stop in time, since it is in an uninterruptible system call.
    #[error(
        "thread {thread} of process {pid} does not stop within {} s (its state is {state})",
        timeout.as_secs_f64()
    )]
    Timeout {
        /// Process id.
        pid: u32,
        /// Thread id.
        thread: u32,
        /// State letter in `/proc`. `D` is an uninterruptible wait.
        state: char,
        /// Timeout of all attempts.
        timeout: Duration,
    },
    /// A fault signal or SIGKILL is about to kill a thread, which did not exit in time.
    #[error("thread {thread} of process {pid} is about to be killed by a signal")]
    FatalSignalPending {
        /// Process id.
        pid: u32,
        /// Thread id.
        thread: u32,
    },
    /// A system call failed.
    ///
    /// With `/proc` mounted with `hidepid=1`, processes of other users cannot be inspected. They
    /// may be descendants.
    #[error("cannot {operation}")]
    Io {
        /// Attempted operation.
        operation: &'static str,
        /// Error of the system call.
        source: io::Error,
    },
}

fn explain_refusal(tracer: Option<u32>, yama: Option<&str>) -> String {
    match (tracer, yama) {
        (Some(tracer), _) => format!(": process {tracer} already traces it"),
        (None, Some(scope)) if scope != "0" => format!(
            ": kernel.yama.ptrace_scope is {scope} (1 permits children only), or the process has \
             more privileges than this one"
        ),
        _ => ": it may have more privileges than this process".to_owned(),
    }
}

impl FreezeError {
    /// Returns a closure for `map_err`.
    pub(super) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }

    /// Returns the error of the last attempt with the timeout of all attempts.
    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        match self {
            Self::Timeout {
                pid, thread, state, ..
            } => Self::Timeout {
                pid,
                thread,
                state,
                timeout,
            },
            other => other,
        }
    }
}

impl From<FreezeError> for io::Error {
    fn from(error: FreezeError) -> Self {
        let kind = match &error {
            FreezeError::PermissionDenied { source, .. } | FreezeError::Io { source, .. } => {
                source.kind()
            }
            FreezeError::Timeout { .. } | FreezeError::FatalSignalPending { .. } => {
                io::ErrorKind::TimedOut
            }
        };
        Self::new(kind, error)
    }
}
