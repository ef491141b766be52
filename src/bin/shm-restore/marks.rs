//! Whose memory a memory is, and whether it is good: the file `STORE/memories`, with a line for each memory.
//!
//! ```text
//! used BOOT DEVICE INODE PID:STARTED...     these commands use it, and how they end was not seen yet
//! killed BOOT DEVICE INODE PID:STARTED...   the last snapshot is to be restored into it; these others still use it
//! ```
//!
//! A memory can outlive this program and its command: a service manager or a shell may keep it. Then the next start must know whether
//! its content is good. A line is there before a command has run an instruction (`gate`), and goes when its end was seen to be good. So memory
//! without a line is good, and a command that is gone and has a line ended unseen, maybe in the middle of a change. The cases are in
//! docs/shared-memory-protocol.md.
//!
//! The file is changed by one at a time, who has the flock of the directory. It is replaced as a whole, so who is killed leaves the one before or the
//! new one. Its name is not synced: memory does not outlive the power. Lines of former boots, and of memory that is gone, do no harm.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use flatspan::shm::SharedFile;
use flatspan::shm::process::ProcessId;

/// Of so many memories, the newest ones, it is known.
const LINES_MAX: usize = 64;
/// So long a process that is ending is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(10);
/// No such file is as long.
const BYTES_MAX: u64 = 1 << 16;

#[derive(Debug)]
pub(crate) struct Marks {
    path: PathBuf,
    boot: String,
    device: u64,
    inode: u64,
}

/// What is known of a memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing, or that others use it and live.
    Good,
    /// These commands used it and are gone, and nobody saw how they ended.
    EndedUnseen(Vec<u32>),
    /// The last snapshot is to be restored into it.
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

