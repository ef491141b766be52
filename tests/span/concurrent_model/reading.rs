//! Judgement of bytes that a read has returned while other threads write.
//!
//! Each stripe must have the bytes of a version that was current at some time during the read. All
//! stripes of one owner must be of one moment: if a version of an operation was read, no stripe may
//! have a version from before it.

use std::{collections::BTreeMap, ops::Range};

use super::{file::LengthMark, model::Model, plan::Part};

/// A read of a range that has begun.
#[derive(Debug)]
pub(crate) struct Reading<'m> {
    model: &'m Model,
    parts: Vec<(Part, Option<Before>)>,
    pub(crate) len: usize,
}

/// State of a stripe before the read.
#[derive(Debug)]
struct Before {
    stripe: usize,
    settled: u64,
    length: LengthMark,
}

/// Versions of one owner that were read: for each stripe its number.
type OfOwner = Vec<(usize, u64)>;

impl<'m> Reading<'m> {
    pub(crate) fn new(model: &'m Model, group: usize, range: &Range<u64>) -> Self {
        let parts = model.plans[group].parts(range);
        let before = |part: &Part| {
            let stripe = part.stripe?;
            let file = &model.files[model.stripes[stripe].file];
            Some(Before {
                stripe,
                settled: model.stripes[stripe].settled(),
                length: file.mark(),
            })
        };
        let parts = parts.into_iter().map(|part| {
            let before = before(&part);
            (part, before)
        });
        Self {
            model,
            parts: parts.collect(),
            len: (range.end - range.start) as usize,
        }
    }

    /// The bytes from the start of the range that certainly existed during the read.
    pub(crate) fn certain(&self) -> usize {
        let mut certain = 0;
        for (part, before) in &self.parts {
            let Some(before) = before else {
                certain += part.range.len();
                continue;
            };
            let stripe = &self.model.stripes[before.stripe];
            let length = self.model.files[stripe.file].certain_since(before.length);
            let start = stripe.start + part.range.start as u64;
            let exists = length.saturating_sub(start).min(part.range.len() as u64) as usize;
            certain += exists;
            if exists < part.range.len() {
                break;
            }
        }
        certain
    }

    pub(crate) fn may_be_short(&self) -> bool {
        self.certain() < self.len
    }

    pub(crate) fn may_be_missing(&self) -> bool {
        let mut stripes = self.parts.iter().filter_map(|(_, before)| before.as_ref());
        stripes.any(|before| !before.length.existed)
    }

    /// Checks the bytes of a read that has ended, from the start of the range. An atomic read has
    /// locked all of the range at once.
    #[track_caller]
    pub(crate) fn check(&self, what: &str, bytes: &[u8], is_atomic: bool) {
        let mut owners: BTreeMap<usize, OfOwner> = BTreeMap::new();
        let mut done = 0;
        for (part, before) in &self.parts {
            let len = part.range.len().min(bytes.len() - done);
            let read = &bytes[done..done + len];
            done += len;
            let Some(before) = before else {
                assert!(
                    read.iter().all(|byte| *byte == 0),
                    "{what}: padding is not zero"
                );
                continue;
            };
            let stripe = &self.model.stripes[before.stripe];
            if !is_atomic && stripe.may_be_mixed(before.settled, part.range.start, read) {
                continue;
            }
            let found = stripe.matching(before.settled, part.range.start, read);
            match found[..] {
                [] => panic!("{what}: {}", stripe.describe(part.range.start, read)),
                [only] if len > 0 => {
                    let of_owner = owners.entry(stripe.owner).or_default();
                    of_owner.push((before.stripe, only));
                }
                _ => {}
            }
        }
        if is_atomic {
            self.check_moment(what, &owners);
        }
    }

    /// Checks that the stripes of each owner are of one moment.
    #[track_caller]
    fn check_moment(&self, what: &str, owners: &BTreeMap<usize, OfOwner>) {
        for (owner, stripes) in owners {
            let newest = stripes.iter().map(|(_, number)| *number).max().unwrap_or(0);
            for (stripe, number) in stripes {
                let expected = self.model.stripes[*stripe].last_until(newest);
                assert!(
                    *number >= expected,
                    "{what}: torn: operation {newest} of thread {owner} was seen, but file {} byte \
                     {} is of operation {number} instead of {expected}",
                    self.model.stripes[*stripe].file,
                    self.model.stripes[*stripe].start,
                );
            }
        }
    }
}
