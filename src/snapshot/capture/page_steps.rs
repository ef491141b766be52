//! Division of runs of pages into steps that are copied and written together.

use std::ops::Range;

/// Pages of one step.
const STEP_PAGES: u64 = 256;

/// Iterator over steps of at most [`STEP_PAGES`] pages.
pub(super) struct PageSteps<I> {
    runs: I,
    rest: Range<u64>,
}

impl<I: Iterator<Item = Range<u64>>> PageSteps<I> {
    pub(super) fn new(runs: I) -> Self {
        Self { runs, rest: 0..0 }
    }
}

impl<I: Iterator<Item = Range<u64>>> Iterator for PageSteps<I> {
    type Item = Vec<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut step = Vec::new();
        let mut missing = STEP_PAGES;
        while missing > 0 {
            if self.rest.is_empty() {
                match self.runs.next() {
                    Some(run) => self.rest = run,
                    None => break,
                }
            }
            let end = self.rest.end.min(self.rest.start + missing);
            missing -= end - self.rest.start;
            step.push(self.rest.start..end);
            self.rest.start = end;
        }
        (!step.is_empty()).then_some(step)
    }
}