impl Marks {
    pub(crate) fn of(store: &Path, memory: &SharedFile) -> Result<Self> {
        // Numbers of memfds are used again when the system has started anew.
        let boot = match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
            // As with ProcSubset=pid. After a new start of the system, memory is new, and what is known of its number is forgotten.
            Err(error) if error.kind() == io::ErrorKind::NotFound => "unknown".to_owned(),
            boot => boot.context("cannot read /proc/sys/kernel/random/boot_id")?,
        };
        let path = format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd());
        let found = fs::metadata(&path).with_context(|| format!("cannot look at {path}"))?;
        Ok(Self {
            path: store.join("memories"),
            boot: boot.trim().to_owned(),
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// Where that cannot be said, the memory must not be taken for good.
    pub(crate) fn judge(&self) -> Result<Verdict> {
        self.try_to_judge().with_context(|| {
            let path = self.path.display();
            format!("cannot see in {path} whether the memory is good")
        })
    }

    fn try_to_judge(&self) -> Result<Verdict> {
        let lines = self.read()?;
        let Some(line) = lines.iter().find(|line| self.is_of_ours(line)) else {
            return Ok(Verdict::Good);
        };
        let (mut living, mut gone) = (Vec::new(), Vec::new());
        for command in &line.commands {
            if lives(*command)? {
                living.push(command.pid)
            } else {
                gone.push(command.pid)
            }
        }
        let verdict = match line.kind {
            Kind::Killed => Verdict::Killed,
            Kind::Used if gone.is_empty() => Verdict::Good,
            Kind::Used => Verdict::EndedUnseen(gone),
        };
        match living.first() {
            Some(living) if verdict != Verdict::Good => bail!(
                "another program was killed, and process {living} still uses the memory: nothing is restored beneath it before it has ended"
            ),
            _ => Ok(verdict),
        }
    }

    /// From now on this command uses it too.
    pub(crate) fn used_by(&self, command: ProcessId) -> Result<()> {
        self.change(Some(Kind::Used), |commands| commands.push(command))
    }

    /// The last snapshot is to be restored into it. Of those who used it, those who live still do.
    pub(crate) fn killed(&self) -> Result<()> {
        self.change(Some(Kind::Killed), |commands| commands.retain(may_live))
    }

    /// What it holds is good, as long as those who use it and live do no harm.
    pub(crate) fn good(&self) -> Result<()> {
        self.change(None, |commands| commands.retain(may_live))
    }

    /// This one has never run.
    pub(crate) fn not_used_by(&self, command: ProcessId) -> Result<()> {
        self.change(None, |commands| commands.retain(|other| *other != command))
    }

    /// What is known of it was of another memory with the same number.
    pub(crate) fn forget(&self) -> Result<()> {
        self.change(None, Vec::clear)
    }

    /// Without a kind there is a line only as long as somebody uses it.
    fn change(&self, kind: Option<Kind>, commands: impl FnOnce(&mut Vec<ProcessId>)) -> Result<()> {
        self.try_to_change(kind, commands)
            .with_context(|| format!("cannot change {}", self.path.display()))
    }

    fn try_to_change(
        &self,
        kind: Option<Kind>,
        commands: impl FnOnce(&mut Vec<ProcessId>),
    ) -> Result<()> {
        // Also where the store could not be opened again, and is another's by now.
        let _turn = self.turn()?;
        let before = self.read()?;
        let mut lines = before.clone();
        let ours = lines.iter().position(|line| self.is_of_ours(line));
        let mut ours = ours
            .map(|ours| lines.remove(ours).commands)
            .unwrap_or_default();
        commands(&mut ours);
        lines.retain(|line| line.boot == self.boot);
        if kind.is_some() || !ours.is_empty() {
            lines.push(Line {
                kind: kind.unwrap_or(Kind::Used),
                boot: self.boot.clone(),
                device: self.device,
                inode: self.inode,
                commands: ours,
            });
        }
        lines.drain(..lines.len().saturating_sub(LINES_MAX));
        if lines == before {
            Ok(())
        } else {
            Ok(self.write(&lines)?)
        }
    }

    fn turn(&self) -> Result<File> {
        let store = File::open(self.path.parent().unwrap_or(Path::new(".")))?;
        let end = Instant::now() + PATIENCE;
        while let Err(error) = store.try_lock() {
            if Instant::now() >= end || matches!(error, TryLockError::Error(_)) {
                return Err(io::Error::from(error)).context("cannot lock the directory");
            }
            thread::sleep(STEP);
        }
        Ok(store)
    }

    fn is_of_ours(&self, line: &Line) -> bool {
        (&line.boot, line.device, line.inode) == (&self.boot, self.device, self.inode)
    }

    fn read(&self) -> Result<Vec<Line>> {
        let mut text = Vec::new();
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?.take(BYTES_MAX + 1).read_to_end(&mut text)?,
        };
        // A power cut may leave anything of what was not synced; the memories of before are gone.
        let boot = self.boot.as_bytes();
        if !text.windows(boot.len()).any(|found| found == boot) {
            return Ok(Vec::new());
        }
        let lines = match text.len() as u64 {
            ..=BYTES_MAX => String::from_utf8(text).ok().and_then(|text| parse(&text)),
            _ => None,
        };
        lines.context("it is no file of marks of this version")
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
        let _not_there = fs::remove_file(&new);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.write_in_place(text).map_err(|_| error)
            }
            _ => Err(error),
        }
    }

    /// A shorter text needs no room: the rest becomes empty lines. One write, so that who is killed has made it or not.
    fn write_in_place(&self, mut text: String) -> io::Result<()> {
        let file = File::options().write(true).open(&self.path)?;
        let room = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let rest = room.checked_sub(text.len());
        let rest = rest.ok_or(io::ErrorKind::StorageFull)?;
        text.extend(std::iter::repeat_n('\n', rest));
        if file.write_at(text.as_bytes(), 0)? == text.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
}

/// Some filesystems say only then that there is no room.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// One that was killed with its host may take a moment to end, and does not count.
fn lives(command: ProcessId) -> Result<bool> {
    let end = Instant::now() + PATIENCE;
    let mut is_confirmed = false;
    loop {
        if !command.is_alive()? {
            return Ok(false);
        }
        match command.is_ending()? {
            false if is_confirmed => return Ok(true),
            // On its way from the signal to its end it has neither for an instant.
            ending => is_confirmed = !ending,
        }
        if Instant::now() >= end {
            bail!("process {} is ending, and does not end", command.pid);
        }
        thread::sleep(STEP);
    }
}

