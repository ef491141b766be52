//! Stopping a program for an instant (hazard 27).
//!
//! By ptrace, not by SIGSTOP: a program that is stopped so does not learn of it, signals that come meanwhile are
//! delivered behind it, and when the process that stopped it dies, by kill -9 too, the kernel lets the program go on.
//!
//! Who traces is a thread, so each stop has one of its own, which seizes, waits, and lets go. All threads of all processes
//! of the tree are stopped, and the tree is looked at again until nothing new is in it: what stands makes no children.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::snapshot::{Standstill, Stopped};
use crate::sys::process_tree::{self, descendants, of_thread, threads};
use crate::sys::ptrace::{self, State};

/// The first try waits so long for all to stand, each later one twice as long. A thread that waits for its child in `vfork`
/// does not stop while the child stands: then all go on, and the next try finds them behind it.
const FIRST_PATIENCE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(5);

/// Stops a process and its descendants, all their threads; or the descendants of the calling process.
///
/// A descendant whose parents have ended belongs to the tree no more, unless this process has made itself the one that takes
/// such orphans in (`PR_SET_CHILD_SUBREAPER`); sessions and process groups make no difference.
///
/// As long as they stand, this process must not wait for a child of them (`Child::wait`, `try_wait`), since the kernel tells
/// every waiting thread of it that they have stopped; a pidfd says when a child has ended.
///
/// System calls that the kernel does not begin again by itself return early with EINTR in a program that was stopped,
/// as after SIGSTOP: `epoll_wait`, `semop`, `sigtimedwait` and others, see signal(7).
#[derive(Debug)]
pub struct Freezer {
    root: u32,
    patience: Duration,
}

/// Why a program could not be stopped. It goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// The system does not let us.
    #[error("process {pid} cannot be stopped{}", because(*tracer, yama.as_deref()))]
    Refused {
        /// Which one.
        pid: i32,
        /// Who traces it already.
        tracer: Option<i32>,
        /// What `kernel.yama.ptrace_scope` is, if it is there.
        yama: Option<String>,
        /// What the system said.
        source: io::Error,
    },
    /// A thread did not stop in time: it is in a system call that cannot be interrupted.
    #[error(
        "thread {thread} of process {pid} does not stop within {patience:?} (its state is {state})"
    )]
    Deadline {
        /// Of which process.
        pid: i32,
        /// Which thread.
        thread: i32,
        /// The kernel's letter for what it does; `D` is a wait that nothing interrupts.
        state: char,
        /// How long it had.
        patience: Duration,
    },
    /// A system call failed.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn because(tracer: Option<i32>, yama: Option<&str>) -> String {
    match (tracer, yama) {
        (Some(tracer), _) => format!(": process {tracer} traces it"),
        (None, Some(scope)) if scope != "0" => format!(
            " (kernel.yama.ptrace_scope is {scope}; 1 permits children, and a program with more rights than this one never is)"
        ),
        _ => " (a program with more rights than this one?)".to_owned(),
    }
}

impl FreezeError {
    fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}

impl From<FreezeError> for io::Error {
    fn from(error: FreezeError) -> Self {
        let kind = match &error {
            FreezeError::Refused { source, .. } | FreezeError::Io { source, .. } => source.kind(),
            FreezeError::Deadline { .. } => io::ErrorKind::TimedOut,
        };
        Self::new(kind, error)
    }
}

impl Freezer {
    /// For this process and its descendants; only the latter where it is the calling process.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self {
            root: pid,
            patience: PATIENCE,
        }
    }

    /// For the descendants of the calling process.
    #[must_use]
    pub fn of_descendants() -> Self {
        Self::of(std::process::id())
    }

    /// Gives up when a thread takes longer to stop; 5 s if not said.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Stops them. They go on when what it returns is dropped, or this process ends.
    ///
    /// # Errors
    ///
    /// Then they go on at once.
    pub fn freeze(&self) -> Result<Frozen, FreezeError> {
        let (said, hear) = mpsc::channel();
        let (thaw, told) = mpsc::channel::<()>();
        let (root, patience) = (self.root.cast_signed(), self.patience);
        let thread = std::thread::Builder::new().name("flatspan freezes".to_owned());
        let thread = thread.spawn(move || hold(root, patience, &said, &told));
        let mut frozen = Frozen {
            thaw: Some(thaw),
            thread: Some(thread.map_err(FreezeError::io("start a thread"))?),
            threads: 0,
        };
        frozen.threads = hear.recv().unwrap_or_else(|_| {
            let ended = io::Error::other("the thread that stops others has ended");
            Err(FreezeError::io("stop threads")(ended))
        })?;
        Ok(frozen)
    }
}

impl Standstill for Freezer {
    fn stop(&self) -> io::Result<Stopped> {
        Ok(Stopped::new(self.freeze()?))
    }
}

/// Processes that stand, for as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct Frozen {
    thaw: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    threads: usize,
}

