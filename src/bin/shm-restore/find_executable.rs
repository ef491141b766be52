//! Checks that the command can be executed, before the store is touched.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flatspan::shm::ShmError;
use rustix::io::Errno;

/// The search path of execvp(3) if `PATH` is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Searches as execvp(3) does. Errors that only the kernel can detect (a missing interpreter,
/// another architecture) are reported later.
pub(crate) fn check(program: &OsStr) -> Result<(), ShmError> {
    let mut errno = Errno::NOENT;
    for file in candidates(program) {
        match is_executable(&file) {
            Ok(true) => return Ok(()),
            Ok(false) => errno = Errno::ACCESS,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => errno = Errno::ACCESS,
            Err(_) => {}
        }
    }
    Err(ShmError::Exec {
        program: program.to_owned(),
        source: errno.into(),
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
        .map(|directory| directory.join(program))
        .collect()
}

/// Returns whether any user may execute the file; the kernel checks the permission of this user.
fn is_executable(file: &Path) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
