//! Can the command be executed? Asked before the store is touched.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flatspan::shm::ShmError;
use rustix::io::Errno;

/// Where execvp(3) looks when `PATH` is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Looks as `execvp` does. What only the kernel finds out (a missing interpreter, another architecture) is left to it.
pub(crate) fn check(program: &OsStr) -> Result<(), ShmError> {
    let mut found = Errno::NOENT;
    for file in candidates(program) {
        match is_executable(&file) {
            Ok(true) => return Ok(()),
            Ok(false) => found = Errno::ACCESS,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found = Errno::ACCESS,
            Err(_) => {}
        }
    }
    Err(ShmError::Command {
        program: program.to_owned(),
        source: found.into(),
    })
}

fn candidates(program: &OsStr) -> Vec<PathBuf> {
    if program.as_encoded_bytes().contains(&b'/') {
        return vec![program.into()];
    }
    if program.is_empty() {
        return Vec::new();
    }
    let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .collect()
}

/// By anybody; whether by us is left to the kernel.
fn is_executable(file: &Path) -> io::Result<bool> {
    let found = file.metadata()?;
    Ok(found.is_file() && found.permissions().mode() & 0o111 != 0)
}
