//! Messages to the service manager.
//!
//! The protocol is that of
//! [`sd_notify(3)`](https://man7.org/linux/man-pages/man3/sd_notify.3.html).

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
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

/// Time that a message waits for room in the manager's queue.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);

/// Connection to the service manager. Without a manager every message succeeds without effect.
///
/// A message is one datagram. If the manager's queue stays full for three seconds, sending fails
/// with [`io::ErrorKind::WouldBlock`] or [`io::ErrorKind::TimedOut`].
///
/// # Examples
///
/// ```
/// use flatspan::shm::Notify;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = Notify::from_env()?;
/// manager.status("restoring the state")?;
/// manager.ready()?;
/// # Ok(())
/// # }
/// ```
pub struct Notify {
    manager: Option<Manager>,
    watchdog: Option<Duration>,
}

struct Manager {
    address: SocketAddr,
    shown: String,
}

impl Notify {
    /// Connects to the manager that `NOTIFY_SOCKET` names by an absolute path or an abstract name
    /// (`@name`).
    ///
    /// The connection is disabled if the variable is unset or empty.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::InvalidVariable`] if `NOTIFY_SOCKET`, `WATCHDOG_USEC` or `WATCHDOG_PID`
    /// has an invalid value.
    pub fn from_env() -> Result<Self, ShmError> {
        Self::from_variables(&environment::of_process)
    }

    fn from_variables(lookup: Lookup<'_>) -> Result<Self, ShmError> {
        match lookup(SOCKET) {
            Some(socket) if !socket.is_empty() => Ok(Self {
                watchdog: watchdog(lookup)?,
                ..Self::to_socket(&socket)?
            }),
            _ => Ok(Self::disabled()),
        }
    }

    /// Connects to the manager at this socket.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::InvalidVariable`] if the address is invalid.
    pub fn to_socket(socket: impl AsRef<OsStr>) -> Result<Self, ShmError> {
        let socket = socket.as_ref();
        Ok(Self {
            manager: Some(Manager {
                address: parse(socket)?,
                shown: socket.to_string_lossy().into_owned(),
            }),
            watchdog: None,
        })
    }

    /// Creates a connection without a manager.
    #[must_use]
    pub fn disabled() -> Self {
        Self {
            manager: None,
            watchdog: None,
        }
    }

