//! Quiesces a store for a snapshot: freezes the command and all its descendants.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use flatspan::shm::process::descendants_with;
use flatspan::shm::{Freezer, Memfd};
use flatspan::snapshot::{Quiesce, QuiesceGuard};

/// No process has this id.
const NO_PROCESS: u32 = 0;

/// Freezes all descendants. Fails if the command has exited meanwhile: the memory may then be that
/// of a crash, and whether it is used is decided when the exit status is known.
#[derive(Debug)]
pub(crate) struct CommandFreezer {
    freezer: Freezer,
    /// The command.
    watched: AtomicU32,
    /// Errors do not matter while no descendant has this memory open.
    only_users_of: Option<Memfd>,
}

/// The error of a snapshot that was attempted after the command had exited.
#[derive(Debug, thiserror::Error)]
#[error("the command has exited")]
pub(crate) struct CommandExited;

impl CommandFreezer {
    pub(crate) fn for_descendants() -> Self {
        Self {
            freezer: Freezer::for_descendants(),
            watched: AtomicU32::new(NO_PROCESS),
            only_users_of: None,
        }
    }

    pub(crate) fn only_users_of(mut self, memory: Memfd) -> Self {
        self.only_users_of = Some(memory);
        self
    }

    /// Requires that this command is frozen, too. The caller must not wait(2) for it until
    /// [`unwatch`](Self::unwatch).
    pub(crate) fn watch(&self, command: u32) {
        self.watched.store(command, Ordering::Relaxed);
    }

    pub(crate) fn unwatch(&self) {
        self.watch(NO_PROCESS);
    }

    /// Returns `false` if the command exited, or was killed while frozen.
    fn is_command_frozen(&self) -> bool {
        match self.watched.load(Ordering::Relaxed) {
            NO_PROCESS => true,
            command => is_frozen(command),
        }
    }

    fn is_unused(&self) -> bool {
        let memory = self.only_users_of.as_ref();
        memory.is_some_and(|memory| descendants_with(memory).is_ok_and(|users| users.is_empty()))
    }
}

impl Quiesce for CommandFreezer {
    fn quiesce(&self) -> io::Result<QuiesceGuard> {
        let frozen = match self.freezer.freeze() {
            Ok(frozen) => frozen,
            Err(_) if self.is_unused() => return Ok(QuiesceGuard::new(())),
            Err(error) => return Err(error.into()),
        };
        if !self.is_command_frozen() {
            return Err(io::Error::other(CommandExited));
        }
        Ok(QuiesceGuard::new(frozen))
    }
}

/// Returns whether a tracer has stopped a thread of the process.
///
/// A pidfd would report the exit too late: it waits for threads that were killed while frozen, and
/// these exist until the tracer releases them.
fn is_frozen(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat"));
        // The name is in parentheses and may itself have any character.
        stat.is_ok_and(|stat| {
            stat.rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with('t'))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::process::{Child, Command};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn is_exited(stopped: &io::Result<QuiesceGuard>) -> bool {
        let error = stopped.as_ref().err().and_then(io::Error::get_ref);
        error.is_some_and(<dyn Error + Send + Sync>::is::<CommandExited>)
    }

    fn wait_for_zombie(child: &Child) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let stat =
            || fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("stat is readable");
        while !stat().contains(") Z ") {
            assert!(Instant::now() < deadline, "the process does not exit");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_command_that_has_exited_is_not_frozen() {
        let mut child = Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("sleep starts");
        let freezer = CommandFreezer::for_descendants();
        freezer.watch(child.id());
        for _ in 0..3 {
            drop(freezer.quiesce().expect("the command is frozen"));
        }
        let stopped = freezer.quiesce().expect("the command is frozen");
        child.kill().expect("the frozen command is killed");
        wait_for_zombie(&child);
        drop(stopped);
        let stopped = freezer.quiesce();
        assert!(is_exited(&stopped), "{stopped:?}");
        // Without a command only the remaining descendants must be frozen.
        freezer.unwatch();
        drop(freezer.quiesce().expect("there is no process to freeze"));
        child.wait().expect("the exit status is available");
    }
}
