//! What can go wrong with shared memory and its hand-over.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;

use super::listen_fds::Absent;

/// An error of shared memory or of its hand-over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShmError {
    /// A file of memory could not be made.
    #[error("cannot make a memfd `{name}` of {len_bytes} bytes")]
    Create {
        /// Its name.
        name: String,
        /// Its length.
        len_bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The descriptor is open on something else.
    #[error("descriptor {fd} ({what}) is not a memfd")]
    NotAMemfd {
        /// Its number.
        fd: RawFd,
        /// What it is open on.
        what: String,
    },
    /// The file can never get the seal that says that it was restored: a memfd made without `MFD_ALLOW_SEALING`, or a
    /// file in a directory of tmpfs.
    #[error("descriptor {fd} ({what}) cannot be sealed: not a memfd made with MFD_ALLOW_SEALING")]
    Unsealable {
        /// Its number.
        fd: RawFd,
        /// What it is open on.
        what: String,
    },
    /// The file is made of huge pages, which grow and are mapped by other rules.
    #[error("descriptor {fd} ({what}) is a memfd of huge pages (MFD_HUGETLB)")]
    HugePages {
        /// Its number.
        fd: RawFd,
        /// What it is open on.
        what: String,
    },
    /// The file cannot be written through this descriptor.
    #[error("descriptor {fd} ({what}) cannot be written: {why}")]
    NotWritable {
        /// Its number.
        fd: RawFd,
        /// What it is open on.
        what: String,
        /// What prevents it.
        why: &'static str,
    },
    /// The file ends before the range. Memory behind its end cannot be touched.
    #[error("descriptor {fd} has {present_bytes} bytes, {needed_bytes} are needed")]
    Short {
        /// Its number.
        fd: RawFd,
        /// Where the range ends.
        needed_bytes: u64,
        /// Where the file ends.
        present_bytes: u64,
    },
    /// A range that cannot be mapped.
    #[error("bytes {start}..{end} of descriptor {fd} cannot be mapped: {reason}")]
    Range {
        /// The file's number.
        fd: RawFd,
        /// First byte.
        start: u64,
        /// Behind the last byte.
        end: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The system refused something about a descriptor.
    #[error("descriptor {fd}: cannot {operation}")]
    Io {
        /// Its number.
        fd: RawFd,
        /// What was to be done.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A variable of the environment says something impossible.
    #[error("{name}={value:?}: {reason}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it says.
        value: OsString,
        /// What is wrong with it.
        reason: String,
    },
    /// A descriptor that `LISTEN_FDS` announces is not open.
    #[error("LISTEN_FDS announces {announced} descriptors from 3 on, but {fd} is not open")]
    NotOpen {
        /// Its number.
        fd: RawFd,
        /// How many are announced.
        announced: u32,
    },
    /// A descriptor that `LISTEN_FDS` announces was opened by this process and not left by its parent.
    #[error(
        "LISTEN_FDS announces {announced} descriptors from 3 on, but {fd} ({what}) was opened by this process"
    )]
    NotInherited {
        /// Its number.
        fd: RawFd,
        /// What it is open on.
        what: String,
        /// How many are announced.
        announced: u32,
    },
    /// The descriptors of this process were received before.
    #[error(
        "the descriptors that LISTEN_FDS announces were received before; a process can do so once"
    )]
    Received,
    /// No descriptor has this name.
    #[error("no descriptor named `{name}`: {}", absence(absent.as_ref(), names))]
    NoDescriptor {
        /// The name.
        name: String,
        /// Why there is none at all.
        absent: Option<Absent>,
        /// The names of those that are there.
        names: Vec<String>,
    },
    /// A name that the protocol cannot carry.
    #[error("{name:?} cannot name a descriptor: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The number that a descriptor must have is another's.
    #[error(
        "`{name}` must become descriptor {fd}, which is open on {what}; a shell closes it with {fd}<&-"
    )]
    NumberTaken {
        /// The number.
        fd: RawFd,
        /// What it is open on.
        what: String,
        /// What should be there.
        name: String,
    },
    /// A program could not be executed.
    #[error("cannot execute {program:?}")]
    Command {
        /// The program.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
    /// A message to the service manager could not be sent.
    #[error("cannot tell the service manager at {socket} {message}")]
    Notify {
        /// Its socket, as `NOTIFY_SOCKET` has it.
        socket: String,
        /// The first line of the message.
        message: String,
        /// What the system said.
        source: io::Error,
    },
}

fn absence(absent: Option<&Absent>, names: &[String]) -> String {
    match absent {
        Some(absent) => absent.to_string(),
        None if names.is_empty() => "none is left".to_owned(),
        None => format!("there are {names:?}"),
    }
}

impl ShmError {
    /// For `map_err`.
    pub(super) fn io(fd: RawFd, operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            fd,
            operation,
            source,
        }
    }

    /// The kind, as [`io::Error`] has it.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Create { source, .. }
            | Self::Io { source, .. }
            | Self::Command { source, .. }
            | Self::Notify { source, .. } => source.kind(),
            Self::NotWritable { .. } => io::ErrorKind::PermissionDenied,
            Self::Short { .. } => io::ErrorKind::UnexpectedEof,
            Self::NoDescriptor { .. } | Self::NotOpen { .. } => io::ErrorKind::NotFound,
            Self::Received => io::ErrorKind::AlreadyExists,
            Self::NumberTaken { .. } => io::ErrorKind::AddrInUse,
            Self::NotAMemfd { .. }
            | Self::Unsealable { .. }
            | Self::HugePages { .. }
            | Self::Range { .. }
            | Self::Variable { .. }
            | Self::NotInherited { .. }
            | Self::Name { .. } => io::ErrorKind::InvalidInput,
        }
    }
}

impl From<ShmError> for io::Error {
    fn from(error: ShmError) -> Self {
        Self::new(error.kind(), error)
    }
}
