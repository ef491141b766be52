//! Passing descriptors on to a program.
//!
//! A program expects them from number 3 on. They get there by `F_DUPFD`, which takes the lowest *free* number from 3 on: so
//! no descriptor of anybody else is ever closed or replaced, and no `unsafe` between fork and exec is needed. What of ours lies
//! where another of ours must go is moved away first. What is not ours stays, and the number is refused.
//!
//! (Others overwrite: systemd closes everything else between fork and exec, and the tools of s6 put theirs over what is
//! there. That is safe in a child of one's own that does nothing but exec. Here a descriptor 3 that a shell has opened on
//! purpose would be lost without a word.)

use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use super::error::ShmError;
use super::fd_name::{check, join};
use super::listen_fds::{FDS, FIRST, NAMES, PID, PIDFD_ID};
use crate::sys::fcntl;

/// Descriptors for a program, in order, with their names.
#[derive(Debug, Default)]
pub struct HandOver {
    given: Vec<Given>,
}

#[derive(Debug)]
struct Given {
    name: String,
    fd: OwnedFd,
}

/// Descriptors at the numbers where a program expects them. Until it is dropped they stay there, and children that are not
/// started by it do not get them.
#[derive(Debug)]
pub struct Placed {
    given: Vec<Given>,
}

impl HandOver {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one behind the others.
    ///
    /// # Errors
    ///
    /// [`Name`](ShmError::Name).
    pub fn push(&mut self, name: &str, fd: impl Into<OwnedFd>) -> Result<(), ShmError> {
        check(name)?;
        self.given.push(Given {
            name: name.to_owned(),
            fd: fd.into(),
        });
        Ok(())
    }

    /// Gives them the numbers 3 and following. To be done before anything else is opened, which would get one of these
    /// numbers; what came by [`ListenFds`](super::ListenFds) is out of the way.
    ///
    /// # Errors
    ///
    /// [`NumberTaken`](ShmError::NumberTaken), by what was left by the parent, or opened before; [`Io`](ShmError::Io).
    /// The descriptors are closed then.
    pub fn place(self) -> Result<Placed, ShmError> {
        Ok(Placed {
            given: place_from(FIRST, self.given)?,
        })
    }
}

impl Placed {
    /// Becomes the program, with the descriptors and their names. `LISTEN_PID` and `LISTEN_PIDFDID` are removed: the program
    /// may start the one that is meant. Comes back only with an error.
    #[must_use]
    pub fn exec(&self, command: &mut Command) -> ShmError {
        if let Err(error) = self.leave_open(true) {
            return error;
        }
        let source = self.tell(command).exec();
        let failed = failed(command, source);
        self.leave_open(false).err().unwrap_or(failed)
    }

    /// Starts the program as a child, otherwise as [`exec`](Self::exec), as often as wanted. Other children that are
    /// started by other threads at the same moment inherit the descriptors too, but are not told.
    ///
    /// # Errors
    ///
    /// [`Command`](ShmError::Command); [`Io`](ShmError::Io) where a flag of a descriptor cannot be changed.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, ShmError> {
        self.leave_open(true)?;
        let started = self.tell(command).spawn();
        // Changing a flag back fails only where changing it has failed.
        self.leave_open(false)?;
        started.map_err(|source| failed(command, source))
    }

    /// Sets and removes variables.
    fn tell<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env_remove(PID).env_remove(PIDFD_ID);
        if self.given.is_empty() {
            return command.env_remove(FDS).env_remove(NAMES);
        }
        let names = join(self.given.iter().map(|given| given.name.as_str()));
        command
            .env(FDS, self.given.len().to_string())
            .env(NAMES, names)
    }

    fn leave_open(&self, leave: bool) -> Result<(), ShmError> {
        self.given.iter().try_for_each(|given| {
            let failed = ShmError::io(given.fd.as_raw_fd(), "change its flag for exec");
            fcntl::close_on_exec(&given.fd, !leave).map_err(failed)
        })
    }
}

