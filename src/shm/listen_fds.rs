//! Descriptors that the parent left, by name.
//!
//! The protocol is that of [`sd_listen_fds(3)`](https://man7.org/linux/man-pages/man3/sd_listen_fds.3.html), with one
//! difference: `LISTEN_PID` need not be there. It is checked where it is.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process;
use std::vec;

use super::environment::{self, Lookup, refuse};
use super::error::ShmError;
use super::fd_name::{UNKNOWN, split};
use crate::sys::inherited_fds::{self, Refusal};
use crate::sys::{fcntl, pidfd};

/// The first of them.
pub(super) const FIRST: RawFd = 3;

pub(super) const FDS: &str = "LISTEN_FDS";
pub(super) const NAMES: &str = "LISTEN_FDNAMES";
pub(super) const PID: &str = "LISTEN_PID";
pub(super) const PIDFD_ID: &str = "LISTEN_PIDFDID";

/// The descriptors that the parent left for this process, each owned and to be taken once. Those that nobody takes are
/// closed with it.
#[derive(Debug)]
pub struct ListenFds {
    absent: Option<Absent>,
    is_named: bool,
    received: Vec<(String, OwnedFd)>,
}

/// Why there are no descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Absent {
    /// Nobody announced any.
    #[error("LISTEN_FDS is not set")]
    NotSet,
    /// They are meant for a process with another number: an ancestor of this one.
    #[error("LISTEN_PID means process {pid}, not this one")]
    ForProcess {
        /// Its number.
        pid: u32,
    },
    /// They are meant for a process that had the number of this one before.
    #[error("LISTEN_PIDFDID means another process than this one")]
    ForEarlierProcess,
}

impl ListenFds {
    /// Receives them: a process can do so once, and should before it opens anything. From now on they are closed by an
    /// exec, and have other numbers, so that 3 and what follows is free for a [`HandOver`](super::HandOver).
    ///
    /// The variables stay as they are, since changing the environment is not safe beside other threads;
    /// [`Placed`](super::Placed) removes them from what a child inherits, and who starts children without it does so by
    /// `Command::env_remove`.
    ///
    /// Where none is announced, or they are meant for another process, it is empty.
    ///
    /// # Errors
    ///
    /// [`Variable`](ShmError::Variable) for a variable that says something impossible;
    /// [`NotOpen`](ShmError::NotOpen) and [`NotInherited`](ShmError::NotInherited) for the first descriptor that is not
    /// there, then none is received; [`Received`](ShmError::Received).
    pub fn from_env() -> Result<Self, ShmError> {
        match announced(&environment::of_process)? {
            Err(absent) => Ok(Self {
                absent: Some(absent),
                is_named: false,
                received: Vec::new(),
            }),
            Ok(announced) => announced.receive(),
        }
    }

    /// How many are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Is none left?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Why there were none; `None` when there were.
    #[must_use]
    pub fn absent(&self) -> Option<Absent> {
        self.absent
    }

    /// Did the parent name them? If not, all are `unknown`.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// The names of those that are left, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.received.iter().map(|(name, _)| name.as_str())
    }

    /// Those that are left, in order.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.received.iter().map(|(_, fd)| fd.as_fd())
    }

    /// Takes the first of this name. A parent that names nothing and leaves a single descriptor means that one, whatever
    /// the name.
    ///
    /// # Errors
    ///
    /// [`NoDescriptor`](ShmError::NoDescriptor), with the names of those that are there.
    pub fn take(&mut self, name: &str) -> Result<OwnedFd, ShmError> {
        match self.place_of(name) {
            Some(place) => Ok(self.received.remove(place).1),
            None => Err(ShmError::NoDescriptor {
                name: name.to_owned(),
                absent: self.absent,
                names: self.names().map(str::to_owned).collect(),
            }),
        }
    }

    /// Which one [`take`](Self::take) would take.
    #[must_use]
    pub fn place_of(&self, name: &str) -> Option<usize> {
        if !self.is_named && self.received.len() == 1 {
            return Some(0);
        }
        self.names().position(|present| present == name)
    }
}

/// Those that are left, with their names, in order.
impl IntoIterator for ListenFds {
    type Item = (String, OwnedFd);
    type IntoIter = vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.received.into_iter()
    }
}

/// What the variables say.
#[derive(Debug, PartialEq, Eq)]
struct Announced {
    count: u32,
    /// Empty without `LISTEN_FDNAMES`.
    names: Vec<String>,
}

fn announced(lookup: Lookup<'_>) -> Result<Result<Announced, Absent>, ShmError> {
    let Some(count) = environment::number::<i32>(lookup, FDS, "it is not a number of descriptors")?
    else {
        return Ok(Err(Absent::NotSet));
    };
    if let Some(absent) = meant_for_another(lookup)? {
        return Ok(Err(absent));
    }
    let count = match u32::try_from(count) {
        Ok(count) if count <= (RawFd::MAX - FIRST).unsigned_abs() => count,
        _ => return Err(refuse(FDS, count.to_string(), "so many cannot be")),
    };
    Ok(Ok(Announced {
        count,
        names: names(lookup, count)?,
    }))
}

fn meant_for_another(lookup: Lookup<'_>) -> Result<Option<Absent>, ShmError> {
    let pid = environment::number::<u32>(lookup, PID, "it is not the number of a process")?;
    if let Some(pid) = pid.filter(|pid| *pid != process::id()) {
        return Ok(Some(Absent::ForProcess { pid }));
    }
    let meant = environment::number::<u64>(lookup, PIDFD_ID, "it is not the id of a process")?;
    // A kernel that has no ids cannot be asked, and is not what the parent has asked.
    let own = meant.and_then(|_| pidfd::own_id().ok().flatten());
    Ok(match (meant, own) {
        (Some(meant), Some(own)) if meant != own => Some(Absent::ForEarlierProcess),
        _ => None,
    })
}