/// What cannot be seen may be there.
fn may_live(command: &ProcessId) -> bool {
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
            text.push_str(&format!(" {}:{}", command.pid, command.started));
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

    /// One that lives, and one that is gone.
    fn living() -> ProcessId {
        ProcessId::of(std::process::id())
            .expect("/proc")
            .expect("us")
    }

    fn gone() -> ProcessId {
        ProcessId::new(living().pid, living().started + 1)
    }

    struct Folder {
        store: tempfile::TempDir,
        memory: SharedFile,
    }

    impl Folder {
        fn new() -> Self {
            Self {
                store: tempfile::tempdir().expect("a folder"),
                memory: SharedFile::create("marked", 0).expect("a memfd"),
            }
        }

        fn marks(&self) -> Marks {
            Marks::of(self.store.path(), &self.memory).expect("marks")
        }

        fn is_empty(&self) -> bool {
            self.store
                .path()
                .read_dir()
                .expect("a folder")
                .next()
                .is_none()
        }
    }

    #[test]
    fn what_is_written_is_read() {
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
    fn what_is_not_understood_is_an_error_and_stays() {
        let folder = Folder::new();
        let marks = folder.marks();
        let (boot, end) = (&marks.boot, "1:2\n");
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
            fs::write(&marks.path, &bad).expect("a file");
            let refused = format!("{:#}", marks.judge().expect_err(&bad));
            assert!(refused.contains("memories"), "{refused}");
            marks.good().expect_err(&bad);
            assert_eq!(fs::read_to_string(&marks.path).expect("a file"), bad);
        }
        // As after a power cut, or from before it.
        for empty in ["", "\0\0\0\0", "\n", "used  1 2\n", "slain former 1 2 \0"] {
            fs::write(&marks.path, empty).expect("a file");
            assert_eq!(marks.judge().expect("nothing"), Verdict::Good);
        }
    }

    #[test]
    fn who_is_gone_and_was_not_seen_to_end_leaves_it_bad() {
        let folder = Folder::new();
        let marks = folder.marks();
        assert_eq!(marks.judge().expect("nothing"), Verdict::Good);
        marks.used_by(living()).expect("written");
        assert_eq!(marks.judge().expect("in use"), Verdict::Good);
        marks.used_by(gone()).expect("written");
        let refused = marks.judge().expect_err("one lives").to_string();
        assert!(refused.contains("memories"), "{refused}");
        marks.good().expect("written");
        assert_eq!(marks.judge().expect("in use"), Verdict::Good);
        assert!(!folder.is_empty(), "the other one still uses it");
        marks.killed().expect("written");
        marks.judge().expect_err("one lives");
        marks.forget().expect("written");
        assert!(folder.is_empty());
        marks.used_by(gone()).expect("written");
        let unseen = Verdict::EndedUnseen(vec![std::process::id()]);
        assert_eq!(marks.judge().expect("gone"), unseen);
        marks.killed().expect("written");
        assert_eq!(marks.judge().expect("killed"), Verdict::Killed);
        marks.good().expect("written");
        assert!(folder.is_empty());
        marks.good().expect("nothing to be done");
    }

    #[test]
    fn where_there_is_no_room_a_shorter_text_takes_the_place_of_the_longer() {
        let folder = Folder::new();
        let marks = folder.marks();
        marks.used_by(gone()).expect("written");
        let long = fs::metadata(&marks.path).expect("a file").len();
        let line = Line {
            kind: Kind::Used,
            boot: marks.boot.clone(),
            device: 1,
            inode: 2,
            commands: Vec::new(),
        };
        marks.write_in_place(line.text()).expect("it is shorter");
        assert_eq!(fs::metadata(&marks.path).expect("a file").len(), long);
        assert_eq!(marks.read().expect("lines"), [line]);
        assert_eq!(marks.judge().expect("of others"), Verdict::Good);
        let longer = "x".repeat(1 + usize::try_from(long).expect("small"));
        let refused = marks.write_in_place(longer).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::StorageFull));
        assert_eq!(fs::metadata(&marks.path).expect("a file").len(), long);
    }

    #[test]
    fn other_memories_keep_their_lines_and_former_boots_do_not() {
        let folder = Folder::new();
        let other = SharedFile::create("other", 0).expect("a memfd");
        let other = Marks::of(folder.store.path(), &other).expect("marks");
        let marks = folder.marks();
        fs::write(&marks.path, "killed former 1 2\n").expect("a file");
        other.killed().expect("written");
        assert_eq!(marks.judge().expect("of others"), Verdict::Good);
        for _ in 0..2 {
            marks.used_by(living()).expect("written");
            marks.forget().expect("written");
        }
        assert_eq!(other.judge().expect("its own"), Verdict::Killed);
        other.good().expect("written");
        assert!(folder.is_empty());
        for inode in 0..200 {
            let one = Marks {
                inode,
                ..folder.marks()
            };
            one.killed().expect("written");
        }
        let lines = fs::read_to_string(&marks.path).expect("a file");
        assert_eq!(lines.lines().count(), LINES_MAX);
        assert!(lines.ends_with(" 199\n"), "the newest: {lines}");
    }
}