fn failed(command: &Command, source: std::io::Error) -> ShmError {
    ShmError::Command {
        program: command.get_program().to_owned(),
        source,
    }
}

fn place_from(first: RawFd, given: Vec<Given>) -> Result<Vec<Given>, ShmError> {
    let count = u32::try_from(given.len()).unwrap_or(u32::MAX);
    let places = first..first.saturating_add_unsigned(count);
    let apart: Vec<Given> = places
        .clone()
        .zip(given)
        .map(|(place, given)| make_room(place, &places, given))
        .collect::<Result<_, _>>()?;
    places
        .zip(apart)
        .map(|(place, given)| put(place, given))
        .collect()
}

/// Moves it away when it lies where another one goes. All are moved before the first is put.
fn make_room(place: RawFd, places: &Range<RawFd>, given: Given) -> Result<Given, ShmError> {
    let number = given.fd.as_raw_fd();
    if number == place || !places.contains(&number) {
        return Ok(given);
    }
    let moved = fcntl::duplicate_from(&given.fd, places.end);
    Ok(Given {
        fd: moved.map_err(ShmError::io(number, "move it to another number"))?,
        ..given
    })
}

fn put(place: RawFd, given: Given) -> Result<Given, ShmError> {
    let number = given.fd.as_raw_fd();
    if number == place {
        return Ok(given);
    }
    let put = fcntl::duplicate_from(&given.fd, place)
        .map_err(ShmError::io(number, "move it to the number it must have"))?;
    if put.as_raw_fd() == place {
        return Ok(Given { fd: put, ..given });
    }
    Err(ShmError::NumberTaken {
        fd: place,
        what: fcntl::target(place),
        name: given.name,
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use proptest::prelude::*;

    use super::*;

    /// Far above the numbers that other threads of the tests get; each test has its own.
    const FIRST_OF_PERMUTATIONS: RawFd = 400;
    const FIRST_OF_TAKEN: RawFd = 500;

    /// A file that holds its name, at this number.
    fn file_at(number: RawFd, name: &str) -> Given {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(name.as_bytes()).expect("its name");
        let fd = fcntl::duplicate_from(&file, number).expect("a descriptor");
        assert_eq!(fd.as_raw_fd(), number, "the number is free");
        Given {
            name: name.to_owned(),
            fd,
        }
    }

    fn content(given: Given) -> (RawFd, String) {
        let number = given.fd.as_raw_fd();
        let mut file = File::from(given.fd);
        let mut text = String::new();
        file.rewind().expect("seek");
        file.read_to_string(&mut text).expect("its name");
        (number, text)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Sources that overlap the places, cross over, and lie behind.
        #[test]
        fn overlapping_numbers_are_placed_right(
            numbers in Just((0..10).collect::<Vec<RawFd>>()).prop_shuffle(),
            count in 1..8_usize,
        ) {
            let first = FIRST_OF_PERMUTATIONS;
            let given: Vec<Given> = numbers[..count]
                .iter()
                .enumerate()
                .map(|(at, number)| file_at(first + number, &format!("file {at}")))
                .collect();
            let placed = place_from(first, given).expect("placed");
            for (at, given) in placed.into_iter().enumerate() {
                let number = first + RawFd::try_from(at).expect("small");
                prop_assert_eq!(content(given), (number, format!("file {at}")));
            }
        }
    }

    #[test]
    fn a_number_of_somebody_else_is_refused_by_name_and_left_alone() {
        let first = FIRST_OF_TAKEN;
        let other = file_at(first + 1, "somebody else's");
        let given = vec![file_at(first + 7, "ours 0"), file_at(first, "ours 1")];
        let refused = place_from(first, given).expect_err("the second number is taken");
        match &refused {
            ShmError::NumberTaken { fd, what, name } => {
                assert_eq!((*fd, name.as_str()), (first + 1, "ours 1"));
                assert!(what.contains('/'), "{what}");
            }
            other => panic!("{other}"),
        }
        assert_eq!(content(other), (first + 1, "somebody else's".to_owned()));
    }
}
