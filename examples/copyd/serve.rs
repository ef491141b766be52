//! `copyd serve`: listens, gives each peer a thread, and ends when a signal asks for it.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use anyhow::{Context as _, Result};
use flatspan::mapping_cache::{Access, CacheStats, install_sigbus_dispatcher};
use flatspan::span::Group;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::cli::ServeArgs;
use crate::exit;
use crate::peer::{Counters, Peer, send_text};
use crate::protocol::Status;

/// What peers need is small: bytes do not pass through their stacks.
const STACK_BYTES: usize = 256 << 10;
/// Before accepting is tried again where descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

struct Server<'a> {
    group: &'a Group,
    listener: &'a TcpListener,
    counters: Counters,
    peers_max: usize,
    peers: Mutex<Peers>,
    /// Set by the first signal; the second one ends the program.
    ending: Arc<AtomicBool>,
}

#[derive(Default)]
struct Peers {
    streams: HashMap<u64, Arc<TcpStream>>,
    next: u64,
    /// None is taken in any more.
    closed: bool,
}

pub(crate) fn run(args: &ServeArgs) -> Result<u8> {
    install_sigbus_dispatcher().context("cannot handle SIGBUS")?;
    let ending = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let exit_code = exit::INTERRUPTED.into();
        flag::register_conditional_shutdown(signal, exit_code, ending.clone())
            .context("cannot handle signals")?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot handle signals")?;
    let (mut builder, cache) = args.group.builder()?;
    if args.receive {
        builder = builder.access(Access::ReadWrite).create(true);
    }
    let group = builder.open()?;
    let listener = TcpListener::bind(&args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", listener.local_addr()?)?;
    stdout.flush()?;

    let server = Server {
        group: &group,
        listener: &listener,
        counters: Counters::default(),
        peers_max: args.peers.get(),
        peers: Mutex::default(),
        ending,
    };
    // The scope ends when all peers have; a thread that panicked makes it panic.
    thread::scope(|scope| -> Result<()> {
        let accepting = scope.spawn(|| server.accept(scope));
        signals.forever().next();
        server.end();
        let _panicked = accepting.join();
        Ok(())
    })?;
    // Also where the peers put nothing since they last asked for it: it costs little then.
    group.sync_all().context("cannot sync")?;
    report(args, &server.counters, cache.window_bytes(), &cache.stats())?;
    Ok(exit::OK)
}

impl Server<'_> {
    fn accept<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        for stream in self.listener.incoming() {
            if self.ending.load(Ordering::Relaxed) {
                return;
            }
            match stream {
                Ok(stream) => self.welcome(stream, scope),
                // Peers that end give descriptors back.
                Err(error) => {
                    eprintln!("copyd: cannot accept: {error}");
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn welcome<'scope>(&'scope self, stream: TcpStream, scope: &'scope Scope<'scope, '_>) {
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        let stream = Arc::new(stream);
        let Some(guest) = Guest::enter(self, stream.clone()) else {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            // It fits into the buffer of a socket that nothing was sent to yet.
            let _gone = send_text(&stream, Status::Full, "too many peers");
            return;
        };
        let serve = move || {
            let peer = Peer::new(&guest.stream, self.group, &self.counters);
            // What became of a connection concerns its peer alone.
            if peer.serve().is_err() {
                self.counters.broken.fetch_add(1, Ordering::Relaxed);
            }
        };
        let builder = thread::Builder::new().stack_size(STACK_BYTES);
        if let Err(error) = builder.spawn_scoped(scope, serve) {
            eprintln!("copyd: cannot start a thread: {error}");
        }
    }

    fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        let mut peers = self.peers();
        peers.closed = true;
        for stream in peers.streams.values() {
            let _gone = stream.shutdown(Shutdown::Both);
        }
        drop(peers);
        // Wakes whoever accepts; where that fails, others are connecting, which wakes it as well.
        let _woken = self.listener.local_addr().and_then(TcpStream::connect);
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the peers, given back on drop.
struct Guest<'a> {
    server: &'a Server<'a>,
    stream: Arc<TcpStream>,
    number: u64,
}

impl<'a> Guest<'a> {
    fn enter(server: &'a Server<'a>, stream: Arc<TcpStream>) -> Option<Self> {
        let mut peers = server.peers();
        if peers.closed || peers.streams.len() >= server.peers_max {
            return None;
        }
        let number = peers.next;
        peers.next += 1;
        peers.streams.insert(number, stream.clone());
        Some(Self {
            server,
            stream,
            number,
        })
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.server.peers().streams.remove(&self.number);
    }
}

fn report(
    args: &ServeArgs,
    counters: &Counters,
    window_bytes: usize,
    stats: &CacheStats,
) -> Result<()> {
    let [connections, gets, puts, refused, broken] = [
        &counters.connections,
        &counters.gets,
        &counters.puts,
        &counters.refused,
        &counters.broken,
    ]
    .map(|counter| counter.load(Ordering::Relaxed));
    let budget_bytes = args.group.budget_bytes();
    let mut stdout = std::io::stdout();
    if args.json {
        let object = json!({
            "budget_bytes": budget_bytes,
            "window_bytes": window_bytes,
            "mapped_bytes_max": stats.mapped_bytes_max,
            "mapped_bytes": stats.mapped_bytes,
            "pinned": stats.pinned,
            "hits": stats.hits,
            "misses": stats.misses,
            "evictions": stats.evictions,
            "stalls": stats.stalls,
            "budget_exceeded": stats.budget_exceeded,
            "connections": connections,
            "gets": gets,
            "puts": puts,
            "refused": refused,
            "broken": broken,
        });
        writeln!(stdout, "{object}")?;
    } else {
        writeln!(
            stdout,
            "{gets} gets, {puts} puts, {refused} refused, {connections} connections ({broken} broken off); at most {} bytes mapped \
             of a budget of {budget_bytes}, {} hits, {} misses, {} evictions",
            stats.mapped_bytes_max, stats.hits, stats.misses, stats.evictions,
        )?;
    }
    Ok(stdout.flush()?)
}
