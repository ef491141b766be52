//! Filesystem in memory, served by a separate process, that refuses operations as some real
//! filesystems do.
//!
//! A process that serves the filesystem that it uses could deadlock beyond any kill: the page fault
//! of one thread waits for another thread that the kernel already stops. So the daemon is this test
//! binary, started again on the test [`daemon_process`], which returns at once in every other run.
//! The daemon ends when its standard input ends, and after five minutes in any case. Its end aborts
//! all pending requests.

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use fuser::BackgroundSession;
use tempfile::TempDir;

use super::{
    cleaner,
    fuse_daemon::{self, LOG_NAME},
    need::{Need, need, skip},
    power, temp_dir, user,
};

/// Operation that the filesystem refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Refuses nothing.
    Plain,
    /// Refuses shared mappings, including read-only ones: ENODEV (`FOPEN_DIRECT_IO`).
    DirectIo,
    /// Refuses fallocate(2): EOPNOTSUPP.
    NoFallocate,
    /// Fails the first fsync(2) of all: EIO.
    SyncFailsOnce,
    /// As `DirectIo` and `SyncFailsOnce`.
    DirectIoSyncFailsOnce,
    /// As `DirectIo`; also reads through private mappings, which the kernel always grants, fail.
    NoMmap,
}

impl Mode {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Plain, "plain"),
        (Self::DirectIo, "direct_io"),
        (Self::NoFallocate, "no_fallocate"),
        (Self::SyncFailsOnce, "sync_fails_once"),
        (Self::DirectIoSyncFailsOnce, "direct_io_sync_fails_once"),
        (Self::NoMmap, "no_mmap"),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(mode, _)| *mode == self);
        found.expect("every mode has a name").1
    }

    fn from_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(mode, _)| *mode)
    }
}

/// Selects the filesystem of [`power`] in place of a mode.
pub(super) const POWER: &str = "power";

/// Variable that holds `MODE:MOUNTPOINT` for the daemon.
const DAEMON_VARIABLE: &str = "FLATSPAN_FUSE_DAEMON";
const READY: &str = "FLATSPAN_FUSE_READY";
const PATIENCE: Duration = Duration::from_secs(15);
const LIFETIME: Duration = Duration::from_secs(300);

/// Mounted filesystem. Dropping it unmounts it and ends its daemon.
#[derive(Debug)]
pub(crate) struct FuseFs {
    path: PathBuf,
    input: Option<ChildStdin>,
    /// Output lines of the daemon.
    said: Mutex<Receiver<String>>,
    daemon: Child,
    directory: Option<TempDir>,
}

impl FuseFs {
    /// Mounts a filesystem, or records a skip.
    #[track_caller]
    pub(crate) fn new(mode: Mode) -> Option<Self> {
        Self::start(mode.name())
    }

    /// As [`new`](Self::new), by the name of the mode.
    #[track_caller]
    pub(super) fn start(mode: &str) -> Option<Self> {
        if !need(Need::Fuse, "") {
            return None;
        }
        let directory = temp_dir();
        let path = directory.path().join("mount");
        fs::create_dir(&path).expect("mkdir");
        let mut daemon = spawn(mode, &path);
        let output = daemon.stdout.take().expect("piped");
        let mounted = Self {
            path,
            input: daemon.stdin.take(),
            said: Mutex::new(listen(output)),
            daemon,
            directory: Some(directory),
        };
        match mounted.wait_until_ready() {
            Ok(()) => Some(mounted),
            Err(why) => {
                drop(mounted);
                skip(Need::Fuse, &format!("cannot mount FUSE: {why}"));
                None
            }
        }
    }

    /// Returns the root of the filesystem.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the changes and syncs that the daemon was asked for, in order: `create NAME`, `write
    /// NAME OFFSET LENGTH`, `fsync NAME`, `fallocate NAME OFFSET LENGTH`, `truncate NAME LENGTH`,
    /// `rename OLD NEW`, ...
    pub(crate) fn log(&self) -> Vec<String> {
        let mut text = String::new();
        let mut file = File::open(self.path.join(LOG_NAME)).expect("the log");
        file.read_to_string(&mut text).expect("the log");
        text.lines().map(str::to_owned).collect()
    }

