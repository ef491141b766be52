//! Passing descriptors to a program.
//!
//! A program expects them from number 3 on.
//! [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html) with `F_DUPFD_CLOEXEC` moves
//! each one there, since it returns the lowest free number from 3 on. Descriptors of other code are
//! therefore never closed or replaced, and no `unsafe` code runs between fork and exec. A passed
//! descriptor that has the number of another one is moved first. A number that other code uses is
//! an error.
//!
//! Other tools overwrite such descriptors: systemd closes all others between fork and exec, and the
//! tools of s6 replace them. That is safe in a child that only calls exec. Here a descriptor 3 that
//! a shell opened on purpose would be lost silently.

use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use super::error::ShmError;
use super::fd_name::{check, join};
use super::listen_fds::{FIRST_FD, LISTEN_FDNAMES, LISTEN_FDS, LISTEN_PID, LISTEN_PIDFDID};
use crate::sys::fcntl;

/// Named descriptors to pass to a program, in order.
///
/// # Examples
///
/// ```no_run
/// use std::process::Command;
///
/// use flatspan::shm::{FdPassing, SHARED_FD_NAME, Memfd};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memfd = Memfd::create("counters", 4096)?;
/// let mut passing = FdPassing::new();
/// passing.push(SHARED_FD_NAME, memfd)?;
/// let placed = passing.place_fds()?;
/// let status = placed.spawn(&mut Command::new("./counter"))?.wait()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct FdPassing {
    passed: Vec<NamedFd>,
}

#[derive(Debug)]
struct NamedFd {
    name: String,
    fd: OwnedFd,
}

/// Descriptors at the numbers where a program expects them.
///
/// They keep these numbers until this is dropped. Only children that it starts inherit them.
#[derive(Debug)]
pub struct PlacedFds {
    passed: Vec<NamedFd>,
}

