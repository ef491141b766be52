//! Calls that fail.

use std::{collections::BTreeMap, io};

/// Kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `EIO`. A failed sync leaves earlier writes permanently in doubt.
    Io,
    /// `ENOSPC`; a sync leaves writes in doubt as with `Io`.
    StorageFull,
    /// `EINTR`, without any effect.
    Interrupted,
    /// Half of a write is done, then `EIO`; other calls as with `Io`.
    ShortWrite,
}

impl Fault {
    pub(crate) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Io | Self::ShortWrite => libc::EIO,
            Self::StorageFull => libc::ENOSPC,
            Self::Interrupted => libc::EINTR,
        })
    }
}

/// Selects the calls that fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) calls: u64,
    planned: BTreeMap<u64, Fault>,
    from: Option<(u64, Fault)>,
}

impl Faults {
    pub(crate) fn plan(&mut self, call: u64, fault: Fault) {
        self.planned.insert(call, fault);
    }

    pub(crate) fn plan_from(&mut self, call: u64, fault: Fault) {
        self.from = Some((call, fault));
    }

    /// Counts a call, starting at 0, and returns its failure.
    pub(crate) fn next(&mut self) -> Option<Fault> {
        let call = self.calls;
        self.calls += 1;
        let permanent = self.from.filter(|(from, _)| call >= *from);
        self.planned
            .remove(&call)
            .or_else(|| permanent.map(|(_, fault)| fault))
    }
}
