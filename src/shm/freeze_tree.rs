//! Tracing of a process tree by the calling thread.
//!
//! All threads of all processes of the tree are seized and stopped. The tree is listed again until
//! it contains nothing new: a stopped thread creates no processes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::freeze_error::FreezeError;
use crate::sys::fatal_signals::is_killed;
use crate::sys::process_tree::{of_thread, threads, tree};
use crate::sys::ptrace::{self, State};

/// Timeout of the first attempt. Each later one has twice the timeout.
///
/// A thread in `vfork` does not stop while its child is stopped. The attempt then fails, all
/// threads continue, and the next attempt finds the thread after its `vfork`.
const FIRST_TIMEOUT: Duration = Duration::from_millis(50);
/// Time during which a refused seizure is retried.
const SEIZE_TIMEOUT: Duration = Duration::from_millis(20);
/// Minimum number of seizures. On a busy system the first one may take all of [`SEIZE_TIMEOUT`].
const SEIZE_ATTEMPTS_MIN: u32 = 50;
/// Number of consecutive listings that may find only exited processes of unknown parents.
///
/// On a busy system every listing finds some, so a completely quiet one may never come.
const UNKNOWN_EXITS_MAX: u32 = 8;

const INSPECT: &str = "inspect processes in /proc";

/// Stops a tree, with repeated attempts until the timeout.
pub(super) fn freeze_within(
    root: i32,
    timeout: Duration,
    tree: &mut FrozenTree,
) -> Result<(), FreezeError> {
    let started = Instant::now();
    let mut attempt_timeout = FIRST_TIMEOUT.min(timeout);
    loop {
        let stopped = tree.stop_all(root, Instant::now() + attempt_timeout);
        match stopped.and_then(|()| tree.check_fatal_signals()) {
            // A released thread that is being killed has exited by the next attempt.
            Err(error @ (FreezeError::Timeout { .. } | FreezeError::FatalSignalPending { .. })) => {
                tree.release();
                if started.elapsed() >= timeout {
                    return Err(error.with_timeout(timeout));
                }
                std::thread::sleep(attempt_timeout / 10);
                attempt_timeout = (2 * attempt_timeout).min(timeout);
            }
            stopped => return stopped,
        }
    }
}

/// Threads that may be traced, with their processes. This process must reap those that exit.
#[derive(Clone, Debug, Default)]
pub(super) struct SeizedThreads(Arc<Mutex<HashMap<i32, i32>>>);

impl SeizedThreads {
    fn insert(&self, thread: i32, pid: i32) {
        self.with(|seized| seized.insert(thread, pid));
    }

    fn remove(&self, thread: i32) {
        self.with(|seized| seized.remove(&thread));
    }

    /// Reaps exited threads. The lock prevents that a reused thread id is reaped.
    pub(super) fn reap(&self) {
        self.with(|seized| seized.retain(|&thread, &mut pid| !ptrace::reap(pid, thread)));
    }

    fn with<R>(&self, change: impl FnOnce(&mut HashMap<i32, i32>) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Copy, Debug)]
struct StoppedThread {
    pid: i32,
    /// Signal that is delivered when the thread continues, 0 for none.
    signal: i32,
}

/// Threads that the calling thread traces.
#[derive(Debug, Default)]
pub(super) struct FrozenTree {
    /// Seized threads that have not stopped yet, with their processes.
    pending: HashMap<i32, i32>,
    stopped: HashMap<i32, StoppedThread>,
    /// Processes and threads that exited before they were seized. The listing may lack processes
    /// that they started.
    exited: HashSet<i32>,
    seized: SeizedThreads,
}

impl FrozenTree {
    pub(super) fn new(seized: SeizedThreads) -> Self {
        Self {
            seized,
            ..Self::default()
        }
    }

    pub(super) fn stopped_threads(&self) -> usize {
        self.stopped.len()
    }

    fn stop_all(&mut self, root: i32, deadline: Instant) -> Result<(), FreezeError> {
        let mut only_unknown_exits = 0;
        loop {
            let exited_before = self.exited.len();
            let unknown_exits = self.seize_new(root)?;
            // A new thread ran during the listing, so it may have started further ones.
            let found_none = self.pending.is_empty();
            self.update_states()?;
            let all_stopped = found_none && self.pending.is_empty();
            match (all_stopped, self.exited.len() - exited_before) {
                (true, 0) => return Ok(()),
                (true, exited) if exited == unknown_exits => only_unknown_exits += 1,
                _ => only_unknown_exits = 0,
            }
            if only_unknown_exits > UNKNOWN_EXITS_MAX {
                return Ok(());
            }
            self.wait_until_stopped(deadline)?;
            if Instant::now() >= deadline {
                return Err(deadline_error(root, root));
            }
        }
    }

    /// Seizes the threads that are not traced yet. Returns how many processes exited during the
    /// listing, whose parents are unknown.
    fn seize_new(&mut self, root: i32) -> Result<usize, FreezeError> {
        let listed = tree(root).map_err(FreezeError::io(INSPECT))?;
        let before = self.exited.len();
        self.exited.extend(listed.ended);
        let unknown_exits = self.exited.len() - before;
        let mut processes = listed.found;
        if root != std::process::id().cast_signed() {
            processes.push(root);
        }
        for pid in processes {
            let threads = threads(pid).map_err(FreezeError::io(INSPECT))?;
            if threads.is_empty() {
                self.exited.insert(pid);
            }
            for thread in threads {
                self.seize_one(pid, thread)?;
            }
        }
        Ok(unknown_exits)
    }

