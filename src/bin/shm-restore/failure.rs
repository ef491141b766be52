//! How this program ends by its own fault.

use anyhow::Error;
use flatspan::shm::ShmError;

/// Exit codes, as env(1) and timeout(1) have them.
pub(crate) mod exit {
    pub(crate) const FAILED: u8 = 125;
    pub(crate) const NOT_EXECUTABLE: u8 = 126;
    pub(crate) const NOT_FOUND: u8 = 127;
    /// And the number of a signal.
    pub(crate) const SIGNALLED: i32 = 128;
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: Error,
}

pub(crate) type Outcome<T> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: exit::FAILED,
            error,
        }
    }
}

impl From<ShmError> for Failure {
    fn from(error: ShmError) -> Self {
        let code = match &error {
            ShmError::Command { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                exit::NOT_FOUND
            }
            ShmError::Command { .. } => exit::NOT_EXECUTABLE,
            _ => exit::FAILED,
        };
        Self {
            code,
            error: error.into(),
        }
    }
}
