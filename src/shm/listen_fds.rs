//! Descriptors that the parent process passed, by name.
//!
//! The protocol is that of
//! [`sd_listen_fds(3)`](https://man7.org/linux/man-pages/man3/sd_listen_fds.3.html), with one
//! difference: `LISTEN_PID` is optional. It is checked if it is set.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::process;
use std::vec;

use super::absence::Absence;
use super::environment::{self, Lookup, refuse};
use super::error::ShmError;
use super::fd_name::{UNKNOWN, split};
use crate::sys::inherited_fds::{self, Refusal};
use crate::sys::{fcntl, pidfd};

/// Number of the first passed descriptor.
pub(super) const FIRST_FD: RawFd = 3;

pub(super) const LISTEN_FDS: &str = "LISTEN_FDS";
pub(super) const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";
pub(super) const LISTEN_PID: &str = "LISTEN_PID";
pub(super) const LISTEN_PIDFDID: &str = "LISTEN_PIDFDID";

/// Descriptors that the parent process passed to this one.
///
/// Each one is taken once. Dropping this closes the remaining ones.
///
/// # Examples
///
/// ```
/// use flatspan::shm::{ListenFds, SHARED_FD_NAME, Memfd};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut fds = ListenFds::from_env()?;
/// let memfd = match fds.absence() {
///     None => Memfd::from_fd(fds.take(SHARED_FD_NAME)?)?,
///     Some(reason) => {
///         eprintln!("the state is not persistent: {reason}");
///         Memfd::create("state", 4096)?
///     }
/// };
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ListenFds {
    absence: Option<Absence>,
    is_named: bool,
    received: Vec<(String, OwnedFd)>,
}

impl ListenFds {
    /// Receives the descriptors that `LISTEN_FDS` announces.
    ///
    /// A process can do this once, and should before it opens other files. Afterwards the
    /// descriptors are close-on-exec and have other numbers, so that the numbers from 3 on are free
    /// for a [`FdPassing`](super::FdPassing). The list is empty if none are announced, or if they
    /// are meant for another process; [`absence`](Self::absence) returns the reason.
    ///
    /// The variables stay set, since changing the environment is not safe with other threads.
    /// [`PlacedFds`](super::PlacedFds) removes them for its children. Other children need
    /// `Command::env_remove`.
    ///
    /// # Errors
    ///
    /// No descriptor is received on error.
    ///
    /// - [`ShmError::InvalidVariable`] if a variable has an invalid value.
    /// - [`ShmError::FdNotOpen`] if an announced descriptor is not open.
    /// - [`ShmError::FdNotInherited`] if this process opened an announced descriptor itself.
    /// - [`ShmError::AlreadyReceived`] if the descriptors were received before.
    pub fn from_env() -> Result<Self, ShmError> {
        match announced(&environment::of_process)? {
            Err(absent) => Ok(Self {
                absence: Some(absent),
                is_named: false,
                received: Vec::new(),
            }),
            Ok(announced) => announced.receive(),
        }
    }

    /// Returns the number of remaining descriptors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Returns whether no descriptor remains.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Returns the reason why no descriptors were passed, `None` if some were.
    #[must_use]
    pub fn absence(&self) -> Option<Absence> {
        self.absence
    }

    /// Returns whether the parent named the descriptors. Otherwise all are named `unknown`.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.is_named
    }

    /// Returns the names of the remaining descriptors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.received.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the remaining descriptors, in order.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.received.iter().map(|(_, fd)| fd.as_fd())
    }

    /// Takes the first descriptor with this name.
    ///
    /// A single descriptor without a name matches every name.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::NoSuchFd`] if no remaining descriptor matches.
    pub fn take(&mut self, name: &str) -> Result<OwnedFd, ShmError> {
        match self.position(name) {
            Some(position) => Ok(self.received.remove(position).1),
            None => Err(ShmError::NoSuchFd {
                name: name.to_owned(),
                absent: self.absence,
                names: self.names().map(str::to_owned).collect(),
            }),
        }
    }

    /// Returns the position of the descriptor that [`take`](Self::take) would return.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        if !self.is_named && self.received.len() == 1 {
            return Some(0);
        }
        self.names().position(|present| present == name)
    }
}

