//! The parent: kills children until there were enough, and judges what the next one finds.

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
use crate::cli::StormArgs;
use crate::line::{FaultFound, Line};
use crate::phase::{Phase, PhaseFile};
use crate::plan::{Aim, Plan};
use crate::random::Random;
use crate::report;
use crate::tally::Tally;
use crate::victim::{Heard, Victim};
use crate::{cancel_on_signal, exit};

/// For the child that is not killed.
const PATIENCE: Duration = Duration::from_secs(60);
/// A signal is noticed after so long.
const STEP: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &StormArgs) -> Result<u8> {
    let seed = args.seed.unwrap_or_else(random_seed);
    let mut storm = Storm::new(args, seed)?;
    let begun = Instant::now();
    storm.all(begun)?;
    if storm.tally.fault.is_some() && args.dir.is_some() {
        storm.dir.disable_cleanup(true);
        eprintln!("the store is kept in {}", storm.dir.path().display());
    }
    report::print(&storm.tally, seed, begun.elapsed(), args.json)?;
    Ok(match storm.is_cancelled() {
        true => exit::INTERRUPTED,
        false if storm.tally.is_ok() => exit::OK,
        false => exit::PROBLEMS,
    })
}

/// Randomly keyed by the standard library.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0) % 1_000_000
}

struct Storm<'a> {
    args: &'a StormArgs,
    seed: u64,
    dir: TempDir,
    file: PhaseFile,
    cancel: Arc<AtomicBool>,
    tally: Tally,
}

impl<'a> Storm<'a> {
    fn new(args: &'a StormArgs, seed: u64) -> Result<Self> {
        let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::Builder::new()
            .prefix("flatspan-storm-")
            .tempdir_in(&parent);
        let dir = dir.with_context(|| parent.display().to_string())?;
        Ok(Self {
            args,
            seed,
            file: PhaseFile::open(&dir.path().join(PHASE)).context("the file of the phase")?,
            dir,
            cancel: cancel_on_signal()?,
            tally: Tally::default(),
        })
    }

    fn all(&mut self, begun: Instant) -> Result<()> {
        let bar = ProgressBar::new(self.args.kills);
        let end = self
            .args
            .seconds_max
            .map(|seconds| begun + Duration::from_secs(seconds));
        let mut random = Random::of(&[self.seed, 0]);
        let mut run = 0;
        while self.tally.kills() < self.args.kills && !self.is_over(end) {
            let missing = self.tally.missing(self.args.kills);
            let left = self.args.kills - self.tally.kills();
            let plan = Plan::next(&mut random, &missing, left);
            self.one(run, Some(plan))
                .with_context(|| format!("child {run}"))?;
            run += 1;
            bar.set_position(self.tally.kills());
        }
        bar.finish_and_clear();
        // What the last kill left.
        if self.tally.fault.is_none() && !self.is_cancelled() {
            self.one(run, None).context("the last child")?;
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

    /// From the start of a child to its end; without a plan it ends by itself.
    fn one(&mut self, run: u64, plan: Option<Plan>) -> Result<()> {
        self.file.write(Phase::Idle)?;
        let mut victim = Victim::start(&self.child_args(run, plan))?;
        if self.watch(&mut victim, plan)? {
            let status = victim.wait()?;
            // It has told why, if it could.
            if plan.is_some() || !status.success() {
                self.tally
                    .wrong(FaultFound::Ended, format!("child {run}: {status}"));
            }
            return Ok(());
        }
        let (status, lines) = victim.kill()?;
        lines.iter().for_each(|line| self.tally.hear(line));
        if status.signal() == Some(Signal::KILL.as_raw()) && plan.is_some() {
            self.tally.killed(self.file.read()?);
        } else if !self.is_cancelled() {
            self.tally
                .wrong(FaultFound::Ended, format!("child {run}: {status}"));
        }
        Ok(())
    }

    /// Listens until the instant of the kill; true when the child has ended by itself.
    fn watch(&mut self, victim: &mut Victim, plan: Option<Plan>) -> Result<bool> {
        let patience = plan.map_or(PATIENCE, |plan| plan.patience());
        let mut instant = Instant::now() + patience;
        loop {
            let left = instant.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_cancelled() || self.tally.fault.is_some() {
                return Ok(false);
            }
            let lines = match victim.hear(left.min(STEP))? {
                Heard::Lines(lines) => lines,
                Heard::Nothing => continue,
                Heard::End => return Ok(true),
            };
            for line in &lines {
                self.tally.hear(line);
                if let Some(plan) = plan.filter(|plan| is_instant(plan, line)) {
                    instant = instant.min(Instant::now() + plan.delay);
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

/// Is this the call that was aimed at? One aimed at in opening does not come any more when that is over.
fn is_instant(plan: &Plan, line: &Line) -> bool {
    match (plan.aim, line) {
        (Some(_), Line::At(_)) => true,
        (Some(aim), Line::Found(_)) => aim.phase == Phase::Restore,
        _ => false,
    }
}
