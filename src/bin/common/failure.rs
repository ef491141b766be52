//! Errors of `shm-fd` and `shm-restore`, each with its exit code.

use std::io;

use anyhow::Error;
use flatspan::shm::ShmError;

use crate::exit_code;

/// An error and the exit code that it leads to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: exit_code::WRAPPER_FAILED,
            error,
        }
    }
}

impl From<ShmError> for Failure {
    fn from(error: ShmError) -> Self {
        let code = match &error {
            ShmError::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                exit_code::NOT_FOUND
            }
            ShmError::Exec { .. } => exit_code::NOT_EXECUTABLE,
            _ => exit_code::WRAPPER_FAILED,
        };
        Self {
            code,
            error: error.into(),
        }
    }
}