/// Iterates over the remaining descriptors and their names, in order.
impl IntoIterator for ListenFds {
    type Item = (String, OwnedFd);
    type IntoIter = vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.received.into_iter()
    }
}

/// Content of the variables.
#[derive(Debug, PartialEq, Eq)]
struct Announced {
    count: u32,
    /// Empty without `LISTEN_FDNAMES`.
    names: Vec<String>,
}

fn announced(lookup: Lookup<'_>) -> Result<Result<Announced, Absence>, ShmError> {
    let Some(count) = environment::number::<i32>(lookup, LISTEN_FDS, "it is not a number")? else {
        return Ok(Err(Absence::NotSet));
    };
    if let Some(absent) = for_another_process(lookup)? {
        return Ok(Err(absent));
    }
    let count = match u32::try_from(count) {
        Ok(count) if count <= (RawFd::MAX - FIRST_FD).unsigned_abs() => count,
        _ => return Err(refuse(LISTEN_FDS, count.to_string(), "it is out of range")),
    };
    Ok(Ok(Announced {
        count,
        names: names(lookup, count)?,
    }))
}

fn for_another_process(lookup: Lookup<'_>) -> Result<Option<Absence>, ShmError> {
    let pid = environment::number::<u32>(lookup, LISTEN_PID, "it is not a process id")?;
    if let Some(pid) = pid.filter(|pid| *pid != process::id()) {
        return Ok(Some(Absence::ForProcess { pid }));
    }
    let intended =
        environment::number::<u64>(lookup, LISTEN_PIDFDID, "it is not a pidfd inode number")?;
    // A kernel without such ids differs from the one that the parent ran on.
    let own = intended.and_then(|_| pidfd::own_id().ok().flatten());
    Ok(match (intended, own) {
        (Some(intended), Some(own)) if intended != own => Some(Absence::ForEarlierProcess),
        _ => None,
    })
}

fn names(lookup: Lookup<'_>, count: u32) -> Result<Vec<String>, ShmError> {
    let Some(list) = environment::text(lookup, LISTEN_FDNAMES)? else {
        return Ok(Vec::new());
    };
    if list.is_empty() {
        return Ok(Vec::new());
    }
    match split(&list) {
        None => Err(refuse(LISTEN_FDNAMES, list, "it ends with a backslash")),
        Some(names) if names.len() > count as usize => {
            let reason = format!("{} names for {count} descriptors", names.len());
            Err(refuse(LISTEN_FDNAMES, list, &reason))
        }
        Some(names) => Ok(names.into_iter().map(or_unknown).collect()),
    }
}

fn or_unknown(name: String) -> String {
    if name.is_empty() {
        UNKNOWN.to_owned()
    } else {
        name
    }
}

impl Announced {
    fn receive(self) -> Result<ListenFds, ShmError> {
        let fds =
            inherited_fds::take(FIRST_FD, self.count).map_err(|refusal| self.error(refusal))?;
        let is_named = !self.names.is_empty();
        let lowest = FIRST_FD.saturating_add_unsigned(self.count);
        let names = self
            .names
            .into_iter()
            .chain(std::iter::repeat(UNKNOWN.to_owned()));
        let received = names
            .zip(fds)
            .map(|(name, fd)| Ok((name, move_above(fd, lowest)?)))
            .collect::<Result<_, ShmError>>()?;
        Ok(ListenFds {
            absence: None,
            is_named,
            received,
        })
    }

    fn error(&self, refusal: Refusal) -> ShmError {
        let announced = self.count;
        match refusal {
            Refusal::Closed(fd) => ShmError::FdNotOpen { fd, announced },
            Refusal::OpenedHere(fd) => ShmError::FdNotInherited {
                fd,
                what: fcntl::target(fd),
                announced,
            },
            Refusal::AlreadyTaken => ShmError::AlreadyReceived,
        }
    }
}