    /// Returns whether a manager receives the messages.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.manager.is_some()
    }

    /// Returns the interval within which the manager expects a [`watchdog`](Self::watchdog) message
    /// from this process, `None` if it expects none.
    ///
    /// The manager ends the service without the message. Sending it twice per interval is advised.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Reports that the service has started.
    ///
    /// # Errors
    ///
    /// Returns [`ShmError::Notify`] if the message cannot be sent.
    pub fn ready(&self) -> Result<(), ShmError> {
        self.send("READY=1", &[])
    }

    /// Reports the activity of the service in one line. Control characters become spaces.
    ///
    /// # Errors
    ///
    /// The errors of [`ready`](Self::ready).
    pub fn status(&self, text: &str) -> Result<(), ShmError> {
        // The manager would read a second line as another message.
        let text = text.replace(char::is_control, " ");
        self.send(&format!("STATUS={text}"), &[])
    }

    /// Reports that the service is about to exit.
    ///
    /// # Errors
    ///
    /// The errors of [`ready`](Self::ready).
    pub fn stopping(&self) -> Result<(), ShmError> {
        self.send("STOPPING=1", &[])
    }

    /// Reports that the service is alive.
    ///
    /// # Errors
    ///
    /// The errors of [`ready`](Self::ready).
    pub fn watchdog(&self) -> Result<(), ShmError> {
        self.send("WATCHDOG=1", &[])
    }

    /// Reports the main process of the service.
    ///
    /// # Errors
    ///
    /// The errors of [`ready`](Self::ready).
    pub fn main_pid(&self, pid: u32) -> Result<(), ShmError> {
        self.send(&format!("MAINPID={pid}"), &[])
    }

    /// Adds descriptors to the manager's fd store under this name.
    ///
    /// The manager passes them to the next start of the service and does not poll them
    /// (`FDPOLL=0`). Its configuration decides whether it keeps any (`FileDescriptorStoreMax=`),
    /// and it reports no refusal.
    ///
    /// # Errors
    ///
    /// - The errors of [`ready`](Self::ready), also for more than 253 descriptors.
    /// - [`ShmError::InvalidFdName`] if the name is invalid.
    pub fn store_fds(&self, name: &str, descriptors: &[BorrowedFd<'_>]) -> Result<(), ShmError> {
        check_plain(name)?;
        let message = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        self.send(&message, descriptors)
    }

    /// Removes the descriptors with this name from the manager's fd store.
    ///
    /// # Errors
    ///
    /// The errors of [`store_fds`](Self::store_fds).
    pub fn remove_fds(&self, name: &str) -> Result<(), ShmError> {
        check_plain(name)?;
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
    }

    /// Waits until the manager has processed all previous messages.
    ///
    /// Returns `false` after `timeout`, as with managers that do not support this message (systemd
    /// does since version 246).
    ///
    /// # Errors
    ///
    /// The errors of [`ready`](Self::ready).
    pub fn barrier(&self, timeout: Duration) -> Result<bool, ShmError> {
        let Some(manager) = &self.manager else {
            return Ok(true);
        };
        let failed = |source| manager.failed("BARRIER=1", source);
        let (end, passed) = io::pipe().map_err(failed)?;
        self.send("BARRIER=1", &[passed.as_fd()])?;
        drop(passed);
        unix_datagram::wait_for_close(&end, timeout).map_err(failed)
    }

    fn send(&self, message: &str, descriptors: &[BorrowedFd<'_>]) -> Result<(), ShmError> {
        let Some(manager) = &self.manager else {
            return Ok(());
        };
        unix_datagram::send(
            &manager.address,
            message.as_bytes(),
            descriptors,
            SEND_TIMEOUT,
        )
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
    let reason = "it is not a number of microseconds";
    let Some(interval) = environment::number::<u64>(lookup, WATCHDOG_USEC, reason)? else {
        return Ok(None);
    };
    let pid = environment::number::<u32>(lookup, WATCHDOG_PID, "it is not a process id")?;
    if pid.is_some_and(|pid| pid != process::id()) {
        return Ok(None);
    }
    match interval {
        0 => Err(refuse(WATCHDOG_USEC, "0", "the interval must not be zero")),
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
    fn without_a_socket_messages_succeed_without_effect() {
        for set in [&[][..], &[(SOCKET, ""), (WATCHDOG_USEC, "x")]] {
            let notify = of(set).expect("a disabled connection");
            assert!(!notify.is_enabled() && notify.watchdog_interval().is_none());
            notify.ready().expect("no effect");
            assert!(notify.barrier(Duration::ZERO).expect("no effect"));
        }
        assert!(of(&[(SOCKET, "nowhere")]).is_err());
    }

    #[test]
    fn watchdog_interval_is_for_the_named_process() {
        let own = process::id().to_string();
        let interval = |more: &[(&'static str, &str)]| {
            let mut set = vec![(SOCKET, "/run/notify")];
            set.extend(more);
            of(&set).map(|notify| notify.watchdog_interval())
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(interval(&[]).expect("none"), None);
        let usec = (WATCHDOG_USEC, "1000000");
        assert_eq!(interval(&[usec]).expect("any process"), second);
        assert_eq!(
            interval(&[usec, (WATCHDOG_PID, &own)]).expect("this process"),
            second
        );
        assert_eq!(
            interval(&[usec, (WATCHDOG_PID, "1")]).expect("another process"),
            None
        );
        for bad in ["0", "-1", "", "soon"] {
            let refused = interval(&[(WATCHDOG_USEC, bad)]).expect_err(bad);
            assert!(matches!(
                refused,
                ShmError::InvalidVariable {
                    name: WATCHDOG_USEC,
                    ..
                }
            ));
        }
        assert!(interval(&[usec, (WATCHDOG_PID, "me")]).is_err());
    }
}
