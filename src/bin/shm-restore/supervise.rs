//! Supervision of the command: from the restored memory to the exit code.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flatspan::shm::process::{adopt_orphans, reap_orphans};
use flatspan::shm::{ListenFds, Memfd, Notify, PlacedFds, ShmError};
use rustix::process::Signal;
use serde_json::json;
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGUSR1};

use crate::child::RunningCommand;
use crate::cli::{Cli, Mode, OnCrash};
use crate::events::Events;
use crate::failure::Failure;
use crate::final_snapshot::Exit;
use crate::find_executable;
use crate::freeze_command::CommandFreezer;
use crate::history_thread::HistoryThread;
use crate::host::StateHost;
use crate::main_loop::{Message, Messages};
use crate::memfd::{self, Gathered};
use crate::memory_state::MemoryStateFile;
use crate::restore;
use crate::snapshot_thread::{Reports, Shared, SnapshotTaker};
use crate::startup_check::check_memory;
use crate::store_path;

/// Interval of reaping orphans, and of checking for stops of the command that no signal reported.
const TICK: Duration = Duration::from_secs(1);

pub(crate) fn run(cli: &Cli) -> Result<u8, Failure> {
    // Receive first: a descriptor opened before could occupy the number of a received one.
    let received = ListenFds::from_env()?;
    let Gathered { memory, passing } = memfd::gather(received, &cli.fd_name)?;
    // Errors that are certain are reported before the store is changed.
    find_executable::check(&cli.command[0])?;
    store_path::check(&cli.store)?;
    let placed = passing.place_fds()?;
    let manager = Notify::from_env()?;
    let session = Session {
        cli,
        memory: &memory,
        events: Events::new(cli.json),
        // sd_watchdog_enabled(3) recommends half of the interval.
        watchdog: manager.watchdog_interval().map(|interval| interval / 2),
        shared: Arc::new(Shared::new(manager)),
        freezer: Arc::new(freezer(cli, &memory)?),
    };
    adopt_orphans().context("cannot become the reaper of orphaned descendants")?;
    let mut host = restore::open(cli, &memory, Some(&session.freezer))?;
    // The lock of the store, held from here on, also protects the decision about the memory.
    let memory_state = check_memory(cli, &memory, &mut host, session.events)?;
    session.supervise(placed, host, memory_state.as_ref())
}

struct Session<'c> {
    cli: &'c Cli,
    memory: &'c Memfd,
    events: Events,
    shared: Arc<Shared>,
    freezer: Arc<CommandFreezer>,
    watchdog: Option<Duration>,
}

impl Session<'_> {
    /// Runs the command, and returns the exit code after its final snapshot.
    fn supervise(
        &self,
        placed: PlacedFds,
        host: StateHost,
        memory_state: Option<&MemoryStateFile>,
    ) -> Result<u8, Failure> {
        let messages = Messages::from_signals()?;
        let history = HistoryThread::start(self.cli, self.events)?;
        let sender = messages.sender.clone();
        let command = RunningCommand::start(self.cli, &placed, memory_state, sender)?;
        drop(placed);
        if self.cli.mode == Mode::Freeze && self.cli.on_crash != Some(OnCrash::Accept) {
            self.freezer.watch(command.pid());
        }
        self.events
            .emit("command_started", json!({ "pid": command.pid() }));
        let snapshots = SnapshotTaker {
            cli: Arc::new(self.cli.clone()),
            memory: self.memory.try_clone()?,
            host: Some(host),
            freezer: Arc::clone(&self.freezer),
            shared: Arc::clone(&self.shared),
            history: history.trigger(),
            reports: Reports::new(self.events),
        }
        .run()?;
        // Without the notification the service manager runs into its own timeout.
        drop(self.shared.manager.ready());
        self.handle_messages(&command, &messages);
        // Signals in the channel were meant for the command.
        while messages.receiver.try_recv().is_ok() {}
        self.with_watchdog(|| {
            let taker = snapshots.stop();
            self.freezer.unwatch();
            drop(self.shared.manager.stopping());
            let exit = Exit {
                cli: self.cli,
                memory: self.memory,
                memory_state,
                status: command.status()?,
                events: self.events,
            };
            let code = exit.finish(taker);
            history.finish(&messages.receiver, self.events);
            Ok(code)
        })
    }

    /// Handles signals until the command has exited.
    fn handle_messages(&self, command: &RunningCommand, messages: &Messages) {
        let tick = match self.watchdog {
            Some(watchdog) => watchdog.min(TICK),
            None => TICK,
        };
        let mut next = Instant::now() + tick;
        loop {
            let rest = next.saturating_duration_since(Instant::now());
            match messages.receiver.recv_timeout(rest) {
                Ok(Message::Exited) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Message::Signal(SIGUSR1)) => self.report_statistics(),
                Ok(Message::Signal(SIGCHLD)) => self.follow_stop(command),
                Ok(Message::Signal(SIGCONT)) => command.resume(),
                Ok(Message::Signal(signal)) => self.forward(command, signal),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Not only on a timeout: messages may arrive more often than the tick.
            if Instant::now() >= next {
                // Orphans that cannot be reaped now are reaped by their next parent.
                drop(reap_orphans(command.pid()));
                self.follow_stop(command);
                self.ping_watchdog();
                next = Instant::now() + tick;
            }
        }
    }

    fn ping_watchdog(&self) {
        if self.watchdog.is_some() {
            // The next ping follows soon.
            drop(self.shared.manager.watchdog());
        }
    }

    /// Pings the watchdog while `work` runs: the final snapshot of a large memory takes long.
    fn with_watchdog<R>(&self, work: impl FnOnce() -> R) -> R {
        let Some(interval) = self.watchdog else {
            return work();
        };
        thread::scope(|scope| {
            let (_working, finished) = mpsc::channel::<()>();
            let ping = move || {
                while finished.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    self.ping_watchdog();
                }
            };
            let thread = thread::Builder::new().name("watchdog".to_owned());
            // Without the thread the manager may kill this program; the previous snapshot remains.
            drop(thread.spawn_scoped(scope, ping));
            work()
        })
    }

    fn follow_stop(&self, command: &RunningCommand) {
        if command.is_stopped() {
            // No snapshot must be in progress: its frozen processes would stay frozen.
            let _guard = self.shared.lock_snapshots();
            command.stop_with_command();
        }
    }

    fn forward(&self, command: &RunningCommand, signal: i32) {
        if let Some(known) = Signal::from_named_raw(signal) {
            command.send(known);
            self.events
                .emit("signal_forwarded", json!({ "signal": signal }));
        }
    }

    fn report_statistics(&self) {
        let statistics = self.shared.statistics();
        let message = format!("{}: {}", self.cli.store.display(), statistics.text());
        self.events
            .report("statistics", &message, statistics.fields());
    }
}

/// Descendants that outlive the command write during its final snapshot, so every mode freezes
/// them. In mode `exit`, one that cannot be frozen fails the snapshot only if it has the memory
/// open.
fn freezer(cli: &Cli, memory: &Memfd) -> Result<CommandFreezer, ShmError> {
    let freezer = CommandFreezer::for_descendants();
    Ok(match cli.mode {
        Mode::Exit => freezer.only_users_of(memory.try_clone()?),
        Mode::Freeze | Mode::Queue => freezer,
    })
}
