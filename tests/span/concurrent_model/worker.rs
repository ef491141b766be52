//! One thread of a round: it chooses operations and ranges.

use std::{collections::BTreeMap, fs::File, ops::Range, sync::Arc};

use flatspan::span::{Group, GroupError};
use tokio::runtime::{Builder, Runtime};

use super::{
    activity::{Active, Use},
    allowed::Allowed,
    kept::Kept,
    model::Model,
    reading::Reading,
    sockets::Sockets,
};
use crate::content::Rng;

/// Counts of operations and of their errors, by name.
pub(crate) type Tally = BTreeMap<String, u64>;

/// A group that is open during a round.
#[derive(Clone, Debug)]
pub(crate) struct OpenGroup {
    /// Number of its plan.
    pub(crate) number: usize,
    pub(crate) group: Arc<Group>,
    /// Whether its cache refuses to exceed the budget.
    pub(crate) may_exhaust: bool,
}

#[derive(Debug)]
pub(crate) struct Worker<'m> {
    pub(crate) model: &'m Model,
    pub(crate) groups: Vec<OpenGroup>,
    /// Number of the thread.
    pub(crate) me: usize,
    pub(crate) rng: Rng,
    pub(crate) kept: Vec<Kept<'m>>,
    /// A file to send spans to, and to receive them from.
    pub(crate) scratch: File,
    pub(crate) sockets: Option<Sockets>,
    pub(crate) runtime: Runtime,
    pub(crate) tally: Tally,
}

const KEPT_MAX: usize = 4;

impl<'m> Worker<'m> {
    pub(crate) fn new(model: &'m Model, groups: Vec<OpenGroup>, me: usize, rng: Rng) -> Self {
        Self {
            model,
            groups,
            me,
            rng,
            kept: Vec::new(),
            scratch: tempfile::tempfile().expect("a file"),
            sockets: None,
            runtime: Builder::new_current_thread().build().expect("a runtime"),
            tally: Tally::new(),
        }
    }

    pub(crate) fn work(mut self, operations: u64) -> Tally {
        for _ in 0..operations {
            self.one();
        }
        self.drop_kept();
        self.tally
    }

    fn one(&mut self) {
        let open = self.groups[self.rng.below(self.groups.len() as u64) as usize].clone();
        match self.rng.below(1000) {
            0..200 => self.read(&open),
            200..230 => self.read_by_cursor(&open),
            230..420 => self.write(&open),
            420..490 => self.keep_span(&open),
            490..570 => self.keep_span_mut(&open),
            570..670 => self.use_kept(),
            670..720 => self.drop_one_kept(),
            720..770 => self.clone_range(&open),
            770..800 => self.discard(&open),
            800..840 => self.set_file_len(&open),
            840..870 => self.hash(&open),
            870..900 => self.send(&open),
            _ => self.hint(&open),
        }
        while self.kept.len() > KEPT_MAX {
            self.drop_one_kept();
        }
    }

    fn drop_one_kept(&mut self) {
        if !self.kept.is_empty() {
            let which = self.rng.below(self.kept.len() as u64) as usize;
            self.kept.swap_remove(which).end();
        }
    }

    pub(crate) fn drop_kept(&mut self) {
        while !self.kept.is_empty() {
            self.drop_one_kept();
        }
    }

    pub(crate) fn count(&mut self, name: &str) {
        *self.tally.entry(name.to_owned()).or_default() += 1;
    }

    /// Checks that an error is allowed, and counts it.
    #[track_caller]
    pub(crate) fn refused(&mut self, operation: &str, allowed: Allowed, error: &GroupError) {
        let name = allowed.check(operation, error);
        self.count(&format!("{operation}: {name}"));
    }

    /// A range of a group, often near the end of a unit.
    pub(crate) fn any_range(&mut self, open: &OpenGroup) -> Range<u64> {
        let plan = &self.model.plans[open.number];
        let len = match self.rng.below(20) {
            0 => 0,
            1..6 => self.rng.below(64),
            6..13 => self.rng.below(5000),
            13..19 => self.rng.below(20_000),
            _ => self.rng.below(100_000),
        };
        let at = if self.rng.percent(60) {
            let unit = self.rng.below(plan.units.len() as u64) as usize;
            let before = self.rng.below(len + 1);
            plan.units[unit].start.saturating_sub(before)
        } else {
            self.rng.below(plan.len)
        };
        at..(at + len).min(plan.len)
    }

    /// A range of stripes of this thread that is not empty, perhaps with padding.
    pub(crate) fn own_range(&mut self, open: &OpenGroup, padding: bool) -> Option<Range<u64>> {
        let model = self.model;
        let units = &model.plans[open.number].units;
        let mine = |unit: usize| match units[unit].stripe {
            Some(stripe) => model.stripes[stripe].owner == self.me,
            None => padding,
        };
        let from = self.rng.below(units.len() as u64) as usize;
        let is_stripe = |unit: &usize| units[*unit].stripe.is_some() && mine(*unit);
        let first = (from..units.len()).chain(0..from).find(is_stripe)?;
        let wanted = [1, 1, 2, 4, 12][self.rng.below(5) as usize];
        let mut last = first;
        while last + 1 < units.len() && last + 1 < first + wanted && mine(last + 1) {
            last += 1;
        }
        let (start, end) = (
            units[first].start,
            units[last].start + units[last].len as u64,
        );
        if self.rng.percent(50) {
            return Some(start..end);
        }
        let from = start + self.rng.below(end - start);
        Some(from..from + 1 + self.rng.below(end - from))
    }

    /// Marks an operation on a range as active.
    pub(crate) fn active(&self, kind: Use, open: &OpenGroup, range: &Range<u64>) -> Active<'m> {
        let files = self.model.files_of(open.number, range);
        let model = self.model;
        Active::new(
            kind,
            files.into_iter().map(|file| &model.files[file].activity),
        )
    }

    pub(crate) fn reading(&self, open: &OpenGroup, range: &Range<u64>) -> Reading<'m> {
        Reading::new(self.model, open.number, range)
    }

    /// Files of the range exist, since an operation has opened them for writing.
    pub(crate) fn note_exist(&self, open: &OpenGroup, range: &Range<u64>) {
        for file in self.model.files_of(open.number, range) {
            self.model.files[file].note_exists();
        }
    }
}
