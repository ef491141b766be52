//! Phases of writing, and the file in which a child notes its current phase.
//!
//! The file has one byte, written by a system call. It is in the page cache, so it survives the
//! death of the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use clap::ValueEnum;

/// Phase of writing of a store. `crash-test --help` describes where each starts and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Phase {
    Lock,
    Pages,
    Header,
    Rotation,
    Restore,
    Journal,
    Idle,
}

impl Phase {
    pub(crate) const ALL: [Self; 7] = [
        Self::Lock,
        Self::Pages,
        Self::Header,
        Self::Rotation,
        Self::Restore,
        Self::Journal,
        Self::Idle,
    ];
    /// Phases that a crash test must hit.
    pub(crate) const NEEDED: [Self; 5] = [
        Self::Lock,
        Self::Pages,
        Self::Header,
        Self::Rotation,
        Self::Restore,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Pages => "pages",
            Self::Header => "header",
            Self::Rotation => "rotation",
            Self::Restore => "restore",
            Self::Journal => "journal",
            Self::Idle => "idle",
        }
    }
}

/// File that holds the current phase.
#[derive(Debug)]
pub(crate) struct PhaseFile(File);

impl PhaseFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        options.open(path).map(Self)
    }

    pub(crate) fn write(&self, phase: Phase) -> io::Result<()> {
        self.0.write_all_at(&[phase as u8], 0)
    }

    pub(crate) fn read(&self) -> io::Result<Phase> {
        let mut byte = [0];
        self.0.read_exact_at(&mut byte, 0)?;
        let phase = Phase::ALL.get(usize::from(byte[0]));
        phase
            .copied()
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
