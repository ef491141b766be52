//! Reason for the absence of passed descriptors.

/// Reason why the parent passed no descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Absence {
    /// `LISTEN_FDS` is not set.
    #[error("LISTEN_FDS is not set")]
    NotSet,
    /// `LISTEN_PID` names another process, usually an ancestor of this one.
    #[error("LISTEN_PID names process {pid}, not this one")]
    ForProcess {
        /// Process id.
        pid: u32,
    },
    /// `LISTEN_PIDFDID` names an earlier process with the same process id.
    #[error("LISTEN_PIDFDID names an earlier process with the same process id")]
    ForEarlierProcess,
}
