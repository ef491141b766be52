//! The file `STORE/memory-state`: which memfds are in use, and which were left by a crash.
//!
//! ```text
//! used BOOT DEVICE INODE PID:STARTED...     these commands use it; their exit is not observed yet
//! killed BOOT DEVICE INODE PID:STARTED...   restore the last snapshot; these commands may use it
//! ```
//!
//! A memfd can outlive this program and its command: a service manager or a shell may hold it. The
//! next start must then know whether its content is good. A line is written before a command
//! executes (`exec_barrier`), and removed when the command was observed to exit without a crash. A
//! memfd without a line is therefore good. A command with a line that does not run any more exited
//! unobserved, perhaps in the middle of a change. docs/shared-memory-protocol.md lists the cases.
//!
//! The flock(2) of the directory admits one process at a time to change the file. The file is
//! replaced as a whole, so a kill leaves the old or the new one. It is not synced with its
//! directory: a memfd does not survive a power failure. Lines of former boots and of memfds that
//! are gone are harmless.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use flatspan::shm::Memfd;
use flatspan::shm::process::ProcessId;

/// The file keeps the newest lines up to this number.
const LINES_MAX: usize = 64;
/// Limit for the lock of the directory, and for a process that is exiting.
const TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// A longer file is not of this format.
const BYTES_MAX: u64 = 1 << 16;

/// The file, as seen for one memfd.
#[derive(Debug)]
pub(crate) struct MemoryStateFile {
    path: PathBuf,
    boot: String,
    device: u64,
    inode: u64,
}

/// The state of a memfd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemoryState {
    /// It has no line, or all commands that use it are running.
    Good,
    /// These commands used it and do not run any more; their exit was not observed.
    ExitUnobserved(Vec<u32>),
    /// The last snapshot must be restored into it.
    Killed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Used,
    Killed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    kind: Kind,
    boot: String,
    device: u64,
    inode: u64,
    commands: Vec<ProcessId>,
}

