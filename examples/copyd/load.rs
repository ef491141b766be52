//! `copyd load`: worker processes that put and get, are killed, and are started again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::cli::LoadArgs;
use crate::client::Client;
use crate::content::{BLOCK_BYTES, Random};
use crate::exit;

/// The longest random delay between the reply that triggers a kill and the kill.
const KILL_DELAY_MAX_US: usize = 3000;

/// The requests of a block that the server has not acknowledged yet.
#[derive(Clone, Copy)]
enum Remaining {
    PutAndGet,
    Get,
}

/// A message from the thread that reads a worker's output.
enum WorkerEvent {
    Line(usize, String),
    /// The worker's output has ended.
    End(usize),
}

struct Worker {
    process: Child,
    remaining: BTreeMap<u64, Remaining>,
    killed: bool,
}

/// No worker outlives the run, however it ends.
impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail if the worker has ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[derive(Default)]
struct Tally {
    puts: u64,
    gets: u64,
    busy: u64,
    kills: u64,
    mismatched: u64,
}

struct Load<'a> {
    args: &'a LoadArgs,
    random: Random,
    /// The number of workers started so far.
    starts: u64,
    events: Sender<WorkerEvent>,
    tally: Tally,
}

pub(crate) fn run(args: &LoadArgs) -> Result<u8> {
    let started = Instant::now();
    let blocks = args.bytes.div_ceil(BLOCK_BYTES.into());
    let (sender, events) = mpsc::channel();
    let mut load = Load {
        args,
        random: Random::new(args.seed),
        starts: 0,
        events: sender,
        tally: Tally::default(),
    };
    let peers = args.peers.get() as u64;
    let mut workers = Vec::new();
    for peer in 0..peers {
        // Adjacent blocks belong to different workers, so that the workers share windows and touch
        // their edges.
        let share = (peer..blocks).step_by(args.peers.get());
        let remaining = share.map(|block| (block, Remaining::PutAndGet)).collect();
        workers.push(load.start(workers.len(), remaining)?);
    }
    let kills = load.kill_counts(blocks * 2);
    load.supervise(&mut workers, &events, kills)?;
    Client::connect(&args.server)?.sync()?;
    load.report(blocks, started.elapsed())
}

