//! Freezing a process tree at one point in time [I27].
//!
//! [`ptrace(2)`](https://man7.org/linux/man-pages/man2/ptrace.2.html) stops the threads instead of
//! SIGSTOP, for three reasons:
//!
//! - The program does not observe the stop.
//! - Signals that arrive during the stop are delivered afterwards.
//! - If the stopping process dies, even by SIGKILL, the kernel resumes the program.
//!
//! The kernel identifies a tracer by its thread, so each freeze has a thread of its own.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::freeze_error::FreezeError;
use super::freeze_tree::{FrozenTree, SeizedThreads, freeze_within};
#[cfg(feature = "snapshot")]
use crate::snapshot::{Quiesce, QuiesceGuard};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which exited threads are reaped during a freeze.
const REAP_INTERVAL: Duration = Duration::from_millis(5);

/// Freezes a process and its descendants with all their threads, or only the descendants of the
/// calling process.
///
/// A descendant whose parents have exited leaves the tree, unless this process is a subreaper
/// (`PR_SET_CHILD_SUBREAPER`). Sessions and process groups make no difference.
///
/// While processes are frozen, this process must not wait for one of its children among them
/// (`Child::wait`, `try_wait`): the kernel would report the stop to the waiting thread. A pidfd
/// reports only the exit of a child.
///
/// A thread that is about to be killed by an unhandled fault signal is released. The freeze is
/// retried after its exit.
///
/// As after SIGSTOP, some system calls return early with EINTR in a program that was frozen:
/// `epoll_wait`, `semop`, `sigtimedwait` and others, see
/// [`signal(7)`](https://man7.org/linux/man-pages/man7/signal.7.html).
///
/// # Examples
///
/// ```no_run
/// use std::process::Command;
///
/// use flatspan::shm::Freezer;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let child = Command::new("./worker").spawn()?;
/// let frozen = Freezer::for_process(child.id()).freeze()?;
/// println!("{} threads are frozen", frozen.thread_count());
/// drop(frozen); // All threads continue.
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Freezer {
    root: u32,
    timeout: Duration,
}

impl Freezer {
    /// Creates a freezer for this process and its descendants.
    ///
    /// With the id of the calling process it freezes only the descendants.
    pub fn for_process(pid: u32) -> Self {
        Self {
            root: pid,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Creates a freezer for the descendants of the calling process.
    pub fn for_descendants() -> Self {
        Self::for_process(std::process::id())
    }

    /// Sets how long [`freeze`](Self::freeze) waits for all threads to stop. Defaults to 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Stops all threads of the tree. They continue when the result is dropped or this process
    /// exits.
    ///
    /// # Errors
    ///
    /// All threads continue on error.
    ///
    /// - [`FreezeError::PermissionDenied`] if a process must not be traced.
    /// - [`FreezeError::Timeout`] if a thread does not stop in time.
    /// - [`FreezeError::FatalSignalPending`] if a thread that is about to be killed does not exit
    ///   in time.
    /// - [`FreezeError::Io`] if a system call fails.
    pub fn freeze(&self) -> Result<Frozen, FreezeError> {
        let (report, reports) = mpsc::channel();
        let (thaw, thawed) = mpsc::channel::<()>();
        let (root, timeout) = (self.root.cast_signed(), self.timeout);
        let seized = SeizedThreads::default();
        let for_tracer = seized.clone();
        let thread = std::thread::Builder::new().name("flatspan-freeze".to_owned());
        let thread = thread.spawn(move || trace(root, timeout, for_tracer, &report, &thawed));
        let mut frozen = Frozen {
            thaw: Some(thaw),
            thread: Some(thread.map_err(FreezeError::io("start a thread"))?),
            threads: 0,
        };
        frozen.threads = loop {
            match reports.recv_timeout(REAP_INTERVAL) {
                Ok(report) => break report?,
                // The tracer may be blocked in a seizure until an exited thread is reaped.
                Err(RecvTimeoutError::Timeout) => seized.reap(),
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = io::Error::other("the tracing thread panicked");
                    return Err(FreezeError::io("stop threads")(ended));
                }
            }
        };
        Ok(frozen)
    }
}

#[cfg(feature = "snapshot")]
impl Quiesce for Freezer {
    fn quiesce(&self) -> io::Result<QuiesceGuard> {
        Ok(QuiesceGuard::new(self.freeze()?))
    }
}

/// Guard of frozen processes. They continue when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it resumes the processes"]
pub struct Frozen {
    thaw: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    threads: usize,
}

impl Frozen {
    /// Returns the number of stopped threads.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.thaw.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has ended it, which resumes the processes too.
            drop(thread.join());
        }
    }
}

/// Body of the tracing thread.
fn trace(
    root: i32,
    timeout: Duration,
    seized: SeizedThreads,
    report: &Sender<Result<usize, FreezeError>>,
    thawed: &Receiver<()>,
) {
    let mut tree = FrozenTree::new(seized);
    let outcome = freeze_within(root, timeout, &mut tree);
    let is_frozen = outcome.is_ok();
    let count = tree.stopped_threads();
    let reported = report.send(outcome.map(|()| count));
    if is_frozen && reported.is_ok() {
        // Returns an error when the guard drops its sender.
        let _ = thawed.recv();
    }
    tree.release();
}