impl MemoryStateFile {
    pub(crate) fn new(store: &Path, memory: &Memfd) -> Result<Self> {
        // After a reboot, other memfds have the same inode numbers.
        let boot = match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
            // The file is missing with ProcSubset=pid. After a reboot, each memfd is restored
            // first, which removes an old line with its number.
            Err(error) if error.kind() == io::ErrorKind::NotFound => "unknown".to_owned(),
            boot => boot.context("cannot read /proc/sys/kernel/random/boot_id")?,
        };
        let path = format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd());
        let metadata = fs::metadata(&path).with_context(|| format!("cannot inspect {path}"))?;
        Ok(Self {
            path: store.join("memory-state"),
            boot: boot.trim().to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Returns the state. On an error the caller must not treat the memory as good.
    pub(crate) fn state(&self) -> Result<MemoryState> {
        self.try_state().with_context(|| {
            let path = self.path.display();
            format!("cannot determine from {path} whether the memory is good")
        })
    }

    fn try_state(&self) -> Result<MemoryState> {
        let lines = self.read()?;
        let Some(line) = lines.iter().find(|line| self.is_own(line)) else {
            return Ok(MemoryState::Good);
        };
        let (mut running, mut exited) = (Vec::new(), Vec::new());
        for command in &line.commands {
            if is_running(*command)? {
                running.push(command.pid);
            } else {
                exited.push(command.pid);
            }
        }
        let state = match line.kind {
            Kind::Killed => MemoryState::Killed,
            Kind::Used if exited.is_empty() => MemoryState::Good,
            Kind::Used => MemoryState::ExitUnobserved(exited),
        };
        match running.first() {
            Some(pid) if state != MemoryState::Good => bail!(
                "another program was killed, and process {pid} still uses the memory; stop that process, then start again"
            ),
            _ => Ok(state),
        }
    }

    /// Adds a command that uses the memory.
    pub(crate) fn add_user(&self, command: ProcessId) -> Result<()> {
        self.change(Some(Kind::Used), |commands| commands.push(command))
    }

    /// Records that the last snapshot must be restored. Commands that may be running stay users.
    pub(crate) fn set_killed(&self) -> Result<()> {
        self.change(Some(Kind::Killed), |commands| {
            commands.retain(may_be_running);
        })
    }

    /// Records that the content is good. Commands that may be running stay users.
    pub(crate) fn set_good(&self) -> Result<()> {
        self.change(None, |commands| commands.retain(may_be_running))
    }

    /// Removes a command that was never executed.
    pub(crate) fn remove_user(&self, command: ProcessId) -> Result<()> {
        self.change(None, |commands| commands.retain(|other| *other != command))
    }

    /// Removes the line, which is of an earlier memfd with the same inode number.
    pub(crate) fn remove(&self) -> Result<()> {
        self.change(None, Vec::clear)
    }

    /// Replaces the line of this memfd. Without a kind, there is a line only if it has commands.
    fn change(&self, kind: Option<Kind>, commands: impl FnOnce(&mut Vec<ProcessId>)) -> Result<()> {
        self.try_change(kind, commands)
            .with_context(|| format!("cannot change {}", self.path.display()))
    }

    fn try_change(
        &self,
        kind: Option<Kind>,
        commands: impl FnOnce(&mut Vec<ProcessId>),
    ) -> Result<()> {
        // The lock of the store does not suffice: this program loses it if it fails to reopen the
        // store.
        let _lock = self.lock()?;
        let before = self.read()?;
        let mut lines = before.clone();
        let mut own = match lines.iter().position(|line| self.is_own(line)) {
            Some(index) => lines.remove(index).commands,
            None => Vec::new(),
        };
        commands(&mut own);
        lines.retain(|line| line.boot == self.boot);
        if kind.is_some() || !own.is_empty() {
            lines.push(Line {
                kind: kind.unwrap_or(Kind::Used),
                boot: self.boot.clone(),
                device: self.device,
                inode: self.inode,
                commands: own,
            });
        }
        lines.drain(..lines.len().saturating_sub(LINES_MAX));
        if lines == before {
            Ok(())
        } else {
            Ok(self.write(&lines)?)
        }
    }

    fn lock(&self) -> Result<File> {
        let store = File::open(self.path.parent().unwrap_or_else(|| Path::new(".")))?;
        let deadline = Instant::now() + TIMEOUT;
        while let Err(error) = store.try_lock() {
            if Instant::now() >= deadline || matches!(error, TryLockError::Error(_)) {
                return Err(io::Error::from(error)).context("cannot lock the directory");
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(store)
    }

    fn is_own(&self, line: &Line) -> bool {
        (&line.boot, line.device, line.inode) == (&self.boot, self.device, self.inode)
    }

    fn read(&self) -> Result<Vec<Line>> {
        let mut text = Vec::new();
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?.take(BYTES_MAX + 1).read_to_end(&mut text)?,
        };
        // A power failure may leave any content of an unsynced file. The memfds are gone then, too.
        let boot = self.boot.as_bytes();
        if !text.windows(boot.len()).any(|window| window == boot) {
            return Ok(Vec::new());
        }
        let lines = match text.len() as u64 {
            ..=BYTES_MAX => String::from_utf8(text).ok().and_then(|text| parse(&text)),
            _ => None,
        };
        lines.context("the file is not in the format of this version")
    }

    fn write(&self, lines: &[Line]) -> io::Result<()> {
        if lines.is_empty() {
            return fs::remove_file(&self.path);
        }
        let text: String = lines.iter().map(Line::text).collect();
        let new = self.path.with_extension("new");
        let written = write_new(&new, &text).and_then(|()| fs::rename(&new, &self.path));
        let Err(error) = written else {
            return Ok(());
        };
        // It may not have been created.
        drop(fs::remove_file(&new));
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.write_in_place(text).map_err(|_second| error)
            }
            _ => Err(error),
        }
    }

    /// Overwrites the file, which needs no storage if the text is not longer: the rest becomes
    /// empty lines. One write(2), so that a kill leaves the old or the new text.
    fn write_in_place(&self, mut text: String) -> io::Result<()> {
        let file = File::options().write(true).open(&self.path)?;
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let rest = len
            .checked_sub(text.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        text.extend(std::iter::repeat_n('\n', rest));
        if file.write_at(text.as_bytes(), 0)? == text.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
}

/// Writes a new file. Some filesystems report a full disk only when it is synced.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// Returns whether the process runs. One that is exiting is waited for: it may have been killed
/// together with this program.
fn is_running(command: ProcessId) -> Result<bool> {
    let deadline = Instant::now() + TIMEOUT;
    let mut is_confirmed = false;
    loop {
        if !command.is_alive()? {
            return Ok(false);
        }
        match command.is_ending()? {
            false if is_confirmed => return Ok(true),
            // Between the delivery of a fatal signal and the exit, a process briefly shows neither.
            is_ending => is_confirmed = !is_ending,
        }
        if Instant::now() >= deadline {
            bail!(
                "process {} received a fatal signal but does not exit",
                command.pid
            );
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Returns whether the process runs; `true` if that is unknown.
fn may_be_running(command: &ProcessId) -> bool {
    command.is_alive().unwrap_or(true)
}

impl Line {
    fn text(&self) -> String {
        let kind = match self.kind {
            Kind::Used => "used",
            Kind::Killed => "killed",
        };
        let mut text = format!("{kind} {} {} {}", self.boot, self.device, self.inode);
        for command in &self.commands {
            text += &[
                " ",
                &command.pid.to_string(),
                ":",
                &command.start_ticks.to_string(),
            ]
            .concat();
        }
        text + "\n"
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = match words.next()? {
            "used" => Kind::Used,
            "killed" => Kind::Killed,
            _ => return None,
        };
        let boot = words.next().filter(|boot| !boot.is_empty())?.to_owned();
        let (device, inode) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let commands = words.map(parse_command).collect::<Option<_>>()?;
        Some(Self {
            kind,
            boot,
            device,
            inode,
            commands,
        })
    }
}

fn parse(text: &str) -> Option<Vec<Line>> {
    let lines = text.strip_suffix('\n')?.split('\n');
    lines
        .filter(|line| !line.is_empty())
        .map(Line::parse)
        .collect()
}

fn parse_command(word: &str) -> Option<ProcessId> {
    let (pid, started) = word.split_once(':')?;
    let pid = pid
        .parse()
        .ok()
        .filter(|pid| (1..=i32::MAX.cast_unsigned()).contains(pid))?;
    let started = started.parse().ok()?;
    Some(ProcessId::new(pid, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(pid: u32) -> ProcessId {
        ProcessId::new(pid, 5)
    }

    fn running() -> ProcessId {
        ProcessId::lookup(std::process::id())
            .expect("/proc")
            .expect("this process exists")
    }

    fn exited() -> ProcessId {
        ProcessId::new(running().pid, running().start_ticks + 1)
    }

    struct Fixture {
        store: tempfile::TempDir,
        memory: Memfd,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                store: tempfile::tempdir().expect("a directory"),
                memory: Memfd::create("used", 0).expect("a memfd"),
            }
        }

        fn file(&self) -> MemoryStateFile {
            MemoryStateFile::new(self.store.path(), &self.memory).expect("the memfd has an inode")
        }

        fn is_empty(&self) -> bool {
            self.store
                .path()
                .read_dir()
                .expect("a directory")
                .next()
                .is_none()
        }
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        for (kind, commands) in [
            (Kind::Used, vec![command(1), command(i32::MAX as u32)]),
            (Kind::Killed, vec![]),
        ] {
            let line = Line {
                kind,
                boot: "b-1".to_owned(),
                device: 1,
                inode: u64::MAX,
                commands,
            };
            let twice = line.text() + &line.text();
            assert_eq!(parse(&twice), Some(vec![line.clone(), line]));
        }
    }

    #[test]
    fn an_invalid_file_is_an_error_and_is_not_changed() {
        let fixture = Fixture::new();
        let file = fixture.file();
        let (boot, end) = (&file.boot, "1:2\n");
        for bad in [
            format!("{boot} 1 2\n"),
            format!("used {boot} 1 2"),
            format!("used {boot} 1 2 0:5\n"),
            format!("used {boot} 1 2 4294967295:5\n"),
            format!("used {boot} 1 2 7:-1\n"),
            format!("used {boot} 1 2 7\n"),
            format!("used {boot} 1 99999999999999999999 {end}"),
            format!("used {boot} 1\n"),
            format!("slain {boot} 1 2 {end}"),
            format!("used {boot} 1 2{}\n", " 1:2".repeat(1 << 15)),
        ] {
            fs::write(&file.path, &bad).expect("a file");
            let refused = format!("{:#}", file.state().expect_err(&bad));
            assert!(refused.contains("memory-state"), "{refused}");
            file.set_good().expect_err(&bad);
            assert_eq!(fs::read_to_string(&file.path).expect("a file"), bad);
        }
        // Content after a power failure, and lines of a former boot.
        for empty in ["", "\0\0\0\0", "\n", "used  1 2\n", "slain former 1 2 \0"] {
            fs::write(&file.path, empty).expect("a file");
            assert_eq!(file.state().expect("nothing"), MemoryState::Good);
        }
    }

    #[test]
    fn a_command_that_exited_unobserved_leaves_bad_memory() {
        let fixture = Fixture::new();
        let file = fixture.file();
        assert_eq!(file.state().expect("nothing"), MemoryState::Good);
        file.add_user(running()).expect("written");
        assert_eq!(file.state().expect("in use"), MemoryState::Good);
        file.add_user(exited()).expect("written");
        let refused = file.state().expect_err("one lives").to_string();
        assert!(refused.contains("memory-state"), "{refused}");
        file.set_good().expect("written");
        assert_eq!(file.state().expect("in use"), MemoryState::Good);
        assert!(!fixture.is_empty(), "the other one still uses it");
        file.set_killed().expect("written");
        file.state().expect_err("one lives");
        file.remove().expect("written");
        assert!(fixture.is_empty());
        file.add_user(exited()).expect("written");
        let unobserved = MemoryState::ExitUnobserved(vec![std::process::id()]);
        assert_eq!(file.state().expect("exited"), unobserved);
        file.set_killed().expect("written");
        assert_eq!(file.state().expect("killed"), MemoryState::Killed);
        file.set_good().expect("written");
        assert!(fixture.is_empty());
        file.set_good().expect("nothing to be done");
    }

    #[test]
    fn without_free_storage_a_shorter_text_overwrites_the_longer() {
        let fixture = Fixture::new();
        let file = fixture.file();
        file.add_user(exited()).expect("written");
        let long = fs::metadata(&file.path).expect("a file").len();
        let line = Line {
            kind: Kind::Used,
            boot: file.boot.clone(),
            device: 1,
            inode: 2,
            commands: Vec::new(),
        };
        file.write_in_place(line.text()).expect("it is shorter");
        assert_eq!(fs::metadata(&file.path).expect("a file").len(), long);
        assert_eq!(file.read().expect("lines"), [line]);
        assert_eq!(file.state().expect("of others"), MemoryState::Good);
        let longer = "x".repeat(1 + usize::try_from(long).expect("small"));
        let refused = file.write_in_place(longer).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::StorageFull));
        assert_eq!(fs::metadata(&file.path).expect("a file").len(), long);
    }

    #[test]
    fn lines_of_other_memfds_stay_and_lines_of_former_boots_go() {
        let fixture = Fixture::new();
        let other = Memfd::create("other", 0).expect("a memfd");
        let other =
            MemoryStateFile::new(fixture.store.path(), &other).expect("the memfd has an inode");
        let file = fixture.file();
        fs::write(&file.path, "killed former 1 2\n").expect("a file");
        other.set_killed().expect("written");
        assert_eq!(file.state().expect("of others"), MemoryState::Good);
        for _ in 0..2 {
            file.add_user(running()).expect("written");
            file.remove().expect("written");
        }
        assert_eq!(other.state().expect("its own"), MemoryState::Killed);
        other.set_good().expect("written");
        assert!(fixture.is_empty());
        for inode in 0..200 {
            let one = MemoryStateFile {
                inode,
                ..fixture.file()
            };
            one.set_killed().expect("written");
        }
        let lines = fs::read_to_string(&file.path).expect("a file");
        assert_eq!(lines.lines().count(), LINES_MAX);
        assert!(lines.ends_with(" 199\n"), "the newest: {lines}");
    }
}
