//! The life of this program beside a command.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flatspan::shm::process::{adopt_orphans, reap_orphans};
use flatspan::shm::{HandOver, ListenFds, Notify, SharedFile, ShmError};
use rustix::process::Signal;
use serde_json::json;
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGUSR1};

use crate::child::Running;
use crate::cli::{Cli, How, OnCrash};
use crate::events::Events;
use crate::failure::Outcome;
use crate::history::History;
use crate::last;
use crate::memory::{self, Given};
use crate::messages::{Message, Messages};
use crate::program;
use crate::restoring;
use crate::settle::settle;
use crate::snapshots::{Shared, Taker};
use crate::standing::Standing;
use crate::store_place;

/// Looked after so often: orphans, and stops of the command that no signal has told of.
const TICK: Duration = Duration::from_secs(1);

pub(crate) fn run(cli: &Cli) -> Outcome<u8> {
    // First of all, as descriptors that are opened before might get the numbers of those that were left.
    let received = ListenFds::from_env()?;
    let Given { memory, hand_over } = memory::gather(received, &cli.fd_name)?;
    // What cannot work leaves the store as it is.
    program::check(&cli.command[0])?;
    store_place::check(&cli.store)?;
    Session::begin(cli, memory, hand_over)
}

struct Session<'c> {
    cli: &'c Cli,
    events: Events,
    shared: Arc<Shared>,
    watchdog: Option<Duration>,
}

impl Session<'_> {
    fn begin(cli: &Cli, memory: SharedFile, hand_over: HandOver) -> Outcome<u8> {
        let placed = hand_over.place()?;
        let manager = Notify::from_env()?;
        let session = Session {
            cli,
            events: Events::new(cli.json),
            // Twice as often is advised.
            watchdog: manager.watchdog_interval().map(|interval| interval / 2),
            shared: Arc::new(Shared::new(manager)),
        };
        adopt_orphans().context("cannot adopt orphans of the command")?;
        let standing = Arc::new(standing(cli, &memory)?);
        let mut keeper = restoring::open(cli, &memory, Some(&standing))?;
        // From here on the store is ours, and with it what is known of its memories.
        let marks = settle(cli, &memory, &mut keeper, session.events)?;
        let messages = Messages::of_signals()?;
        let history = History::begin(cli, session.events)?;
        let child = Running::start(cli, &placed, marks.as_ref(), messages.sender.clone())?;
        drop(placed);
        let pid = child.number();
        if cli.snapshot == How::Stop && cli.on_crash != Some(OnCrash::Keep) {
            standing.watch(pid);
        }
        session.events.note("started", json!({ "pid": pid }));
        let taker = Taker::new(
            Arc::new(cli.clone()),
            memory.try_clone()?,
            keeper,
            Arc::clone(&standing),
            Arc::clone(&session.shared),
            history.bell(),
            session.events,
        );
        let snapshots = taker.run()?;
        let _not_vital = session.shared.manager.ready();
        session.attend(&child, &messages);
        // They were for the command.
        while messages.receiver.try_recv().is_ok() {}
        session.alive_during(|| {
            let taker = snapshots.stop();
            standing.watch_nobody();
            let _not_vital = session.shared.manager.stopping();
            let status = child.status()?;
            let code = last::end(cli, &memory, taker, marks.as_ref(), status, session.events);
            history.finish(&messages.receiver, session.events);
            Ok(code)
        })
    }

    /// Until the command has ended.
    fn attend(&self, child: &Running, messages: &Messages) {
        let tick = self.watchdog.map_or(TICK, |watchdog| watchdog.min(TICK));
        let mut next = Instant::now() + tick;
        loop {
            let rest = next.saturating_duration_since(Instant::now());
            match messages.receiver.recv_timeout(rest) {
                Ok(Message::Ended) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Message::Signal(SIGUSR1)) => self.tell_statistics(),
                Ok(Message::Signal(SIGCHLD)) => self.look_after(child),
                Ok(Message::Signal(SIGCONT)) => child.go_on(),
                Ok(Message::Signal(signal)) => self.forward(child, signal),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // However many messages come.
            if Instant::now() >= next {
                // What cannot be reaped now is reaped by who adopts it next.
                let _not_vital = reap_orphans(child.number());
                self.look_after(child);
                self.say_alive();
                next = Instant::now() + tick;
            }
        }
    }

    /// To who restarts a service that is silent.
    fn say_alive(&self) {
        if self.watchdog.is_some() {
            let _not_vital = self.shared.manager.watchdog();
        }
    }

    /// Says so all the while: the last snapshot of a large memory takes its time.
    fn alive_during<R>(&self, work: impl FnOnce() -> R) -> R {
        let Some(interval) = self.watchdog else {
            return work();
        };
        thread::scope(|scope| {
            let (_ends, end) = mpsc::channel::<()>();
            let tell = move || {
                while end.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    self.say_alive();
                }
            };
            let thread = thread::Builder::new().name("watchdog".to_owned());
            // Without it the manager may lose patience, and the snapshot before stays.
            let _not_vital = thread.spawn_scoped(scope, tell);
            work()
        })
    }

    fn look_after(&self, child: &Running) {
        if child.is_stopped() {
            // Others must not stand for as long as this program does.
            let _turn = self.shared.turn();
            child.stop_with();
        }
    }

    fn forward(&self, child: &Running, signal: i32) {
        if let Some(known) = Signal::from_named_raw(signal) {
            child.send(known);
            self.events.note("forwarded", json!({ "signal": signal }));
        }
    }

    fn tell_statistics(&self) {
        let statistics = self.shared.statistics();
        let text = format!("{}: {}", self.cli.store.display(), statistics.text());
        self.events.tell("statistics", &text, statistics.fields());
    }
}

/// Those who outlive the command still write when its last snapshot is taken, so all snapshots are of an instant. With `exit`
/// one that cannot be stopped is no reason to lose the state, unless it has the memory.
fn standing(cli: &Cli, memory: &SharedFile) -> Result<Standing, ShmError> {
    let standing = Standing::of_descendants();
    Ok(match cli.snapshot {
        How::Exit => standing.if_anybody_has(memory.try_clone()?),
        How::Stop | How::Queue => standing,
    })
}
