//! A disk that notes, before and after each call, which phase its store is in, and tells of the call that was asked for.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flatspan::snapshot::{Array, Disk, GroupDisk};

use crate::fault::Fault;
use crate::line::Line;
use crate::phase::{Phase, PhaseFile};
use crate::phases::{Call, Phases};

/// Standard output, without a buffer.
#[derive(Debug)]
pub(crate) struct Pipe(File);

impl Pipe {
    pub(crate) fn stdout() -> io::Result<Self> {
        let pipe = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self(pipe.into()))
    }

    /// Lines are far below `PIPE_BUF`: none is ever there in part, or mixed with another thread's.
    pub(crate) fn say(&self, line: &Line) -> io::Result<()> {
        (&self.0).write_all(format!("{line}\n").as_bytes())
    }
}

/// Where the child is to be killed.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) phase: Option<Phase>,
    /// The number of the call in that phase, from 1 on.
    pub(crate) call: u64,
    /// So long the call is kept from being made.
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
        pipe.say(&Line::At(phase))?;
        // Busy, so that it goes on at an instant of its own.
        let begun = Instant::now();
        while begun.elapsed() < self.linger {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct RecordingDisk {
    disk: GroupDisk,
    file: PhaseFile,
    pipe: Arc<Pipe>,
    target: Arc<Target>,
    fault: Fault,
    present: Mutex<Present>,
}

#[derive(Debug)]
struct Present {
    phases: Phases,
    /// What the file says.
    noted: Phase,
}

impl RecordingDisk {
    /// For a store that is opened now.
    pub(crate) fn new(
        disk: GroupDisk,
        file: PhaseFile,
        pipe: Arc<Pipe>,
        target: Arc<Target>,
        fault: Fault,
        phases: Phases,
    ) -> io::Result<Self> {
        let noted = phases.present();
        file.write(noted)?;
        Ok(Self {
            disk,
            file,
            pipe,
            target,
            fault,
            present: Mutex::new(Present { phases, noted }),
        })
    }

    /// The store is open.
    pub(crate) fn opened(&self) -> io::Result<()> {
        let mut present = self.lock();
        present.phases.opened();
        self.note(&mut present)
    }

    fn around<R>(&self, call: Call<'_>, make: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let phase = {
            let mut present = self.lock();
            let phase = present.phases.before(call);
            self.note(&mut present)?;
            phase
        };
        self.target.meet(phase, &self.pipe)?;
        let made = make();
        let mut present = self.lock();
        present.phases.after(call);
        self.note(&mut present)?;
        made
    }

    /// Under the lock, so that the file has what was noted last.
    fn note(&self, present: &mut Present) -> io::Result<()> {
        let phase = present.phases.present();
        if std::mem::replace(&mut present.noted, phase) == phase {
            return Ok(());
        }
        self.file.write(phase)
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for RecordingDisk {
    fn part_bytes(&self) -> u64 {
        self.disk.part_bytes()
    }

    fn set_part_bytes(&self, array: Array, part_bytes: u64) -> io::Result<()> {
        self.disk.set_part_bytes(array, part_bytes)
    }

    fn arrays(&self) -> io::Result<Vec<Array>> {
        self.around(Call::Other, || self.disk.arrays())
    }

    fn create(&self, array: Array) -> io::Result<()> {
        self.around(Call::Create(array), || self.disk.create(array))
    }

    fn len(&self, array: Array) -> io::Result<u64> {
        self.around(Call::Other, || self.disk.len(array))
    }

    fn read(&self, array: Array, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.around(Call::Other, || self.disk.read(array, offset, buf))
    }

    fn write(&self, array: Array, offset: u64, buf: &[u8]) -> io::Result<()> {
        let restoring = self.lock().phases.is_restoring();
        self.around(Call::Write(array, offset, buf), || {
            if restoring {
                self.disk.write(array, offset, buf)
            } else {
                self.fault.write(&self.disk, array, offset, buf)
            }
        })
    }

    fn reserve(&self, array: Array, range: Range<u64>) -> io::Result<()> {
        self.around(Call::Other, || self.disk.reserve(array, range))
    }

    fn set_len(&self, array: Array, len: u64) -> io::Result<()> {
        self.around(Call::Shape(array), || self.disk.set_len(array, len))
    }

    fn discard(&self, array: Array, range: Range<u64>) -> io::Result<()> {
        self.around(Call::Shape(array), || self.disk.discard(array, range))
    }

    fn next_data(&self, array: Array, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.around(Call::Other, || self.disk.next_data(array, offset))
    }

    fn sync(&self, array: Array) -> io::Result<()> {
        self.around(Call::Sync(array), || self.disk.sync(array))?;
        self.fault.synced(&self.disk, array)
    }

    fn forget_cached(&self, array: Array) -> io::Result<()> {
        self.around(Call::Other, || self.disk.forget_cached(array))
    }

    fn remove(&self, array: Array) -> io::Result<()> {
        self.around(Call::Remove(array), || self.disk.remove(array))
    }

    fn clone_range(&self, from: Array, to: Array, range: Range<u64>) -> io::Result<()> {
        self.around(Call::Shape(to), || self.disk.clone_range(from, to, range))
    }

    fn publish(&self) -> io::Result<()> {
        self.around(Call::Other, || self.disk.publish())
    }

    fn part_file(&self, array: Array, part: u64) -> io::Result<Option<File>> {
        self.disk.part_file(array, part)
    }
}