impl Load<'_> {
    /// Reply counts after each of which a worker is killed, in descending order.
    fn kill_counts(&mut self, replies: u64) -> Vec<u64> {
        // The last replies are excluded, because no worker may have work left then.
        let end = usize::try_from(replies * 9 / 10)
            .unwrap_or(usize::MAX)
            .max(1);
        let kills = 0..self.args.kills;
        let mut counts: Vec<_> = kills.map(|_| self.random.below(end) as u64).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    fn start(&mut self, number: usize, remaining: BTreeMap<u64, Remaining>) -> Result<Worker> {
        let args = self.args;
        self.starts += 1;
        let program = std::env::current_exe().context("cannot find the path of this program")?;
        let mut process = Command::new(program)
            .args(["worker", &args.server])
            .args(["--bytes", &args.bytes.to_string()])
            .args(["--seed", &args.seed.to_string()])
            .args([
                "--order",
                &args.seed.wrapping_add(self.starts << 32).to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let worker = Worker {
            process,
            remaining,
            killed: false,
        };
        let mut work = String::new();
        for (block, remaining) in &worker.remaining {
            let request = match remaining {
                Remaining::PutAndGet => "put",
                Remaining::Get => "get",
            };
            let _ = writeln!(work, "{request} {block}"); // Writing to a string cannot fail.
        }
        // The worker reads all of its input before it writes any output.
        let mut stdin = stdin.context("a worker has no standard input")?;
        stdin
            .write_all(work.as_bytes())
            .context("cannot write to a worker")?;
        let lines = BufReader::new(stdout.context("a worker has no standard output")?).lines();
        let events = self.events.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if events.send(WorkerEvent::Line(number, line)).is_err() {
                    return;
                }
            }
            // The receiver is gone if the run has failed.
            events.send(WorkerEvent::End(number)).ok();
        });
        Ok(worker)
    }

    /// Processes the workers' output, kills and restarts workers, until no work is left.
    fn supervise(
        &mut self,
        workers: &mut [Worker],
        events: &Receiver<WorkerEvent>,
        mut kills: Vec<u64>,
    ) -> Result<()> {
        let mut running = workers.len();
        while running > 0 {
            match events
                .recv()
                .context("all workers have closed their output")?
            {
                WorkerEvent::Line(number, line) => {
                    self.record(&mut workers[number].remaining, &line)?
                }
                WorkerEvent::End(number) => {
                    let worker = &mut workers[number];
                    let status = worker.process.wait().context("cannot wait for a worker")?;
                    if !worker.killed && !status.success() {
                        bail!("a worker failed: {status}");
                    }
                    if worker.remaining.is_empty() {
                        running -= 1;
                    } else if worker.killed {
                        let remaining = std::mem::take(&mut worker.remaining);
                        workers[number] = self.start(number, remaining)?;
                    } else {
                        bail!(
                            "a worker ended with {} blocks remaining",
                            worker.remaining.len()
                        );
                    }
                }
            }
            let replies = self.tally.puts + self.tally.gets;
            if kills.last().is_some_and(|at| *at <= replies) && self.kill(workers)? {
                kills.pop();
            }
        }
        Ok(())
    }

    fn record(&mut self, remaining: &mut BTreeMap<u64, Remaining>, line: &str) -> Result<()> {
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let request = line.split(' ').next().unwrap_or_default();
        number();
        let (Some(block), Some(busy)) = (number(), number()) else {
            bail!("unexpected output of a worker: {line:?}");
        };
        self.tally.busy += busy;
        match request {
            "put" => {
                self.tally.puts += 1;
                remaining.insert(block, Remaining::Get);
                return Ok(());
            }
            "get" => {}
            "bad" => self.tally.mismatched += 1,
            _ => bail!("unexpected output of a worker: {line:?}"),
        }
        self.tally.gets += 1;
        remaining.remove(&block);
        Ok(())
    }

    /// Kills a random worker that has work, after a short delay. Returns `false` if no worker has
    /// work.
    fn kill(&mut self, workers: &mut [Worker]) -> Result<bool> {
        let has_work = |worker: &&mut Worker| !worker.killed && !worker.remaining.is_empty();
        let mut candidates: Vec<_> = workers.iter_mut().filter(has_work).collect();
        let Some(worker) = self.random.take(&mut candidates) else {
            return Ok(false);
        };
        let delay = self.random.below(KILL_DELAY_MAX_US);
        thread::sleep(Duration::from_micros(delay as u64));
        worker.process.kill().context("cannot kill a worker")?;
        worker.killed = true;
        self.tally.kills += 1;
        Ok(true)
    }

    fn report(&self, blocks: u64, duration: Duration) -> Result<u8> {
        let args = self.args;
        let Tally {
            puts,
            gets,
            busy,
            kills,
            mismatched,
        } = self.tally;
        let seconds = duration.as_secs_f64();
        let mib_per_second = args.bytes as f64 * 2.0 / f64::from(1 << 20) / seconds;
        let mut stdout = std::io::stdout();
        if args.json {
            let object = json!({
                "total_bytes": args.bytes,
                "blocks": blocks,
                "peers": args.peers.get(),
                "puts": puts,
                "gets": gets,
                "kills": kills,
                "busy": busy,
                "mismatched": mismatched,
                "seconds": seconds,
                "mib_per_second": mib_per_second,
            });
            writeln!(stdout, "{object}")?;
        } else {
            writeln!(
                stdout,
                "{puts} puts and {gets} gets of {blocks} blocks in {seconds:.1} s ({mib_per_second:.0} MiB/s), \
                 {kills} kills, {busy} busy replies, {mismatched} blocks with wrong content"
            )?;
        }
        Ok(match mismatched {
            0 => exit::OK,
            _ => exit::WRONG_CONTENT,
        })
    }
}