    /// Sends an order to the daemon and returns its answer of one line.
    pub(super) fn ask(&self, order: &str) -> String {
        let said = self.said.lock().expect("no answer panics");
        let mut input = self.input.as_ref().expect("daemon input is open");
        writeln!(input, "{order}").expect("a daemon");
        let answer = said.recv_timeout(PATIENCE);
        answer.unwrap_or_else(|error| panic!("no answer to `{order}`: {error}"))
    }

    /// Waits until the daemon reports that the kernel has initialised the connection.
    fn wait_until_ready(&self) -> Result<(), String> {
        let receiver = self.said.lock().expect("no other owner");
        let mut said = String::new();
        loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(line) if line == READY => return Ok(()),
                Ok(line) => said = said + &line + "\n",
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(said),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err("the daemon does not answer".to_owned());
                }
            }
        }
    }

    /// Returns the process id of the daemon, for tests that kill it.
    pub(crate) fn daemon_id(&self) -> u32 {
        self.daemon.id()
    }
}

impl Drop for FuseFs {
    fn drop(&mut self) {
        // The code until the unmount must not touch the filesystem: it may not respond.
        drop(self.input.take());
        if !cleaner::wait(&mut self.daemon, PATIENCE) {
            // The kernel aborts the connection when the daemon dies and its device is closed.
            drop(self.daemon.kill());
            drop(self.daemon.wait());
        }
        if is_mounted(&self.path) {
            unmount(&self.path);
        }
        if is_mounted(&self.path)
            && let Some(directory) = self.directory.take()
        {
            // Files must never be removed through a mount; `.ci/run` reports leftovers.
            drop(directory.keep());
        }
    }
}

/// Not a test: serves as the daemon if a [`FuseFs`] has started this binary for it.
#[test]
fn daemon_process() {
    let Ok(order) = env::var(DAEMON_VARIABLE) else {
        return;
    };
    let (mode, path) = order.split_once(':').expect("MODE:MOUNTPOINT");
    thread::spawn(|| {
        thread::sleep(LIFETIME);
        std::process::exit(3);
    });
    let ready = || println!("\n{READY}");
    let session = match mode {
        POWER => power::serve(Path::new(path), ready),
        mode => serve(
            Mode::from_name(mode).expect("a mode"),
            Path::new(path),
            ready,
        ),
    };
    // Unmounts lazily: files may still be open. The session ends with the process, which aborts
    // pending requests.
    unmount(Path::new(path));
    if !is_mounted(Path::new(path)) {
        // The parent removes this directory too, if it is alive.
        drop(fs::remove_dir(path));
        drop(Path::new(path).parent().map(fs::remove_dir));
    }
    drop(session);
    std::process::exit(0);
}

/// Serves until the end of the input.
fn serve(mode: Mode, path: &Path, ready: impl FnOnce()) -> BackgroundSession {
    let session = fuse_daemon::mount(mode, path).expect("mount");
    ready();
    let mut nothing = Vec::new();
    drop(std::io::stdin().read_to_end(&mut nothing));
    session
}

fn spawn(mode: &str, path: &Path) -> Child {
    // Path of `support::fuse::daemon_process`; the module path differs between targets.
    let (_target, module) = module_path!()
        .split_once("::")
        .expect("a module of a target");
    Command::new(env::current_exe().expect("this binary"))
        .args([
            "--exact",
            &format!("{module}::daemon_process"),
            "--nocapture",
        ])
        .env(DAEMON_VARIABLE, format!("{mode}:{}", path.display()))
        .env_remove("FLATSPAN_CHILD")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this binary")
}

/// Forwards the lines of the daemon until it ends or the receiver is dropped.
fn listen(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.try_for_each(|line| sender.send(line))
    });
    receiver
}

/// Returns whether something is mounted at `path`, without touching it.
fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = path.to_string_lossy();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(&*path))
}

pub(super) fn unmount(path: &Path) {
    let mut command = if user::is_root() {
        let mut command = Command::new("umount");
        command.args(["--lazy", "--no-canonicalize"]);
        command
    } else {
        let mut command = Command::new("fusermount3");
        command.args(["-u", "-z", "-q"]);
        command
    };
    let spawned = command
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Ok(mut process) = spawned
        && !cleaner::wait(&mut process, PATIENCE)
    {
        drop(process.kill());
    }
}
