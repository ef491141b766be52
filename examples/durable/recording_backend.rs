//! Backend that notes the phase of its store before and after each call, and reports the targeted
//! call.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flatspan::snapshot::{DirectoryBackend, LogicalFile, StorageBackend};

use crate::fault::Fault;
use crate::line::Line;
use crate::phase::{Phase, PhaseFile};
use crate::phases::{Call, Phases};

/// Standard output without a buffer.
#[derive(Debug)]
pub(crate) struct Pipe(File);

impl Pipe {
    pub(crate) fn stdout() -> io::Result<Self> {
        let pipe = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self(pipe.into()))
    }

    /// Writes a line. Lines are shorter than `PIPE_BUF`, so each is written whole and unmixed.
    pub(crate) fn send(&self, line: &Line) -> io::Result<()> {
        (&self.0).write_all(format!("{line}\n").as_bytes())
    }
}

/// Call at which the child is to be killed.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) phase: Option<Phase>,
    /// Number of the call in that phase, starting at 1.
    pub(crate) call: u64,
    /// Delay before the call is made.
    pub(crate) linger: Duration,
    pub(crate) calls: AtomicU64,
}

impl Target {
    fn meet(&self, phase: Phase, pipe: &Pipe) -> io::Result<()> {
        if self.phase != Some(phase) {
            return Ok(());
        }
        if self.calls.fetch_add(1, Ordering::Relaxed) + 1 != self.call {
            return Ok(());
        }
        pipe.send(&Line::At(phase))?;
        // A busy loop, so that the delay ends at an arbitrary moment.
        let begun = Instant::now();
        while begun.elapsed() < self.linger {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct RecordingBackend {
    disk: DirectoryBackend,
    file: PhaseFile,
    pipe: Arc<Pipe>,
    target: Arc<Target>,
    fault: Fault,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phases: Phases,
    /// Phase that the file holds.
    noted: Phase,
}

impl RecordingBackend {
    /// Creates the backend of a store that is about to be opened.
    pub(crate) fn new(
        disk: DirectoryBackend,
        file: PhaseFile,
        pipe: Arc<Pipe>,
        target: Arc<Target>,
        fault: Fault,
        phases: Phases,
    ) -> io::Result<Self> {
        let noted = phases.current();
        file.write(noted)?;
        Ok(Self {
            disk,
            file,
            pipe,
            target,
            fault,
            state: Mutex::new(State { phases, noted }),
        })
    }

    /// Notes that the store is open.
    pub(crate) fn opened(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.phases.opened();
        self.note(&mut state)
    }

    fn around<R>(&self, call: Call<'_>, make: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let phase = {
            let mut state = self.lock();
            let phase = state.phases.before(call);
            self.note(&mut state)?;
            phase
        };
        self.target.meet(phase, &self.pipe)?;
        let made = make();
        let mut state = self.lock();
        state.phases.after(call);
        self.note(&mut state)?;
        made
    }

    /// Writes a changed phase to the file. The caller holds the lock, so the file has the last
    /// phase.
    fn note(&self, state: &mut State) -> io::Result<()> {
        let phase = state.phases.current();
        if std::mem::replace(&mut state.noted, phase) == phase {
            return Ok(());
        }
        self.file.write(phase)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for RecordingBackend {
    fn part_bytes(&self) -> u64 {
        self.disk.part_bytes()
    }

    fn set_part_bytes(&self, array: LogicalFile, part_bytes: u64) -> io::Result<()> {
        self.disk.set_part_bytes(array, part_bytes)
    }

    fn files(&self) -> io::Result<Vec<LogicalFile>> {
        self.around(Call::Other, || self.disk.files())
    }

    fn create(&self, array: LogicalFile) -> io::Result<()> {
        self.around(Call::Create(array), || self.disk.create(array))
    }

    fn len(&self, array: LogicalFile) -> io::Result<u64> {
        self.around(Call::Other, || self.disk.len(array))
    }

    fn read(&self, array: LogicalFile, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.around(Call::Other, || self.disk.read(array, offset, buf))
    }

    fn write(&self, array: LogicalFile, offset: u64, buf: &[u8]) -> io::Result<()> {
        let restoring = self.lock().phases.is_restoring();
        self.around(Call::Write(array, offset, buf), || {
            if restoring {
                self.disk.write(array, offset, buf)
            } else {
                self.fault.write(&self.disk, array, offset, buf)
            }
        })
    }

    fn reserve(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.around(Call::Other, || self.disk.reserve(array, range))
    }

    fn set_len(&self, array: LogicalFile, len: u64) -> io::Result<()> {
        self.around(Call::Shape(array), || self.disk.set_len(array, len))
    }

    fn discard(&self, array: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.around(Call::Shape(array), || self.disk.discard(array, range))
    }

    fn next_data(&self, array: LogicalFile, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.around(Call::Other, || self.disk.next_data(array, offset))
    }

    fn sync(&self, array: LogicalFile) -> io::Result<()> {
        self.around(Call::Sync(array), || self.disk.sync(array))?;
        self.fault.synced(&self.disk, array)
    }

    fn drop_page_cache(&self, array: LogicalFile) -> io::Result<()> {
        self.around(Call::Other, || self.disk.drop_page_cache(array))
    }

    fn remove(&self, array: LogicalFile) -> io::Result<()> {
        self.around(Call::Remove(array), || self.disk.remove(array))
    }

    fn clone_range(&self, from: LogicalFile, to: LogicalFile, range: Range<u64>) -> io::Result<()> {
        self.around(Call::Shape(to), || self.disk.clone_range(from, to, range))
    }

    fn publish(&self) -> io::Result<()> {
        self.around(Call::Other, || self.disk.publish())
    }

    fn part_file(&self, array: LogicalFile, part: u64) -> io::Result<Option<File>> {
        self.disk.part_file(array, part)
    }
}
