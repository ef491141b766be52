//! The instant of a snapshot: the command and all its descendants stand.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use flatspan::shm::process::descendants_with;
use flatspan::shm::{Freezer, SharedFile};
use flatspan::snapshot::{Standstill, Stopped};

/// Nobody is watched; no process has this number.
const NOBODY: u32 = 0;

/// Stops all descendants, and refuses where the command has ended meanwhile: then the memory may be what a crash has left, and
/// whether that is kept is decided when it is known how the command has ended.
#[derive(Debug)]
pub(crate) struct Standing {
    freezer: Freezer,
    /// The command.
    watched: AtomicU32,
    /// Those that cannot be stopped make no difference where nobody has it.
    if_anybody_has: Option<SharedFile>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[error("the command has ended")]
pub(crate) struct CommandEnded;

impl Standing {
    pub(crate) fn of_descendants() -> Self {
        Self {
            freezer: Freezer::of_descendants(),
            watched: AtomicU32::new(NOBODY),
            if_anybody_has: None,
        }
    }

    pub(crate) fn if_anybody_has(mut self, memory: SharedFile) -> Self {
        self.if_anybody_has = Some(memory);
        self
    }

    /// From now on this command must stand. It must not be waited for as long as it is watched.
    pub(crate) fn watch(&self, command: u32) {
        self.watched.store(command, Ordering::Relaxed);
    }

    pub(crate) fn watch_nobody(&self) {
        self.watch(NOBODY);
    }

    /// What ends is not stopped, and what was stopped and is killed stands no more.
    fn command_stands(&self) -> bool {
        match self.watched.load(Ordering::Relaxed) {
            NOBODY => true,
            command => stands(command),
        }
    }

    fn nobody_has_it(&self) -> bool {
        let memory = self.if_anybody_has.as_ref();
        memory.is_some_and(|memory| descendants_with(memory).is_ok_and(|found| found.is_empty()))
    }
}

impl Standstill for Standing {
    fn stop(&self) -> io::Result<Stopped> {
        let frozen = match self.freezer.freeze() {
            Ok(frozen) => frozen,
            Err(_) if self.nobody_has_it() => return Ok(Stopped::new(())),
            Err(error) => return Err(error.into()),
        };
        if self.command_stands() {
            Ok(Stopped::new(frozen))
        } else {
            Err(io::Error::other(CommandEnded))
        }
    }
}

/// Is a thread of it stopped by a tracer? A pidfd would not say in time that it has ended: that waits for threads that were killed
/// while they stood, which are there until the tracer lets them go.
fn stands(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat"));
        // The name, in parentheses, may have anything in it.
        stat.is_ok_and(|stat| {
            stat.rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with('t'))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn is_ended(stopped: &io::Result<Stopped>) -> bool {
        let error = stopped.as_ref().err().and_then(io::Error::get_ref);
        error.is_some_and(
            <(dyn std::error::Error + std::marker::Send + std::marker::Sync + 'static)>::is::<
                CommandEnded,
            >,
        )
    }

    fn wait_for_a_zombie(child: &Child) {
        let end = Instant::now() + Duration::from_secs(60);
        let stat = || fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("its state");
        while !stat().contains(") Z ") {
            assert!(Instant::now() < end, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_command_that_has_ended_does_not_stand() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("it runs");
        let standing = Standing::of_descendants();
        standing.watch(child.id());
        for _ in 0..3 {
            drop(standing.stop().expect("it stands"));
        }
        let stopped = standing.stop().expect("it stands");
        child.kill().expect("killed while it stands");
        wait_for_a_zombie(&child);
        drop(stopped);
        let stopped = standing.stop();
        assert!(is_ended(&stopped), "{stopped:?}");
        // Then nobody can be asked for more than that those who are left stand.
        standing.watch_nobody();
        drop(standing.stop().expect("nobody is there"));
        child.wait().expect("its end");
    }
}
