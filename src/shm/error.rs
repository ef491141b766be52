//! Error type of memfds and of fd passing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::RawFd;

use super::absence::Absence;

/// An error of a memfd or of fd passing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShmError {
    /// Creating a memfd failed.
    #[error("cannot create memfd `{name}` of {len_bytes} bytes")]
    CreateMemfd {
        /// Name of the memfd.
        name: String,
        /// Requested length.
        len_bytes: u64,
        /// Error of the system call.
        source: io::Error,
    },
    /// The descriptor is not a memfd.
    #[error("descriptor {fd} ({what}) is not a memfd")]
    NotAMemfd {
        /// Descriptor number.
        fd: RawFd,
        /// Target of its `/proc/self/fd` link.
        what: String,
    },
    /// The memfd can never get the shrink seal that marks it as restored.
    ///
    /// It was created without `MFD_ALLOW_SEALING`, or is a file of a tmpfs directory.
    #[error("descriptor {fd} ({what}) cannot be sealed; create the memfd with MFD_ALLOW_SEALING")]
    SealingNotAllowed {
        /// Descriptor number.
        fd: RawFd,
        /// Target of its `/proc/self/fd` link.
        what: String,
    },
    /// The memfd has huge pages. Their rules for lengths and mappings are not supported.
    #[error("descriptor {fd} ({what}) has huge pages; create the memfd without MFD_HUGETLB")]
    HugePagesUnsupported {
        /// Descriptor number.
        fd: RawFd,
        /// Target of its `/proc/self/fd` link.
        what: String,
    },
    /// The memfd cannot be written through this descriptor.
    #[error("descriptor {fd} ({what}) cannot be written: {why}")]
    NotWritable {
        /// Descriptor number.
        fd: RawFd,
        /// Target of its `/proc/self/fd` link.
        what: String,
        /// Reason.
        why: &'static str,
    },
    /// The memfd ends before the range. Access past its end would raise SIGBUS.
    #[error("descriptor {fd} has {actual_bytes} bytes, the range requires {required_bytes}")]
    TooShort {
        /// Descriptor number.
        fd: RawFd,
        /// End of the range.
        required_bytes: u64,
        /// Length of the memfd.
        actual_bytes: u64,
    },
    /// The range cannot be mapped.
    #[error("cannot map bytes {start}..{end} of descriptor {fd}: {reason}")]
    InvalidRange {
        /// Descriptor number.
        fd: RawFd,
        /// First byte of the range.
        start: u64,
        /// End of the range.
        end: u64,
        /// Reason.
        reason: &'static str,
    },
    /// A system call on a descriptor failed.
    #[error("cannot {operation} (descriptor {fd})")]
    Io {
        /// Descriptor number.
        fd: RawFd,
        /// Attempted operation.
        operation: &'static str,
        /// Error of the system call.
        source: io::Error,
    },
    /// An environment variable has an invalid value.
    #[error("invalid value `{}` of {name}: {reason}", printable(value))]
    InvalidVariable {
        /// Name of the variable.
        name: &'static str,
        /// Its value.
        value: OsString,
        /// Reason.
        reason: String,
    },
    /// `LISTEN_FDS` announces a descriptor that is not open.
    #[error("LISTEN_FDS={announced} announces descriptor {fd}, which is not open")]
    FdNotOpen {
        /// Descriptor number.
        fd: RawFd,
        /// Number of announced descriptors.
        announced: u32,
    },
    /// `LISTEN_FDS` announces a descriptor that this process opened itself.
    #[error(
        "LISTEN_FDS={announced} announces descriptor {fd} ({what}), which this process opened \
         itself"
    )]
    FdNotInherited {
        /// Descriptor number.
        fd: RawFd,
        /// Target of its `/proc/self/fd` link.
        what: String,
        /// Number of announced descriptors.
        announced: u32,
    },
    /// This process has received its descriptors before.
    #[error("the descriptors of LISTEN_FDS were already received, a process can do so once")]
    AlreadyReceived,
    /// No descriptor has the name.
    #[error("no descriptor named `{name}`: {}", explain_absence(absent.as_ref(), names))]
    NoSuchFd {
        /// The name.
        name: String,
        /// Reason if no descriptors were passed at all.
        absent: Option<Absence>,
        /// Names of the available descriptors.
        names: Vec<String>,
    },
    /// `LISTEN_FDNAMES` cannot carry the name.
    #[error("invalid descriptor name `{}`: {reason}", name.escape_debug())]
    InvalidFdName {
        /// The name.
        name: String,
        /// Reason.
        reason: &'static str,
    },
    /// Another file uses the number that a passed descriptor must have.
    #[error(
        "`{name}` must become descriptor {fd}, but {what} uses that number; a shell closes it \
         with `{fd}<&-`"
    )]
    FdNumberInUse {
        /// Required descriptor number.
        fd: RawFd,
        /// Target of its `/proc/self/fd` link.
        what: String,
        /// Name of the passed descriptor.
        name: String,
    },
    /// A program cannot be executed.
    #[error("cannot execute `{}`", program.display())]
    Exec {
        /// Path or name of the program.
        program: OsString,
        /// Error of the system call.
        source: io::Error,
    },
    /// A message cannot be sent to the service manager.
    #[error("cannot send `{message}` to the service manager at {socket}")]
    Notify {
        /// Value of `NOTIFY_SOCKET`.
        socket: String,
        /// First line of the message.
        message: String,
        /// Error of the system call.
        source: io::Error,
    },
}

fn explain_absence(absent: Option<&Absence>, names: &[String]) -> String {
    match absent {
        Some(absent) => absent.to_string(),
        None if names.is_empty() => "all passed descriptors were taken".to_owned(),
        None => format!("the available names are `{}`", names.join("`, `")),
    }
}

fn printable(value: &OsStr) -> String {
    value.to_string_lossy().escape_debug().to_string()
}

impl ShmError {
    /// Returns a closure for `map_err`.
    pub(super) fn io(fd: RawFd, operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            fd,
            operation,
            source,
        }
    }

    /// Returns the corresponding [`io::ErrorKind`].
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::CreateMemfd { source, .. }
            | Self::Io { source, .. }
            | Self::Exec { source, .. }
            | Self::Notify { source, .. } => source.kind(),
            Self::NotWritable { .. } => io::ErrorKind::PermissionDenied,
            Self::TooShort { .. } => io::ErrorKind::UnexpectedEof,
            Self::NoSuchFd { .. } | Self::FdNotOpen { .. } => io::ErrorKind::NotFound,
            Self::AlreadyReceived => io::ErrorKind::AlreadyExists,
            Self::FdNumberInUse { .. } => io::ErrorKind::AddrInUse,
            Self::NotAMemfd { .. }
            | Self::SealingNotAllowed { .. }
            | Self::HugePagesUnsupported { .. }
            | Self::InvalidRange { .. }
            | Self::InvalidVariable { .. }
            | Self::FdNotInherited { .. }
            | Self::InvalidFdName { .. } => io::ErrorKind::InvalidInput,
        }
    }
}

impl From<ShmError> for io::Error {
    fn from(error: ShmError) -> Self {
        Self::new(error.kind(), error)
    }
}
