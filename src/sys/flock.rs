//! Locks of open file descriptions with a timeout.
//!
//! See [`flock(2)`](https://man7.org/linux/man-pages/man2/flock.2.html).

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

/// Time in which a lock of a dead owner disappears.
///
/// A killed process takes a moment to exit. A child shares the locks of its parent between fork and
/// exec.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_millis(300);

/// Takes an exclusive lock. Returns `false` if another open file description holds it until the
/// timeout.
pub(crate) fn lock_timeout(file: &File, timeout: Duration) -> io::Result<bool> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if started.elapsed() >= timeout => return Ok(false),
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
