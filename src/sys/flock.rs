//! Locks of open files, waited for a moment. See [`flock(2)`](https://man7.org/linux/man-pages/man2/flock.2.html).

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

/// A child between its fork and its exec has the locks of its parent, and a killed process takes a moment to end.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_millis(300);

/// Locks it for this description alone. False if others did not give it back in time.
pub(crate) fn lock_timeout(file: &File, timeout: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= timeout => return Ok(false),
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