    fn seize_one(&mut self, pid: i32, thread: i32) -> Result<(), FreezeError> {
        if self.stopped.contains_key(&thread) || self.pending.contains_key(&thread) {
            return Ok(());
        }
        if seize(pid, thread)? {
            self.seized.insert(thread, pid);
            self.pending.insert(thread, pid);
        } else {
            self.exited.insert(thread);
        }
        Ok(())
    }

    /// Refuses a thread that a signal is about to kill: the memory then shows the crash, not a
    /// state of its work.
    fn check_fatal_signals(&self) -> Result<(), FreezeError> {
        for (&thread, stopped) in &self.stopped {
            let pid = stopped.pid;
            if is_killed(pid, thread, stopped.signal).map_err(FreezeError::io(INSPECT))? {
                return Err(FreezeError::FatalSignalPending {
                    pid: pid.cast_unsigned(),
                    thread: thread.cast_unsigned(),
                });
            }
        }
        Ok(())
    }

    /// Waits until all seized threads have stopped or exited.
    fn wait_until_stopped(&mut self, deadline: Instant) -> Result<(), FreezeError> {
        let mut pause = Duration::ZERO;
        loop {
            self.update_states()?;
            let Some((&thread, &pid)) = self.pending.iter().next() else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                return Err(deadline_error(pid, thread));
            }
            if pause.is_zero() {
                std::thread::yield_now();
            } else {
                std::thread::sleep(pause);
            }
            pause = (pause * 2 + Duration::from_micros(10)).min(Duration::from_millis(1));
        }
    }

    /// Reads the states of all traced threads.
    ///
    /// A stopped thread may have been killed. An `execve` of another thread of its process also
    /// ends it, and that thread then runs under its id.
    fn update_states(&mut self) -> Result<(), FreezeError> {
        self.seized.reap();
        let pending = std::mem::take(&mut self.pending);
        let stopped = self.stopped.drain();
        let stopped = stopped.map(|(thread, stopped)| (thread, stopped.pid));
        let traced: Vec<(i32, i32)> = pending.into_iter().chain(stopped).collect();
        let mut failed = None;
        for (thread, pid) in traced {
            match state(pid, thread) {
                Ok(State::Stopped { signal }) => {
                    self.stopped.insert(thread, StoppedThread { pid, signal });
                    continue;
                }
                Ok(State::Gone) => {
                    self.exited.insert(thread);
                    continue;
                }
                Ok(State::Running) => {}
                Err(error) => failed = Some(error),
            }
            self.pending.insert(thread, pid);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Lets all threads continue.
    ///
    /// Threads that have not stopped yet are released when they stop, or by the exit of the calling
    /// thread.
    pub(super) fn release(&mut self) {
        let started = Instant::now();
        while !self.pending.is_empty() && started.elapsed() < FIRST_TIMEOUT {
            self.detach_stopped();
            if self.update_states().is_err() {
                break;
            }
            std::thread::yield_now();
        }
        self.detach_stopped();
    }

    fn detach_stopped(&mut self) {
        for (thread, stopped) in self.stopped.drain() {
            // A killed thread cannot be detached. It stays in `seized` to be reaped.
            if ptrace::detach(thread, stopped.signal).is_ok() {
                self.seized.remove(thread);
            }
        }
        self.seized.reap();
    }
}

fn state(pid: i32, thread: i32) -> Result<State, FreezeError> {
    let state = ptrace::state(thread).map_err(FreezeError::io("wait for threads to stop"))?;
    if state == State::Running && has_exited(pid, thread)? {
        return Ok(State::Gone);
    }
    Ok(state)
}

/// Error of an attempt. [`FreezeError::with_timeout`] adds the whole timeout later.
fn deadline_error(pid: i32, thread: i32) -> FreezeError {
    let stat = of_thread(pid, thread).ok().flatten();
    FreezeError::Timeout {
        pid: pid.cast_unsigned(),
        thread: thread.cast_unsigned(),
        state: stat.map_or('?', |stat| stat.state),
        timeout: Duration::ZERO,
    }
}

/// Seizes and interrupts a thread. Returns `false` if it has exited.
fn seize(pid: i32, thread: i32) -> Result<bool, FreezeError> {
    let started = Instant::now();
    let mut attempts = 0;
    while let Err(source) = ptrace::seize(thread) {
        attempts += 1;
        // A zombie thread fails with ESRCH, too.
        if source.raw_os_error() == Some(libc::ESRCH) || has_exited(pid, thread)? {
            return Ok(false);
        }
        let tracer = tracer_of(pid, thread);
        // A thread that was seized earlier has got this id by `execve`.
        if tracer == Some(ptrace::own_thread_id()) {
            break;
        }
        // A concurrent `execve`, or the exit of another tracer, refuses a seizure for a moment.
        if started.elapsed() >= SEIZE_TIMEOUT && attempts >= SEIZE_ATTEMPTS_MIN {
            return Err(FreezeError::PermissionDenied {
                pid: pid.cast_unsigned(),
                tracer: tracer.map(i32::cast_unsigned),
                yama: yama_ptrace_scope(),
                source,
            });
        }
        std::thread::yield_now();
    }
    match ptrace::interrupt(thread) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
            Err(FreezeError::io("interrupt a thread")(error))
        }
        _ => Ok(true),
    }
}

/// Whether a thread is known to have exited.
fn has_exited(pid: i32, thread: i32) -> Result<bool, FreezeError> {
    let stat = of_thread(pid, thread).map_err(FreezeError::io(INSPECT))?;
    Ok(stat.is_none_or(|stat| matches!(stat.state, 'Z' | 'X' | 'x')))
}

fn tracer_of(pid: i32, thread: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    line?.trim().parse().ok().filter(|tracer| *tracer != 0)
}

fn yama_ptrace_scope() -> Option<String> {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?;
    Some(scope.trim().to_owned())
}
