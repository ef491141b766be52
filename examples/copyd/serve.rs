//! `copyd serve`: listens, starts a thread for each peer, and ends on a signal.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use anyhow::{Context as _, Result};
use flatspan::mapping_cache::{Access, CacheStats, install_sigbus_handler};
use flatspan::span::Group;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::cli::ServeArgs;
use crate::exit;
use crate::peer::{Counters, Peer, send_text};
use crate::protocol::Status;

/// Threads of peers need small stacks, because payload does not pass through them.
const STACK_BYTES: usize = 256 << 10;
/// The pause before accepting again after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

struct Server<'a> {
    group: &'a Group,
    listener: &'a TcpListener,
    counters: Counters,
    peers_max: usize,
    peers: Mutex<Peers>,
    /// Set by the first signal; the second one ends the program.
    stopping: Arc<AtomicBool>,
}

#[derive(Default)]
struct Peers {
    streams: HashMap<u64, Arc<TcpStream>>,
    next: u64,
    /// No further peer is accepted.
    closed: bool,
}

pub(crate) fn run(args: &ServeArgs) -> Result<u8> {
    install_sigbus_handler().context("cannot handle SIGBUS")?;
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let exit_code = exit::INTERRUPTED.into();
        flag::register_conditional_shutdown(signal, exit_code, Arc::clone(&stopping))
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
        stopping,
    };
    // The scope ends after all peers; it panics if one of their threads panicked.
    thread::scope(|scope| -> Result<()> {
        let acceptor = scope.spawn(|| server.accept(scope));
        signals.forever().next();
        server.stop();
        // The scope reports a panic of the thread.
        acceptor.join().ok();
        Ok(())
    })?;
    // Also if no peer put anything since its last sync, which is cheap then.
    group.sync_all().context("cannot sync")?;
    report(args, &server.counters, cache.window_bytes(), &cache.stats())?;
    Ok(exit::OK)
}

impl Server<'_> {
    fn accept<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        for stream in self.listener.incoming() {
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            match stream {
                Ok(stream) => self.start_peer(stream, scope),
                // Peers that disconnect free their descriptors.
                Err(error) => {
                    eprintln!("copyd: cannot accept: {error}");
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn start_peer<'scope>(&'scope self, stream: TcpStream, scope: &'scope Scope<'scope, '_>) {
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        let stream = Arc::new(stream);
        let Some(slot) = PeerSlot::acquire(self, Arc::clone(&stream)) else {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            // The text fits into the send buffer of an unused socket.
            send_text(&stream, Status::Full, "too many peers").ok();
            return;
        };
        let serve = move || {
            let peer = Peer::new(&slot.stream, self.group, &self.counters);
            // A failed connection concerns only its peer.
            if peer.serve().is_err() {
                self.counters.broken.fetch_add(1, Ordering::Relaxed);
            }
        };
        let builder = thread::Builder::new().stack_size(STACK_BYTES);
        if let Err(error) = builder.spawn_scoped(scope, serve) {
            eprintln!("copyd: cannot start a thread: {error}");
        }
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let mut peers = self.peers();
        peers.closed = true;
        for stream in peers.streams.values() {
            // It fails if the peer has closed the connection.
            stream.shutdown(Shutdown::Both).ok();
        }
        drop(peers);
        // This wakes the accepting thread. If connecting fails, another connection is pending,
        // which wakes it too.
        self.listener.local_addr().and_then(TcpStream::connect).ok();
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot for a connected peer, freed on drop.
struct PeerSlot<'a> {
    server: &'a Server<'a>,
    stream: Arc<TcpStream>,
    number: u64,
}

impl<'a> PeerSlot<'a> {
    fn acquire(server: &'a Server<'a>, stream: Arc<TcpStream>) -> Option<Self> {
        let mut peers = server.peers();
        if peers.closed || peers.streams.len() >= server.peers_max {
            return None;
        }
        let number = peers.next;
        peers.next += 1;
        peers.streams.insert(number, Arc::clone(&stream));
        Some(Self {
            server,
            stream,
            number,
        })
    }
}

impl Drop for PeerSlot<'_> {
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
    let budget_bytes = args.group.budget.get();
    let mut stdout = std::io::stdout();
    if args.json {
        let object = json!({
            "budget_bytes": budget_bytes,
            "window_bytes": window_bytes,
            "mapped_bytes_max": stats.mapped_bytes_max,
            "mapped_bytes": stats.mapped_bytes,
            "pinned_mappings": stats.pinned_mappings,
            "hits": stats.hits,
            "misses": stats.misses,
            "evictions": stats.evictions,
            "waits": stats.waits,
            "over_budget_mappings": stats.over_budget_mappings,
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
            "{gets} gets, {puts} puts, {refused} refused, {connections} connections ({broken} aborted); at most {} bytes mapped \
             of a budget of {budget_bytes}, {} hits, {} misses, {} evictions",
            stats.mapped_bytes_max, stats.hits, stats.misses, stats.evictions,
        )?;
    }
    Ok(stdout.flush()?)
}