/// Moves a descriptor to a number from `lowest` on and sets its close-on-exec flag. At the
/// descriptor limit it keeps its number.
fn move_above(fd: OwnedFd, lowest: RawFd) -> Result<OwnedFd, ShmError> {
    if let Ok(moved) = fcntl::duplicate_from(&fd, lowest) {
        return Ok(moved);
    }
    let number = fd.as_raw_fd();
    fcntl::set_close_on_exec(&fd, true)
        .map_err(ShmError::io(number, "set the close-on-exec flag"))?;
    Ok(fd)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<Result<Announced, Absence>, ShmError> {
        announced(&|name| {
            let found = set.iter().find(|(present, _)| *present == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    fn names_of(set: &[(&str, &str)]) -> (u32, Vec<String>) {
        let announced = of(set).expect("valid variables").expect("for this process");
        (announced.count, announced.names)
    }

    #[test]
    fn names_are_optional() {
        assert_eq!(names_of(&[(LISTEN_FDS, "2")]), (2, vec![]));
        assert_eq!(of(&[]).expect("nothing"), Err(Absence::NotSet));
        assert_eq!(
            of(&[(LISTEN_FDNAMES, "a"), (LISTEN_PID, "1")]).expect("nothing"),
            Err(Absence::NotSet)
        );
    }

    #[test]
    fn missing_names_are_unknown_and_excess_names_refused() {
        let list = |list| names_of(&[(LISTEN_FDS, "2"), (LISTEN_FDNAMES, list)]).1;
        assert_eq!(list(r"a:b\:c"), ["a", "b:c"]);
        assert_eq!(list("a"), ["a"]);
        assert_eq!(list(":b"), ["unknown", "b"]);
        assert!(list("").is_empty(), "an empty list counts as unset");
        assert_eq!(
            names_of(&[(LISTEN_FDS, "0"), (LISTEN_FDNAMES, "")]),
            (0, vec![])
        );
        for bad in ["a:b:c", r"a\"] {
            let refused = of(&[(LISTEN_FDS, "2"), (LISTEN_FDNAMES, bad)]).expect_err(bad);
            assert!(matches!(
                refused,
                ShmError::InvalidVariable {
                    name: LISTEN_FDNAMES,
                    ..
                }
            ));
        }
    }

    #[test]
    fn invalid_values_are_refused_with_the_variable_name() {
        let many = i32::MAX.to_string();
        for bad in ["-1", "", "x", "3.0", " 1", "99999999999999999999", &many] {
            let refused = of(&[(LISTEN_FDS, bad)]).expect_err(bad);
            assert!(refused.to_string().contains(LISTEN_FDS), "{refused}");
            assert!(matches!(
                refused,
                ShmError::InvalidVariable {
                    name: LISTEN_FDS,
                    ..
                }
            ));
        }
        for (name, bad) in [(LISTEN_PID, "-1"), (LISTEN_PID, ""), (LISTEN_PIDFDID, "x")] {
            let refused = of(&[(LISTEN_FDS, "1"), (name, bad)]).expect_err(bad);
            assert!(matches!(refused, ShmError::InvalidVariable { name: of, .. } if of == name));
        }
        let not_utf8 = announced(&|_| Some(OsString::from_vec(vec![0xFF])));
        assert!(matches!(not_utf8, Err(ShmError::InvalidVariable { .. })));
    }

    #[test]
    fn descriptors_for_another_process_are_not_received() {
        let own = process::id().to_string();
        assert_eq!(names_of(&[(LISTEN_FDS, "1"), (LISTEN_PID, &own)]).0, 1);
        assert_eq!(
            of(&[(LISTEN_FDS, "1"), (LISTEN_PID, "1")]).expect("valid variables"),
            Err(Absence::ForProcess { pid: 1 })
        );
        let Some(id) = pidfd::own_id().expect("a pidfd") else {
            return;
        };
        let right = id.to_string();
        assert_eq!(
            names_of(&[(LISTEN_FDS, "1"), (LISTEN_PIDFDID, &right)]).0,
            1
        );
        let wrong = (id + 1).to_string();
        assert_eq!(
            of(&[
                (LISTEN_FDS, "1"),
                (LISTEN_PID, &own),
                (LISTEN_PIDFDID, &wrong)
            ])
            .expect("valid variables"),
            Err(Absence::ForEarlierProcess)
        );
    }
}
