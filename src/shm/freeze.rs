//! Stopping a program for an instant (hazard 27).
//!
//! By ptrace, not by SIGSTOP: a program that is stopped so does not learn of it, signals that come meanwhile are
//! delivered behind it, and when the process that stopped it dies, by kill -9 too, the kernel lets the program go on.
//!
//! Who traces is a thread, so each stop has one of its own, which seizes, waits, and lets go. All threads of all processes
//! of the tree are stopped, and the tree is looked at again until nothing new is in it: what stands makes no children.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::freeze_error::FreezeError;
use crate::snapshot::{Standstill, Stopped};
use crate::sys::fatal_signals::is_killed;
use crate::sys::process_tree::{of_thread, threads, tree};
use crate::sys::ptrace::{self, State};

/// The first try waits so long for all to stand, each later one twice as long. A thread that waits for its child in `vfork`
/// does not stop while the child stands: then all go on, and the next try finds them behind it.
const FIRST_PATIENCE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(5);
/// So often threads that have ended are taken away while others are seized.
const REAPING: Duration = Duration::from_millis(5);
/// A seizure that is refused is tried for so long.
const SEIZING: Duration = Duration::from_millis(20);
/// And so often at least: on a busy system all of that time may pass behind the first try.
const SEIZURES_MIN: u32 = 50;
/// So many looks in a row are made where all stands, and all that is new are processes that ended before it was seen whose they
/// were. On a busy system there are such in every look.
const STRANGERS_MAX: u32 = 8;

/// Stops a process and its descendants, all their threads; or the descendants of the calling process.
///
/// A descendant whose parents have ended belongs to the tree no more, unless this process has made itself the one that takes
/// such orphans in (`PR_SET_CHILD_SUBREAPER`); sessions and process groups make no difference.
///
/// As long as they stand, this process must not wait for a child of them (`Child::wait`, `try_wait`), since the kernel tells
/// every waiting thread of it that they have stopped; a pidfd says when a child has ended.
///
/// One that a signal is about to kill, of those that mean a fault and that it does not handle, is let go and is tried again when it is gone.
///
/// System calls that the kernel does not begin again by itself return early with EINTR in a program that was stopped,
/// as after SIGSTOP: `epoll_wait`, `semop`, `sigtimedwait` and others, see signal(7).
#[derive(Debug)]
pub struct Freezer {
    root: u32,
    patience: Duration,
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
        let seized = Seized::default();
        let theirs = seized.clone();
        let thread = thread.spawn(move || hold(root, patience, theirs, &said, &told));
        let mut frozen = Frozen {
            thaw: Some(thaw),
            thread: Some(thread.map_err(FreezeError::io("start a thread"))?),
            threads: 0,
        };
        frozen.threads = loop {
            match hear.recv_timeout(REAPING) {
                Ok(said) => break said?,
                // The other thread may be waiting for this, in a seizure.
                Err(RecvTimeoutError::Timeout) => seized.reap(),
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = io::Error::other("the thread that stops others has ended");
                    return Err(FreezeError::io("stop threads")(ended));
                }
            }
        };
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
    seized: Seized,
    said: &Sender<Result<usize, FreezeError>>,
    told: &Receiver<()>,
) {
    let mut held = Held {
        seized,
        ..Held::default()
    };
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
        match stopped.and_then(|()| held.check_that_all_live()) {
            // What is dying goes on, and is gone in the next try.
            Err(late @ (FreezeError::Deadline { .. } | FreezeError::Dying { .. })) => {
                held.release();
                if begun.elapsed() >= patience {
                    return Err(late.after(patience));
                }
                std::thread::sleep(once / 10);
                once = (2 * once).min(patience);
            }
            stopped => return stopped,
        }
    }
}

/// Threads that may be traced by the one that stops, each with its process: what has ended of them is to be reaped by us.
#[derive(Clone, Debug, Default)]
struct Seized(Arc<Mutex<HashMap<i32, i32>>>);

impl Seized {
    fn insert(&self, thread: i32, pid: i32) {
        self.with(|seized| seized.insert(thread, pid));
    }

    fn remove(&self, thread: i32) {
        self.with(|seized| seized.remove(&thread));
    }

    /// Whoever reaps holds the lock, so that no number is reaped that is another's by now.
    fn reap(&self) {
        self.with(|seized| seized.retain(|&thread, &mut pid| !ptrace::reap(pid, thread)));
    }

