//! New versions of the stripes of a range that one thread owns.

use std::{collections::BTreeMap, ops::Range};

use super::{content::Content, model::Model};

/// Versions that one operation stores.
#[derive(Debug)]
pub(crate) struct Changes<'m> {
    model: &'m Model,
    number: u64,
    stripes: BTreeMap<usize, Content>,
    /// The end of the changed bytes in each stripe.
    ends: BTreeMap<usize, usize>,
}

impl<'m> Changes<'m> {
    pub(crate) fn new(model: &'m Model, number: u64) -> Self {
        Self {
            model,
            number,
            stripes: BTreeMap::new(),
            ends: BTreeMap::new(),
        }
    }

    /// Replaces a range of a group. Padding keeps its zeros. Of repeated bytes, the last count.
    pub(crate) fn replace(&mut self, group: usize, range: &Range<u64>, content: &Content) {
        let mut done = 0;
        for part in self.model.plans[group].parts(range) {
            let next = done + part.range.len();
            if let Some(stripe) = part.stripe {
                self.replace_in(stripe, &part.range, content.slice(done..next));
            }
            done = next;
        }
    }

    pub(crate) fn replace_in(&mut self, stripe: usize, range: &Range<usize>, content: Content) {
        let present = self.stripes.remove(&stripe);
        let present = present.unwrap_or_else(|| self.model.stripes[stripe].current());
        self.stripes.insert(stripe, present.with(range, content));
        let end = self.ends.entry(stripe).or_default();
        *end = range.end.max(*end);
    }

    /// From now on, reads may find the new versions.
    pub(crate) fn begin(&self) {
        for (stripe, content) in &self.stripes {
            self.model.stripes[*stripe].begin(self.number, content.clone());
        }
    }

    /// From now on, reads find the new versions.
    pub(crate) fn settle(&self) {
        for stripe in self.stripes.keys() {
            self.model.stripes[*stripe].settle(self.number);
        }
    }

    /// As [`settle`](Self::settle), for an operation that extends files to the ends of its bytes.
    pub(crate) fn settle_extended(&self) {
        for (stripe, end) in &self.ends {
            let stripe = &self.model.stripes[*stripe];
            let file = &self.model.files[stripe.file];
            file.note_reaches(stripe.start + *end as u64);
        }
        self.settle();
    }

    /// No read has found the new versions.
    pub(crate) fn withdraw(&self) {
        for stripe in self.stripes.keys() {
            self.model.stripes[*stripe].withdraw(self.number);
        }
    }
}
