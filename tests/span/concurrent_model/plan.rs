//! The entries of a group, and the stripes and padding at each offset of it.

use std::ops::Range;

use super::stripe::Stripe;

/// An entry of a group.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) len: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A whole file, by its path or by that of a hard link.
    File {
        file: usize,
        path: String,
    },
    /// A range of a file that starts at this offset.
    Range {
        file: usize,
        from: u64,
    },
    Padding,
}

/// A stripe, or padding, at an offset of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) start: u64,
    pub(crate) len: usize,
    /// `None` for padding.
    pub(crate) stripe: Option<usize>,
    pub(crate) entry: usize,
}

/// Part of a unit.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) stripe: Option<usize>,
    pub(crate) entry: usize,
    /// Range in the stripe.
    pub(crate) range: Range<usize>,
}

/// Entries and units of a group, in order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) entries: Vec<Entry>,
    pub(crate) units: Vec<Unit>,
    pub(crate) len: u64,
}

impl Plan {
    /// Adds an entry of these stripes, or of padding.
    pub(crate) fn add(&mut self, kind: Kind, stripes: &[usize], all: &[Stripe], padding: u64) {
        let (start, entry) = (self.len, self.entries.len());
        for stripe in stripes {
            let len = all[*stripe].len;
            self.add_unit(Some(*stripe), len, entry);
        }
        if padding > 0 {
            self.add_unit(None, padding as usize, entry);
        }
        let len = self.len - start;
        self.entries.push(Entry { kind, len });
    }

    fn add_unit(&mut self, stripe: Option<usize>, len: usize, entry: usize) {
        self.units.push(Unit {
            start: self.len,
            len,
            stripe,
            entry,
        });
        self.len += len as u64;
    }

    /// Adds a stripe to the last entry.
    pub(crate) fn grow_last(&mut self, stripe: usize, len: usize) {
        let entry = self.entries.len() - 1;
        self.add_unit(Some(stripe), len, entry);
        self.entries[entry].len += len as u64;
    }

    /// The parts of a range, in order.
    pub(crate) fn parts(&self, range: &Range<u64>) -> Vec<Part> {
        let first = self
            .units
            .partition_point(|unit| unit.start + unit.len as u64 <= range.start);
        let units = self.units[first..].iter();
        let units = units.take_while(|unit| unit.start < range.end);
        units
            .map(|unit| {
                let from = range.start.max(unit.start) - unit.start;
                let to = (range.end - unit.start).min(unit.len as u64);
                Part {
                    stripe: unit.stripe,
                    entry: unit.entry,
                    range: from as usize..to as usize,
                }
            })
            .filter(|part| !part.range.is_empty())
            .collect()
    }

    /// The entry that is all of a file.
    pub(crate) fn whole_entry(&self, wanted: usize) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| matches!(&entry.kind, Kind::File { file, .. } if *file == wanted))
    }
}
