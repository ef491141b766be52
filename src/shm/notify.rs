//! Messages to the service manager. The protocol is that of
//! [`sd_notify(3)`](https://man7.org/linux/man-pages/man3/sd_notify.3.html).

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::SocketAddr;
use std::process;
use std::time::Duration;

use super::environment::{self, Lookup, refuse};
use super::error::ShmError;
use super::fd_name::check_plain;
use super::notify_address::{SOCKET, parse};
use crate::sys::unix_datagram;

const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// So long a message waits for room in the manager's queue.
const PATIENCE: Duration = Duration::from_secs(3);

/// The service manager, or nobody: then every message is sent to nobody, and that is no error.
///
/// A message is one datagram. Where the manager's queue is full it waits up to three seconds, and is an error of kind
/// `WouldBlock` or `TimedOut` then.
pub struct Notify {
    manager: Option<Manager>,
    watchdog: Option<Duration>,
}

struct Manager {
    address: SocketAddr,
    shown: String,
}

impl Notify {
    /// The one that `NOTIFY_SOCKET` names, a path or an abstract name (`@name`); nobody when it is unset or empty.
    ///
    /// # Errors
    ///
    /// [`Variable`](ShmError::Variable) for a variable that says something impossible.
    pub fn from_env() -> Result<Self, ShmError> {
        Self::from_variables(&environment::of_process)
    }

    fn from_variables(lookup: Lookup<'_>) -> Result<Self, ShmError> {
        match lookup(SOCKET) {
            Some(socket) if !socket.is_empty() => Ok(Self {
                watchdog: watchdog(lookup)?,
                ..Self::to(&socket)?
            }),
            _ => Ok(Self::nobody()),
        }
    }

    /// The one that listens there.
    ///
    /// # Errors
    ///
    /// [`Variable`](ShmError::Variable).
    pub fn to(socket: impl AsRef<OsStr>) -> Result<Self, ShmError> {
        let socket = socket.as_ref();
        Ok(Self {
            manager: Some(Manager {
                address: parse(socket)?,
                shown: socket.to_string_lossy().into_owned(),
            }),
            watchdog: None,
        })
    }

    /// Nobody.
    #[must_use]
    pub fn nobody() -> Self {
        Self {
            manager: None,
            watchdog: None,
        }
    }

    /// Is there a manager?
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.manager.is_some()
    }

    /// Within this time the manager wants to hear [`watchdog`](Self::watchdog), or it ends the service; twice as often is
    /// advised. `None` when it does not, or not from this process.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Says that the service has started.
    ///
    /// # Errors
    ///
    /// [`Notify`](ShmError::Notify); so with all messages.
    pub fn ready(&self) -> Result<(), ShmError> {
        self.send("READY=1", &[])
    }

    /// Says in a line what the service does. Ends of lines in it become spaces.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn status(&self, text: &str) -> Result<(), ShmError> {
        // A second line would be a message of its own.
        let text = text.replace(char::is_control, " ");
        self.send(&format!("STATUS={text}"), &[])
    }

    /// Says that the service is about to end.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn stopping(&self) -> Result<(), ShmError> {
        self.send("STOPPING=1", &[])
    }

    /// Says that the service is alive.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn watchdog(&self) -> Result<(), ShmError> {
        self.send("WATCHDOG=1", &[])
    }

    /// Says which process is the service.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn main_pid(&self, pid: u32) -> Result<(), ShmError> {
        self.send(&format!("MAINPID={pid}"), &[])
    }

    /// Gives descriptors to the manager, which keeps them under this name, in addition to those it has under it, and leaves
    /// them to the next start of the service. It does not watch them (`FDPOLL=0`). Whether it keeps any is its
    /// configuration's choice, and it does not say.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready), and [`Name`](ShmError::Name); 253 descriptors go at once.
    pub fn store(&self, name: &str, descriptors: &[BorrowedFd<'_>]) -> Result<(), ShmError> {
        check_plain(name)?;
        let message = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        self.send(&message, descriptors)
    }

    /// Has the manager give up what it keeps under this name.
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store).
    pub fn remove_stored(&self, name: &str) -> Result<(), ShmError> {
        check_plain(name)?;
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
    }

    /// Waits until the manager has worked on all that it was told before, and says whether it has. `false` when `patience`
    /// is over before, as with managers that do not know this message (systemd does since 246).
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn barrier(&self, patience: Duration) -> Result<bool, ShmError> {
        let Some(manager) = &self.manager else {
            return Ok(true);
        };
        let failed = |source| manager.failed("BARRIER=1", source);
        let (end, sent) = io::pipe().map_err(failed)?;
        self.send("BARRIER=1", &[sent.as_fd()])?;
        drop(sent);
        unix_datagram::wait_for_end(&end, patience).map_err(failed)
    }

    fn send(&self, message: &str, descriptors: &[BorrowedFd<'_>]) -> Result<(), ShmError> {
        let Some(manager) = &self.manager else {
            return Ok(());
        };
        unix_datagram::send(&manager.address, message.as_bytes(), descriptors, PATIENCE)
            .map_err(|source| manager.failed(message, source))
    }
}

