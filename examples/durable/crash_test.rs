//! Parent process: kills children until the requested number is reached, and judges what each next
//! child finds.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::child::PHASE;
use crate::cli::CrashTestArgs;
use crate::line::{Line, Problem};
use crate::phase::{Phase, PhaseFile};
use crate::plan::{Aim, Plan};
use crate::random::Random;
use crate::report;
use crate::tally::Tally;
use crate::victim::{Received, Victim};
use crate::{cancel_on_signal, exit};

/// Limit for the last child, which is not killed.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Interval at which signals are noticed.
const STEP: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &CrashTestArgs) -> Result<u8> {
    let seed = args.seed.unwrap_or_else(random_seed);
    let mut test = CrashTest::new(args, seed)?;
    let begun = Instant::now();
    test.run_all(begun)?;
    if test.tally.fault.is_some() && args.dir.is_some() {
        test.dir.disable_cleanup(true);
        eprintln!("the store is kept in {}", test.dir.path().display());
    }
    report::print(&test.tally, seed, begun.elapsed(), args.json)?;
    Ok(match test.is_cancelled() {
        true => exit::INTERRUPTED,
        false if test.tally.is_ok() => exit::OK,
        false => exit::PROBLEMS,
    })
}

/// Returns a seed from the random keys of the standard library.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0) % 1_000_000
}

struct CrashTest<'a> {
    args: &'a CrashTestArgs,
    seed: u64,
    dir: TempDir,
    file: PhaseFile,
    cancel: Arc<AtomicBool>,
    tally: Tally,
}

impl<'a> CrashTest<'a> {
    fn new(args: &'a CrashTestArgs, seed: u64) -> Result<Self> {
        let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::Builder::new()
            .prefix("flatspan-crash-test-")
            .tempdir_in(&parent);
        let dir = dir.with_context(|| parent.display().to_string())?;
        Ok(Self {
            args,
            seed,
            file: PhaseFile::open(&dir.path().join(PHASE)).context("cannot open the phase file")?,
            dir,
            cancel: cancel_on_signal()?,
            tally: Tally::default(),
        })
    }

    fn run_all(&mut self, begun: Instant) -> Result<()> {
        let bar = ProgressBar::new(self.args.kills);
        let end = self
            .args
            .max_seconds
            .map(|seconds| begun + Duration::from_secs(seconds));
        let mut random = Random::of(&[self.seed, 0]);
        let mut run = 0;
        while self.tally.kills() < self.args.kills && !self.is_over(end) {
            let missing = self.tally.missing(self.args.kills);
            let left = self.args.kills - self.tally.kills();
            let plan = Plan::next(&mut random, &missing, left);
            self.run_child(run, Some(plan))
                .with_context(|| format!("child {run}"))?;
            run += 1;
            bar.set_position(self.tally.kills());
        }
        bar.finish_and_clear();
        // Checks the state after the last kill.
        if self.tally.fault.is_none() && !self.is_cancelled() {
            self.run_child(run, None).context("the last child")?;
        }
        Ok(())
    }

    fn is_over(&self, end: Option<Instant>) -> bool {
        self.tally.fault.is_some()
            || self.is_cancelled()
            || end.is_some_and(|end| Instant::now() >= end)
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Runs one child from its start to its end. Without a plan the child ends by itself.
    fn run_child(&mut self, run: u64, plan: Option<Plan>) -> Result<()> {
        self.file.write(Phase::Idle)?;
        let mut victim = Victim::start(&self.child_args(run, plan))?;
        if self.watch(&mut victim, plan)? {
            let status = victim.wait()?;
            // The child has reported a reason if it could.
            if plan.is_some() || !status.success() {
                self.tally
                    .wrong(Problem::ChildExited, format!("child {run}: {status}"));
            }
            return Ok(());
        }
        let (status, lines) = victim.kill()?;
        for line in &lines {
            self.tally.receive(line);
        }
        if status.signal() == Some(Signal::KILL.as_raw()) && plan.is_some() {
            self.tally.killed(self.file.read()?);
        } else if !self.is_cancelled() {
            self.tally
                .wrong(Problem::ChildExited, format!("child {run}: {status}"));
        }
        Ok(())
    }

    /// Reads lines until the time of the kill. Returns `true` if the child ended by itself.
    fn watch(&mut self, victim: &mut Victim, plan: Option<Plan>) -> Result<bool> {
        let timeout = plan.map_or(TIMEOUT, |plan| plan.timeout());
        let mut deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_cancelled() || self.tally.fault.is_some() {
                return Ok(false);
            }
            let lines = match victim.receive(left.min(STEP))? {
                Received::Lines(lines) => lines,
                Received::Nothing => continue,
                Received::End => return Ok(true),
            };
            for line in &lines {
                self.tally.receive(line);
                if let Some(plan) = plan.filter(|plan| starts_delay(plan, line)) {
                    deadline = deadline.min(Instant::now() + plan.delay);
                }
            }
        }
    }

    fn child_args(&self, run: u64, plan: Option<Plan>) -> Vec<OsString> {
        let mut args = vec!["--dir".into(), self.dir.path().into()];
        let mut word = |word: String| args.push(word.into());
        word(format!("--seed={}", self.seed));
        word(format!("--run={run}"));
        word(format!("--begun={}", self.tally.begun));
        if let Some(Aim {
            phase,
            call,
            linger,
        }) = plan.and_then(|plan| plan.aim)
        {
            word(format!("--target={}", phase.name()));
            word(format!("--call={call}"));
            word(format!("--linger-micros={}", linger.as_micros()));
        }
        if let Some(fault) = self.args.fault {
            word(format!("--fault={}", fault.name()));
        }
        if plan.is_none() {
            word("--last".to_owned());
        }
        args
    }
}

/// Returns whether the line starts the delay of the plan. A call targeted during opening can no
/// longer come once the store is open.
fn starts_delay(plan: &Plan, line: &Line) -> bool {
    match (plan.aim, line) {
        (Some(_), Line::At(_)) => true,
        (Some(aim), Line::Found(_)) => aim.phase == Phase::Restore,
        _ => false,
    }
}