impl FdPassing {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a descriptor.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::InvalidFdName`] if `LISTEN_FDNAMES` cannot carry the name.
    pub fn push(&mut self, name: &str, fd: impl Into<OwnedFd>) -> Result<(), ShmError> {
        check(name)?;
        self.passed.push(NamedFd {
            name: name.to_owned(),
            fd: fd.into(),
        });
        Ok(())
    }

    /// Moves the descriptors to the numbers from 3 on.
    ///
    /// Must be called before other files are opened, since these would get such numbers.
    /// Descriptors from [`ListenFds`](super::ListenFds) have other numbers already.
    ///
    /// # Errors
    ///
    /// All descriptors are closed on error.
    ///
    /// - [`ShmError::FdNumberInUse`] if this process has opened, or inherited, one of the numbers.
    /// - [`ShmError::Io`] if a descriptor cannot be duplicated.
    pub fn place_fds(self) -> Result<PlacedFds, ShmError> {
        Ok(PlacedFds {
            passed: place_from(FIRST_FD, self.passed)?,
        })
    }
}

impl PlacedFds {
    /// Replaces this process by the program, which inherits the descriptors and their names.
    ///
    /// Returns only on error. The variables `LISTEN_PID` and `LISTEN_PIDFDID` are removed, since
    /// the program may be a wrapper that starts the intended receiver.
    #[must_use]
    pub fn exec(&self, command: &mut Command) -> ShmError {
        if let Err(error) = self.set_inheritable(true) {
            return error;
        }
        let source = self.set_variables(command).exec();
        let failed = failed(command, source);
        self.set_inheritable(false).err().unwrap_or(failed)
    }

    /// Starts the program as a child that inherits the descriptors and their names.
    ///
    /// Can be called repeatedly. A child that another thread starts at the same moment inherits the
    /// descriptors too, but not the variables that announce them.
    ///
    /// # Errors
    ///
    /// - [`ShmError::Exec`] if the program cannot be executed.
    /// - [`ShmError::Io`] if the close-on-exec flag of a descriptor cannot be changed.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, ShmError> {
        self.set_inheritable(true)?;
        let started = self.set_variables(command).spawn();
        // Cannot fail, since the same flags were just changed.
        self.set_inheritable(false)?;
        started.map_err(|source| failed(command, source))
    }

    /// Announces the descriptors in the environment of the command.
    fn set_variables<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env_remove(LISTEN_PID).env_remove(LISTEN_PIDFDID);
        if self.passed.is_empty() {
            return command.env_remove(LISTEN_FDS).env_remove(LISTEN_FDNAMES);
        }
        let names = join(self.passed.iter().map(|named| named.name.as_str()));
        command
            .env(LISTEN_FDS, self.passed.len().to_string())
            .env(LISTEN_FDNAMES, names)
    }

    fn set_inheritable(&self, inheritable: bool) -> Result<(), ShmError> {
        self.passed.iter().try_for_each(|named| {
            let failed = ShmError::io(named.fd.as_raw_fd(), "change the close-on-exec flag");
            fcntl::set_close_on_exec(&named.fd, !inheritable).map_err(failed)
        })
    }
}

fn failed(command: &Command, source: std::io::Error) -> ShmError {
    ShmError::Exec {
        program: command.get_program().to_owned(),
        source,
    }
}

fn place_from(first: RawFd, passed: Vec<NamedFd>) -> Result<Vec<NamedFd>, ShmError> {
    let count = u32::try_from(passed.len()).unwrap_or(u32::MAX);
    let targets = first..first.saturating_add_unsigned(count);
    // All obstacles are moved before the first descriptor gets its number.
    let apart: Vec<NamedFd> = targets
        .clone()
        .zip(passed)
        .map(|(target, named)| move_out_of(&targets, target, named))
        .collect::<Result<_, _>>()?;
    targets
        .zip(apart)
        .map(|(target, named)| move_to(target, named))
        .collect()
}

/// Moves a descriptor whose number another one must get.
fn move_out_of(targets: &Range<RawFd>, target: RawFd, named: NamedFd) -> Result<NamedFd, ShmError> {
    let number = named.fd.as_raw_fd();
    if number == target || !targets.contains(&number) {
        return Ok(named);
    }
    let moved = fcntl::duplicate_from(&named.fd, targets.end);
    Ok(NamedFd {
        fd: moved.map_err(ShmError::io(number, "duplicate it to another number"))?,
        ..named
    })
}

fn move_to(target: RawFd, named: NamedFd) -> Result<NamedFd, ShmError> {
    let number = named.fd.as_raw_fd();
    if number == target {
        return Ok(named);
    }
    let moved = fcntl::duplicate_from(&named.fd, target).map_err(ShmError::io(
        number,
        "duplicate it to the number it must have",
    ))?;
    if moved.as_raw_fd() == target {
        return Ok(NamedFd { fd: moved, ..named });
    }
    Err(ShmError::FdNumberInUse {
        fd: target,
        what: fcntl::target(target),
        name: named.name,
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};

    use proptest::prelude::*;

    use super::*;

    /// Far above the numbers that other test threads get. Each test has its own range.
    const FIRST_OF_PERMUTATIONS: RawFd = 400;
    const FIRST_OF_OTHERS: RawFd = 500;

    /// A file with this descriptor number. Its content is its name.
    fn file_at(number: RawFd, name: &str) -> NamedFd {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(name.as_bytes()).expect("readable content");
        let fd = fcntl::duplicate_from(&file, number).expect("a descriptor");
        assert_eq!(fd.as_raw_fd(), number, "the number is free");
        NamedFd {
            name: name.to_owned(),
            fd,
        }
    }

    fn content(named: NamedFd) -> (RawFd, String) {
        let number = named.fd.as_raw_fd();
        let mut file = File::from(named.fd);
        let mut text = String::new();
        file.rewind().expect("seek");
        file.read_to_string(&mut text).expect("readable content");
        (number, text)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Sources overlap the targets, cross over, and follow them.
        #[test]
        fn overlapping_numbers_are_placed_correctly(
            numbers in Just((0..10).collect::<Vec<RawFd>>()).prop_shuffle(),
            count in 1..8_usize,
        ) {
            let first = FIRST_OF_PERMUTATIONS;
            let passed: Vec<NamedFd> = numbers[..count]
                .iter()
                .enumerate()
                .map(|(at, number)| file_at(first + number, &format!("file {at}")))
                .collect();
            let placed = place_from(first, passed).expect("all numbers are free");
            for (at, named) in placed.into_iter().enumerate() {
                let number = first + RawFd::try_from(at).expect("small");
                prop_assert_eq!(content(named), (number, format!("file {at}")));
            }
        }
    }

    #[test]
    fn number_of_another_file_is_refused_and_stays_open() {
        let first = FIRST_OF_OTHERS;
        let other = file_at(first + 1, "another");
        let passed = vec![file_at(first + 7, "passed 0"), file_at(first, "passed 1")];
        let refused = place_from(first, passed).expect_err("the second number is in use");
        match &refused {
            ShmError::FdNumberInUse { fd, what, name } => {
                assert_eq!((*fd, name.as_str()), (first + 1, "passed 1"));
                assert!(what.contains('/'), "{what}");
            }
            other => panic!("{other}"),
        }
        assert_eq!(content(other), (first + 1, "another".to_owned()));
    }
}