impl Manager {
    fn failed(&self, message: &str, source: io::Error) -> ShmError {
        ShmError::Notify {
            socket: self.shown.clone(),
            message: message.lines().next().unwrap_or_default().to_owned(),
            source,
        }
    }
}

fn watchdog(lookup: Lookup<'_>) -> Result<Option<Duration>, ShmError> {
    let what = "it is not a number of microseconds";
    let Some(interval) = environment::number::<u64>(lookup, WATCHDOG_USEC, what)? else {
        return Ok(None);
    };
    let pid =
        environment::number::<u32>(lookup, WATCHDOG_PID, "it is not the number of a process")?;
    if pid.is_some_and(|pid| pid != process::id()) {
        return Ok(None);
    }
    match interval {
        0 => Err(refuse(WATCHDOG_USEC, "0", "nobody is as fast")),
        interval => Ok(Some(Duration::from_micros(interval))),
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify")
            .field("socket", &self.manager.as_ref().map(|to| &to.shown))
            .field("watchdog", &self.watchdog)
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<Notify, ShmError> {
        Notify::from_variables(&|name| {
            let found = set.iter().find(|(present, _)| *present == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn without_a_socket_nobody_hears_and_nothing_fails() {
        for set in [&[][..], &[(SOCKET, ""), (WATCHDOG_USEC, "x")]] {
            let notify = of(set).expect("nobody");
            assert!(!notify.is_there() && notify.watchdog_interval().is_none());
            notify.ready().expect("nobody hears");
            assert!(notify.barrier(Duration::ZERO).expect("nobody hears"));
        }
        assert!(of(&[(SOCKET, "nowhere")]).is_err());
    }

    #[test]
    fn the_watchdog_is_for_one_process() {
        let own = process::id().to_string();
        let interval = |more: &[(&'static str, &str)]| {
            let mut set = vec![(SOCKET, "/run/notify")];
            set.extend(more);
            of(&set).map(|notify| notify.watchdog_interval())
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(interval(&[]).expect("none"), None);
        let usec = (WATCHDOG_USEC, "1000000");
        assert_eq!(interval(&[usec]).expect("all"), second);
        assert_eq!(interval(&[usec, (WATCHDOG_PID, &own)]).expect("us"), second);
        assert_eq!(
            interval(&[usec, (WATCHDOG_PID, "1")]).expect("not us"),
            None
        );
        for bad in ["0", "-1", "", "soon"] {
            let refused = interval(&[(WATCHDOG_USEC, bad)]).expect_err(bad);
            assert!(matches!(
                refused,
                ShmError::Variable {
                    name: WATCHDOG_USEC,
                    ..
                }
            ));
        }
        assert!(interval(&[usec, (WATCHDOG_PID, "me")]).is_err());
    }
}
