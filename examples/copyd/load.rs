//! `copyd load`: worker processes that put and get, are killed, and started again.

use std::collections::BTreeMap;
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

/// A worker is killed up to so long after the count of replies that calls for it.
const KILL_DELAY_MICROS: usize = 3000;

/// What the server has not acknowledged yet of a block.
#[derive(Clone, Copy)]
enum Left {
    PutAndGet,
    Get,
}

/// What a worker says.
enum News {
    Line(usize, String),
    /// Its output has ended.
    End(usize),
}

struct Worker {
    process: Child,
    left: BTreeMap<u64, Left>,
    killed: bool,
}

/// No worker outlives the run, however it ends.
impl Drop for Worker {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
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
    /// Lives that workers have had.
    lives: u64,
    news: Sender<News>,
    tally: Tally,
}

pub(crate) fn run(args: &LoadArgs) -> Result<u8> {
    let started = Instant::now();
    let blocks = args.bytes.div_ceil(BLOCK_BYTES.into());
    let (news, heard) = mpsc::channel();
    let mut load = Load {
        args,
        random: Random::new(args.seed),
        lives: 0,
        news,
        tally: Tally::default(),
    };
    let peers = args.peers.get() as u64;
    let mut workers = Vec::new();
    for peer in 0..peers {
        // Neighbours belong to different workers, so that they meet in windows and at their edges.
        let share = (peer..blocks).step_by(args.peers.get());
        let left = share.map(|block| (block, Left::PutAndGet)).collect();
        workers.push(load.start(workers.len(), left)?);
    }
    let kills = load.instants(blocks * 2);
    load.attend(&mut workers, &heard, kills)?;
    Client::connect(&args.server)?.sync()?;
    load.report(blocks, started.elapsed())
}

impl Load<'_> {
    /// After how many replies somebody is killed, the last first.
    fn instants(&mut self, replies: u64) -> Vec<u64> {
        // The last replies are left out: then there may be nobody with work.
        let end = usize::try_from(replies * 9 / 10)
            .unwrap_or(usize::MAX)
            .max(1);
        let kills = 0..self.args.kills;
        let mut instants: Vec<_> = kills.map(|_| self.random.below(end) as u64).collect();
        instants.sort_unstable_by(|a, b| b.cmp(a));
        instants
    }

    fn start(&mut self, number: usize, left: BTreeMap<u64, Left>) -> Result<Worker> {
        let args = self.args;
        self.lives += 1;
        let program = std::env::current_exe().context("where is this program?")?;
        let mut process = Command::new(program)
            .args(["worker", &args.server])
            .args(["--bytes", &args.bytes.to_string()])
            .args(["--seed", &args.seed.to_string()])
            .args([
                "--order",
                &args.seed.wrapping_add(self.lives << 32).to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let worker = Worker {
            process,
            left,
            killed: false,
        };
        let mut work = String::new();
        for (block, left) in &worker.left {
            let what = match left {
                Left::PutAndGet => "put",
                Left::Get => "get",
            };
            work.push_str(&format!("{what} {block}\n"));
        }
        // It reads all of it before it says anything.
        let mut stdin = stdin.context("no pipe to a worker")?;
        stdin
            .write_all(work.as_bytes())
            .context("a worker does not listen")?;
        let lines = BufReader::new(stdout.context("no pipe from a worker")?).lines();
        let news = self.news.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if news.send(News::Line(number, line)).is_err() {
                    return;
                }
            }
            // Nobody listens any more where the run has failed.
            let _unheard = news.send(News::End(number));
        });
        Ok(worker)
    }

    /// Listens to the workers, kills and restarts them, until nothing is left.
    fn attend(
        &mut self,
        workers: &mut [Worker],
        heard: &Receiver<News>,
        mut kills: Vec<u64>,
    ) -> Result<()> {
        let mut at_work = workers.len();
        while at_work > 0 {
            match heard.recv().context("the workers are silent")? {
                News::Line(number, line) => self.note(&mut workers[number].left, &line)?,
                News::End(number) => {
                    let worker = &mut workers[number];
                    let status = worker.process.wait().context("a worker's end")?;
                    if !worker.killed && !status.success() {
                        bail!("a worker failed: {status}");
                    }
                    if worker.left.is_empty() {
                        at_work -= 1;
                    } else if worker.killed {
                        let left = std::mem::take(&mut worker.left);
                        workers[number] = self.start(number, left)?;
                    } else {
                        bail!("a worker left {} blocks", worker.left.len());
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

    fn note(&mut self, left: &mut BTreeMap<u64, Left>, line: &str) -> Result<()> {
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let what = line.split(' ').next().unwrap_or_default();
        number();
        let (Some(block), Some(busy)) = (number(), number()) else {
            bail!("a worker says {line:?}");
        };
        self.tally.busy += busy;
        match what {
            "put" => {
                self.tally.puts += 1;
                left.insert(block, Left::Get);
                return Ok(());
            }
            "get" => {}
            "bad" => self.tally.mismatched += 1,
            _ => bail!("a worker says {line:?}"),
        }
        self.tally.gets += 1;
        left.remove(&block);
        Ok(())
    }

    /// Kills any worker that has work, a moment from now; false if there is none.
    fn kill(&mut self, workers: &mut [Worker]) -> Result<bool> {
        let may = |worker: &&mut Worker| !worker.killed && !worker.left.is_empty();
        let mut candidates: Vec<_> = workers.iter_mut().filter(may).collect();
        let Some(worker) = self.random.take(&mut candidates) else {
            return Ok(false);
        };
        let delay = self.random.below(KILL_DELAY_MICROS);
        thread::sleep(Duration::from_micros(delay as u64));
        worker.process.kill().context("cannot kill a worker")?;
        worker.killed = true;
        self.tally.kills += 1;
        Ok(true)
    }

    fn report(&self, blocks: u64, took: Duration) -> Result<u8> {
        let args = self.args;
        let Tally {
            puts,
            gets,
            busy,
            kills,
            mismatched,
        } = self.tally;
        let seconds = took.as_secs_f64();
        let mib_per_second = args.bytes as f64 * 2.0 / f64::from(1 << 20) / seconds;
        let mut stdout = std::io::stdout();
        if args.json {
            let object = json!({
                "bytes": args.bytes,
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
                 {kills} kills, {busy} times busy, {mismatched} with other content"
            )?;
        }
        Ok(match mismatched {
            0 => exit::OK,
            _ => exit::WRONG_CONTENT,
        })
    }
}