    fn with<R>(&self, change: impl FnOnce(&mut HashMap<i32, i32>) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One that stands.
#[derive(Clone, Copy, Debug)]
struct Standing {
    pid: i32,
    /// That it was on the way to.
    signal: i32,
}

/// Threads that are traced by the calling thread.
#[derive(Debug, Default)]
struct Held {
    /// Thread and its process: seized, and not seen to stand yet.
    coming: HashMap<i32, i32>,
    stopped: HashMap<i32, Standing>,
    /// Processes and threads that had ended when we came to them. What one of them has started may not have been in the list.
    ended: HashSet<i32>,
    seized: Seized,
}

impl Held {
    fn stop_tree(&mut self, root: i32, deadline: Instant) -> Result<(), FreezeError> {
        let mut strangers = 0;
        loop {
            let ended_before = self.ended.len();
            let ended_elsewhere = self.seize_new(root)?;
            // What is new ran while the others were listed, and may have started more behind that.
            let nothing_new = self.coming.is_empty();
            self.look()?;
            let all_stand = nothing_new && self.coming.is_empty();
            match (all_stand, self.ended.len() - ended_before) {
                (true, 0) => return Ok(()),
                (true, ended) if ended == ended_elsewhere => strangers += 1,
                _ => strangers = 0,
            }
            if strangers > STRANGERS_MAX {
                return Ok(());
            }
            self.wait(deadline)?;
            if Instant::now() >= deadline {
                return Err(late(root, root));
            }
        }
    }

    /// Seizes what is not held yet. So many processes have ended meanwhile of which it is not known whose they were.
    fn seize_new(&mut self, root: i32) -> Result<usize, FreezeError> {
        let looked = tree(root).map_err(FreezeError::io(LOOK))?;
        let before = self.ended.len();
        self.ended.extend(looked.ended);
        let elsewhere = self.ended.len() - before;
        let mut processes = looked.found;
        if root != std::process::id().cast_signed() {
            processes.push(root);
        }
        for pid in processes {
            let threads = threads(pid).map_err(FreezeError::io(LOOK))?;
            if threads.is_empty() {
                self.ended.insert(pid);
            }
            for thread in threads {
                self.seize_one(pid, thread)?;
            }
        }
        Ok(elsewhere)
    }

    fn seize_one(&mut self, pid: i32, thread: i32) -> Result<(), FreezeError> {
        if self.stopped.contains_key(&thread) || self.coming.contains_key(&thread) {
            return Ok(());
        }
        match seize(pid, thread)? {
            true => {
                self.seized.insert(thread, pid);
                self.coming.insert(thread, pid);
            }
            false => {
                self.ended.insert(thread);
            }
        }
        Ok(())
    }

    /// A thread that stands on its way to a signal that kills it has gone wrong before: its memory is not that of an instant of
    /// its work, but of its death.
    fn check_that_all_live(&self) -> Result<(), FreezeError> {
        for (&thread, standing) in &self.stopped {
            let (pid, next) = (standing.pid, standing.signal);
            if is_killed(pid, thread, next).map_err(FreezeError::io(LOOK))? {
                return Err(FreezeError::Dying { pid, thread });
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
                return Err(late(pid, thread));
            }
            match pause.is_zero() {
                true => std::thread::yield_now(),
                false => std::thread::sleep(pause),
            }
            pause = (pause * 2 + Duration::from_micros(10)).min(Duration::from_millis(1));
        }
    }

    /// What has become of those that are held. One that stands may have been killed, by an `execve` of another thread of its process
    /// too, which has its number then and does not stand yet.
    fn look(&mut self) -> Result<(), FreezeError> {
        self.seized.reap();
        let coming = std::mem::take(&mut self.coming).into_iter();
        let stopped = self.stopped.drain();
        let stopped = stopped.map(|(thread, standing)| (thread, standing.pid));
        let held: Vec<(i32, i32)> = coming.chain(stopped).collect();
        let mut failed = None;
        for (thread, pid) in held {
            let found = ptrace::state(thread).map_err(FreezeError::io("wait for threads to stop"));
            let found = found.and_then(|state| match state {
                State::Running if has_ended(pid, thread)? => Ok(State::Gone),
                state => Ok(state),
            });
            match found {
                Ok(State::Stopped { signal }) => {
                    self.stopped.insert(thread, Standing { pid, signal });
                    continue;
                }
                Ok(State::Gone) => {
                    self.ended.insert(thread);
                    continue;
                }
                Ok(State::Running) => {}
                Err(error) => failed = Some(error),
            }
            self.coming.insert(thread, pid);
        }
        failed.map_or(Ok(()), Err)
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
        for (thread, standing) in self.stopped.drain() {
            // One that was killed meanwhile cannot be detached, and is reaped as long as it is ours.
            if ptrace::detach(thread, standing.signal).is_ok() {
                self.seized.remove(thread);
            }
        }
        self.seized.reap();
    }
}

/// A try has come to its end.
fn late(pid: i32, thread: i32) -> FreezeError {
    let stat = of_thread(pid, thread).ok().flatten();
    FreezeError::Deadline {
        pid,
        thread,
        state: stat.map_or('?', |stat| stat.state),
        patience: Duration::ZERO,
    }
}

const LOOK: &str = "look at processes in /proc";

/// False for a thread that has ended.
fn seize(pid: i32, thread: i32) -> Result<bool, FreezeError> {
    let begun = Instant::now();
    let mut tries = 0;
    while let Err(source) = ptrace::seize(thread) {
        tries += 1;
        // So it is also for one that has ended and was not waited for yet.
        if source.raw_os_error() == Some(libc::ESRCH) || has_ended(pid, thread)? {
            return Ok(false);
        }
        let tracer = tracer_of(pid, thread);
        // A thread that we have seized has got this number by `execve`.
        if tracer == Some(ptrace::own_number()) {
            break;
        }
        // An `execve` that gives a number to another thread, and a tracer that is ending, are in the way for a moment.
        if begun.elapsed() >= SEIZING && tries >= SEIZURES_MIN {
            let yama = yama();
            return Err(FreezeError::Refused {
                pid,
                tracer,
                yama,
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

/// Only where we know it: what cannot be read may be running.
fn has_ended(pid: i32, thread: i32) -> Result<bool, FreezeError> {
    let stat = of_thread(pid, thread).map_err(FreezeError::io(LOOK))?;
    Ok(stat.is_none_or(|stat| matches!(stat.state, 'Z' | 'X' | 'x')))
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