fn names(lookup: Lookup<'_>, count: u32) -> Result<Vec<String>, ShmError> {
    let Some(list) = environment::text(lookup, NAMES)? else {
        return Ok(Vec::new());
    };
    if list.is_empty() {
        return Ok(Vec::new());
    }
    match split(&list) {
        None => Err(refuse(NAMES, list, "it ends with a backslash")),
        Some(names) if names.len() > count as usize => {
            let reason = format!("{} names for {count} descriptors", names.len());
            Err(refuse(NAMES, list, &reason))
        }
        Some(names) => Ok(names.into_iter().map(or_unknown).collect()),
    }
}

fn or_unknown(name: String) -> String {
    match name.is_empty() {
        true => UNKNOWN.to_owned(),
        false => name,
    }
}

impl Announced {
    fn receive(self) -> Result<ListenFds, ShmError> {
        let taken =
            inherited_fds::take(FIRST, self.count).map_err(|refusal| self.refused(refusal))?;
        let is_named = !self.names.is_empty();
        let behind = FIRST.saturating_add_unsigned(self.count);
        let names = self
            .names
            .into_iter()
            .chain(std::iter::repeat(UNKNOWN.to_owned()));
        let received = names
            .zip(taken)
            .map(|(name, fd)| Ok((name, out_of_the_way(fd, behind)?)))
            .collect::<Result<_, ShmError>>()?;
        Ok(ListenFds {
            absent: None,
            is_named,
            received,
        })
    }

    fn refused(&self, refusal: Refusal) -> ShmError {
        let announced = self.count;
        match refusal {
            Refusal::Closed(fd) => ShmError::NotOpen { fd, announced },
            Refusal::OpenedHere(fd) => ShmError::NotInherited {
                fd,
                what: fcntl::target(fd),
                announced,
            },
            Refusal::Taken => ShmError::Received,
        }
    }
}

/// With another number, which an exec closes. Where the process may have no more descriptors it stays where it is.
fn out_of_the_way(fd: OwnedFd, behind: RawFd) -> Result<OwnedFd, ShmError> {
    if let Ok(moved) = fcntl::duplicate_from(&fd, behind) {
        return Ok(moved);
    }
    let number = fd.as_raw_fd();
    fcntl::close_on_exec(&fd, true).map_err(ShmError::io(number, "have it closed by exec"))?;
    Ok(fd)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<Result<Announced, Absent>, ShmError> {
        announced(&|name| {
            let found = set.iter().find(|(present, _)| *present == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    fn names_of(set: &[(&str, &str)]) -> (u32, Vec<String>) {
        let announced = of(set).expect("variables that fit").expect("for this one");
        (announced.count, announced.names)
    }

    #[test]
    fn listen_fds_without_names() {
        assert_eq!(names_of(&[(FDS, "2")]), (2, vec![]));
        assert_eq!(of(&[]).expect("nothing"), Err(Absent::NotSet));
        assert_eq!(
            of(&[(NAMES, "a"), (PID, "1")]).expect("nothing"),
            Err(Absent::NotSet)
        );
    }

    #[test]
    fn names_are_told_apart_and_may_be_too_few_but_not_too_many() {
        let list = |list| names_of(&[(FDS, "2"), (NAMES, list)]).1;
        assert_eq!(list(r"a:b\:c"), ["a", "b:c"]);
        assert_eq!(list("a"), ["a"]);
        assert_eq!(list(":b"), ["unknown", "b"]);
        assert!(list("").is_empty(), "as if it were not set");
        assert_eq!(names_of(&[(FDS, "0"), (NAMES, "")]), (0, vec![]));
        for bad in ["a:b:c", r"a\"] {
            let refused = of(&[(FDS, "2"), (NAMES, bad)]).expect_err(bad);
            assert!(matches!(refused, ShmError::Variable { name: NAMES, .. }));
        }
    }

    #[test]
    fn hostile_numbers_are_refused_by_name() {
        let many = i32::MAX.to_string();
        for bad in ["-1", "", "x", "3.0", " 1", "99999999999999999999", &many] {
            let refused = of(&[(FDS, bad)]).expect_err(bad);
            assert!(refused.to_string().contains(FDS), "{refused}");
            assert!(matches!(refused, ShmError::Variable { name: FDS, .. }));
        }
        for (name, bad) in [(PID, "-1"), (PID, ""), (PIDFD_ID, "x")] {
            let refused = of(&[(FDS, "1"), (name, bad)]).expect_err(bad);
            assert!(matches!(refused, ShmError::Variable { name: of, .. } if of == name));
        }
        let not_utf8 = announced(&|_| Some(OsString::from_vec(vec![0xFF])));
        assert!(matches!(not_utf8, Err(ShmError::Variable { .. })));
    }

    #[test]
    fn those_of_another_process_are_not_ours() {
        let own = process::id().to_string();
        assert_eq!(names_of(&[(FDS, "1"), (PID, &own)]).0, 1);
        assert_eq!(
            of(&[(FDS, "1"), (PID, "1")]).expect("variables that fit"),
            Err(Absent::ForProcess { pid: 1 })
        );
        let Some(id) = pidfd::own_id().expect("a pidfd") else {
            return;
        };
        let right = id.to_string();
        assert_eq!(names_of(&[(FDS, "1"), (PIDFD_ID, &right)]).0, 1);
        let wrong = (id + 1).to_string();
        assert_eq!(
            of(&[(FDS, "1"), (PID, &own), (PIDFD_ID, &wrong)]).expect("variables that fit"),
            Err(Absent::ForEarlierProcess)
        );
    }
}