impl Frozen {
    /// So many threads stand.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.thaw.take());
        // Behind it all go on. A panic there has ended the thread, which lets all go on too.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

/// The life of the thread that traces.
fn hold(
    root: i32,
    patience: Duration,
    said: &Sender<Result<usize, FreezeError>>,
    told: &Receiver<()>,
) {
    let mut held = Held::default();
    let outcome = stop_all(root, patience, &mut held);
    let is_held = outcome.is_ok();
    let count = held.stopped.len();
    let heard = said.send(outcome.map(|()| count));
    if is_held && heard.is_ok() {
        // Until the other end is dropped.
        let _ended = told.recv();
    }
    held.release();
}

fn stop_all(root: i32, patience: Duration, held: &mut Held) -> Result<(), FreezeError> {
    let begun = Instant::now();
    let mut once = FIRST_PATIENCE.min(patience);
    loop {
        let stopped = held.stop_tree(root, Instant::now() + once);
        match stopped {
            Err(FreezeError::Deadline {
                pid, thread, state, ..
            }) => {
                held.release();
                if begun.elapsed() >= patience {
                    return Err(FreezeError::Deadline {
                        pid,
                        thread,
                        state,
                        patience,
                    });
                }
                std::thread::sleep(once / 10);
                once = (2 * once).min(patience);
            }
            stopped => return stopped,
        }
    }
}

/// Threads that are traced by the calling thread.
#[derive(Debug, Default)]
struct Held {
    /// Thread and its process: seized, and not seen to stand yet.
    coming: HashMap<i32, i32>,
    /// Thread, and the signal that it was on the way to.
    stopped: HashMap<i32, i32>,
}

impl Held {
    fn stop_tree(&mut self, root: i32, deadline: Instant) -> Result<(), FreezeError> {
        loop {
            self.seize_new(root)?;
            if self.coming.is_empty() {
                return Ok(());
            }
            self.wait(deadline)?;
        }
    }

    /// Seizes what is not held yet.
    fn seize_new(&mut self, root: i32) -> Result<(), FreezeError> {
        let look = "look at processes in /proc";
        let mut processes = descendants(root).map_err(FreezeError::io(look))?;
        if root != std::process::id().cast_signed() {
            processes.push(root);
        }
        for pid in processes {
            for thread in threads(pid).map_err(FreezeError::io(look))? {
                let is_held =
                    self.stopped.contains_key(&thread) || self.coming.contains_key(&thread);
                if !is_held && seize(pid, thread)? {
                    self.coming.insert(thread, pid);
                }
            }
        }
        Ok(())
    }

    /// Until all that was seized stands, or has ended.
    fn wait(&mut self, deadline: Instant) -> Result<(), FreezeError> {
        let mut pause = Duration::ZERO;
        loop {
            self.look()?;
            let Some((&thread, &pid)) = self.coming.iter().next() else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                let state = of_thread(pid, thread).map_or('?', |stat| stat.state);
                let patience = Duration::ZERO;
                return Err(FreezeError::Deadline {
                    pid,
                    thread,
                    state,
                    patience,
                });
            }
            match pause.is_zero() {
                true => std::thread::yield_now(),
                false => std::thread::sleep(pause),
            }
            pause = (pause * 2 + Duration::from_micros(10)).min(Duration::from_millis(1));
        }
    }

    /// What has become of those that are coming.
    fn look(&mut self) -> Result<(), FreezeError> {
        let mut failed = None;
        let stopped = &mut self.stopped;
        self.coming
            .retain(|&thread, &mut pid| match ptrace::state(thread) {
                Ok(State::Running) => !has_ended(pid, thread),
                Ok(State::Stopped { signal }) => {
                    stopped.insert(thread, signal);
                    false
                }
                Ok(State::Gone) => false,
                Err(error) => {
                    failed = Some(error);
                    true
                }
            });
        match failed {
            Some(error) => Err(FreezeError::io("wait for threads to stop")(error)),
            None => Ok(()),
        }
    }

    /// All go on. What does not stand yet is let go by the end of this thread, or here as soon as it does.
    fn release(&mut self) {
        let begun = Instant::now();
        while !self.coming.is_empty() && begun.elapsed() < FIRST_PATIENCE {
            self.let_go();
            if self.look().is_err() {
                break;
            }
            std::thread::yield_now();
        }
        self.let_go();
    }

    fn let_go(&mut self) {
        for (thread, signal) in self.stopped.drain() {
            // One that was killed meanwhile is none of ours any more.
            let _gone = ptrace::detach(thread, signal);
        }
    }
}

/// False for a thread that has ended.
fn seize(pid: i32, thread: i32) -> Result<bool, FreezeError> {
    match ptrace::seize(thread) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
        // So it is also for one that has ended and was not waited for yet.
        Err(_) if has_ended(pid, thread) => return Ok(false),
        Err(source) => {
            return Err(FreezeError::Refused {
                pid,
                tracer: tracer_of(pid, thread),
                yama: yama(),
                source,
            });
        }
    }
    match ptrace::interrupt(thread) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
            Err(FreezeError::io("interrupt a thread")(error))
        }
        _ => Ok(true),
    }
}

fn has_ended(pid: i32, thread: i32) -> bool {
    let stat: Option<process_tree::Stat> = of_thread(pid, thread);
    stat.is_none_or(|stat| matches!(stat.state, 'Z' | 'X' | 'x'))
}

fn tracer_of(pid: i32, thread: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    line?.trim().parse().ok().filter(|tracer| *tracer != 0)
}

fn yama() -> Option<String> {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?;
    Some(scope.trim().to_owned())
}
