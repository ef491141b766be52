//! A filesystem in memory, served by a process of its own, that refuses what some real ones refuse.
//!
//! Served by the process that uses it, it could deadlock beyond any kill: the page fault of one thread
//! waits for another that the kernel already stops. So the daemon is this very test binary, run again on
//! the one test [`daemon_process`], which returns at once in every other run. It ends when its standard
//! input does, and after five minutes in any case; its end aborts whatever still waits for it.

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

/// What the filesystem refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing.
    Plain,
    /// Shared mappings, read-only ones too: ENODEV (`FOPEN_DIRECT_IO`).
    DirectIo,
    /// fallocate: EOPNOTSUPP.
    NoFallocate,
    /// The first fsync of all: EIO.
    SyncFailsOnce,
    /// As `DirectIo`, and private mappings, which the kernel always grants, cannot be read.
    NoMmap,
}

impl Mode {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Plain, "plain"),
        (Self::DirectIo, "direct_io"),
        (Self::NoFallocate, "no_fallocate"),
        (Self::SyncFailsOnce, "sync_fails_once"),
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

/// In place of a mode: the filesystem of [`power`].
pub(super) const POWER: &str = "power";

/// `MODE:MOUNTPOINT` for the daemon.
const DAEMON_VARIABLE: &str = "FLATSPAN_FUSE_DAEMON";
const READY: &str = "FLATSPAN_FUSE_READY";
const PATIENCE: Duration = Duration::from_secs(15);
const LIFETIME: Duration = Duration::from_secs(300);

/// A mounted filesystem of ours; dropping it unmounts it and ends its daemon.
#[derive(Debug)]
pub(crate) struct FuseFs {
    path: PathBuf,
    input: Option<ChildStdin>,
    /// The lines that the daemon says.
    said: Mutex<Receiver<String>>,
    daemon: Child,
    folder: Option<TempDir>,
}

impl FuseFs {
    /// Mounts one, or records a skip.
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
        let folder = temp_dir();
        let path = folder.path().join("mount");
        fs::create_dir(&path).expect("mkdir");
        let mut daemon = spawn(mode, &path);
        let output = daemon.stdout.take().expect("piped");
        let mounted = Self {
            path,
            input: daemon.stdin.take(),
            said: Mutex::new(listen(output)),
            daemon,
            folder: Some(folder),
        };
        match mounted.wait_until_ready() {
            Ok(()) => Some(mounted),
            Err(why) => {
                drop(mounted);
                skip(Need::Fuse, &format!("FUSE does not mount: {why}"));
                None
            }
        }
    }

    /// The root of the filesystem.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the daemon was asked to change or sync, in order: `create NAME`, `write NAME OFFSET LENGTH`,
    /// `fsync NAME`, `fallocate NAME OFFSET LENGTH`, `truncate NAME LENGTH`, `rename OLD NEW`, ...
    pub(crate) fn log(&self) -> Vec<String> {
        let mut text = String::new();
        let mut file = File::open(self.path.join(LOG_NAME)).expect("the log");
        file.read_to_string(&mut text).expect("the log");
        text.lines().map(str::to_owned).collect()
    }

    /// Tells the daemon something, and waits for its answer of one line.
    pub(super) fn ask(&self, order: &str) -> String {
        let said = self.said.lock().expect("no answer panics");
        let mut input = self.input.as_ref().expect("until it is dropped");
        writeln!(input, "{order}").expect("a daemon");
        let answer = said.recv_timeout(PATIENCE);
        answer.unwrap_or_else(|error| panic!("no answer to `{order}`: {error}"))
    }

    /// The daemon says when the kernel has shaken hands.
    fn wait_until_ready(&self) -> Result<(), String> {
        let receiver = self.said.lock().expect("nobody else has it");
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

    /// The process id of the daemon, for tests that kill it.
    pub(crate) fn daemon_id(&self) -> u32 {
        self.daemon.id()
    }
}

impl Drop for FuseFs {
    fn drop(&mut self) {
        // Nothing here touches the filesystem before it is unmounted: it may not answer.
        drop(self.input.take());
        if !cleaner::wait(&mut self.daemon, PATIENCE) {
            // Closing its device by dying aborts the connection.
            let _may_be_gone = self.daemon.kill();
            let _reaped = self.daemon.wait();
        }
        if is_mounted(&self.path) {
            unmount(&self.path);
        }
        if is_mounted(&self.path)
            && let Some(folder) = self.folder.take()
        {
            // Never remove files through a mount; .ci/run names what is left.
            let _left = folder.keep();
        }
    }
}

/// Not a test: the daemon, when a [`FuseFs`] has started this binary for it.
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
    // Lazily: files may still be open. The session ends with the process, which aborts what waits.
    unmount(Path::new(path));
    if !is_mounted(Path::new(path)) {
        // The parent removes this folder too, if it is alive.
        let _best_effort = fs::remove_dir(path);
        let _best_effort = Path::new(path).parent().map(fs::remove_dir);
    }
    drop(session);
    std::process::exit(0);
}

/// Until the end of the input.
fn serve(mode: Mode, path: &Path, ready: impl FnOnce()) -> BackgroundSession {
    let session = fuse_daemon::mount(mode, path).expect("mount");
    ready();
    let mut nothing = Vec::new();
    let _end_of_input = std::io::stdin().read_to_end(&mut nothing);
    session
}

fn spawn(mode: &str, path: &Path) -> Child {
    // `support::fuse::daemon_process`, wherever the target has put this module.
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

/// Its lines, until it ends or nobody wants them.
fn listen(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.try_for_each(|line| sender.send(line))
    });
    receiver
}

/// Whether something is mounted there, without touching it.
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
        let _may_be_gone = process.kill();
    }
}
