//! Checks every distinct image of a log, and the images of recovery from it.

use std::collections::HashSet;

use super::{images::each_image, model::State, op::Op, recorder::Recorder};

/// Limits of the number of images.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Up to this number of pending operations, every subset is tried.
    pub(crate) subsets_max: usize,
    /// Approximate number of random subsets over the whole log, for longer epochs.
    pub(crate) random_subsets: usize,
    /// Number of the last pending writes that are torn.
    pub(crate) torn_writes: usize,
    /// Writes of up to this number of sectors are torn into every subset of them.
    pub(crate) sectors_max: u32,
    /// Depth of crashes of recovery: 0 none, 2 also the recovery from those.
    pub(crate) depth: usize,
    /// The recovery of every n-th image is crashed.
    pub(crate) again_every: u64,
    /// Maximum number of checked images of recoveries.
    pub(crate) again_max: u64,
    pub(crate) seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            subsets_max: 12,
            random_subsets: 1000,
            torn_writes: 2,
            sectors_max: 5,
            depth: 2,
            again_every: 16,
            again_max: 20_000,
            seed: 1,
        }
    }
}

impl Limits {
    /// Returns the limits for recoveries, which repeat few operations.
    fn again(&self) -> Self {
        Self {
            subsets_max: self.subsets_max.min(6),
            random_subsets: self.random_subsets.min(20),
            torn_writes: self.torn_writes.min(1),
            ..self.clone()
        }
    }
}

/// Numbers of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Images made of the log, duplicates included.
    pub(crate) made: u64,
    /// Distinct images that were checked.
    pub(crate) checked: u64,
    /// Distinct images of recoveries that were checked.
    pub(crate) checked_again: u64,
}

/// Condition that each image must meet. It may recover and write, which is recorded.
type Check<'c> = &'c dyn Fn(&Recorder) -> Result<(), String>;

/// Makes every image of the recorded log, and checks each image and its recovery.
///
/// # Errors
///
/// Returns the first error of `check`, with a description of the crash.
pub(crate) fn crash_everywhere(
    recorder: &Recorder,
    limits: &Limits,
    check: Check<'_>,
) -> Result<Counts, String> {
    let mut run = Run::new(check, recorder.part_bytes_of_store());
    run.explore(
        &recorder.base(),
        &recorder.log(),
        &recorder.marks_of_base(),
        limits,
        0,
    )?;
    Ok(run.counts)
}

/// Makes every image of the recovery that was recorded on an image, and checks it.
///
/// # Errors
///
/// As for [`crash_everywhere`].
pub(crate) fn crash_again(
    recovered: &Recorder,
    limits: &Limits,
    check: Check<'_>,
) -> Result<Counts, String> {
    crash_everywhere(recovered, &limits.again(), check)
}

struct Run<'c> {
    check: Check<'c>,
    part_bytes: u64,
    seen: HashSet<(u128, Vec<u64>)>,
    counts: Counts,
}

impl<'c> Run<'c> {
    fn new(check: Check<'c>, part_bytes: u64) -> Self {
        Self {
            check,
            part_bytes,
            seen: HashSet::new(),
            counts: Counts::default(),
        }
    }

    fn explore(
        &mut self,
        base: &State,
        log: &[Op],
        marks: &[u64],
        limits: &Limits,
        depth: usize,
    ) -> Result<(), String> {
        each_image(base, log, limits, &mut |image| {
            self.counts.made += 1;
            if depth > 0 && self.counts.checked_again >= limits.again_max {
                return Ok(());
            }
            let marks: Vec<u64> = marks.iter().chain(image.marks).copied().collect();
            if !self.seen.insert((image.state.hash(), marks.clone())) {
                return Ok(());
            }
            if depth == 0 {
                self.counts.checked += 1;
            } else {
                self.counts.checked_again += 1;
            }
            let recorder = Recorder::of_image(image.state.found(), self.part_bytes, marks);
            let context = |error: String| format!("{error}\n  {}", image.describe());
            (self.check)(&recorder).map_err(context)?;
            self.again(&recorder, limits, depth).map_err(context)
        })
    }

    fn again(&mut self, recovered: &Recorder, limits: &Limits, depth: usize) -> Result<(), String> {
        let count = self.counts.checked + self.counts.checked_again;
        let log = recovered.log();
        if depth >= limits.depth
            || !count.is_multiple_of(limits.again_every.max(1))
            || self.counts.checked_again >= limits.again_max
            || !log.iter().any(Op::is_change)
        {
            return Ok(());
        }
        let (base, marks) = (recovered.base(), recovered.marks_of_base());
        self.explore(&base, &log, &marks, &limits.again(), depth + 1)
    }
}
