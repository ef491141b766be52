//! Expected memory after a transaction: a pure function of the seed and the transaction number.
//!
//! The memory consists of units of 512 bytes. A written unit starts with the number of its
//! transaction and its own index; the rest follows from both. So a page of another transaction, or
//! of two, is detected. Every transaction writes unit 0.

use std::fmt;
use std::ops::Range;

use crate::random::Random;

pub(crate) const PAGE_BYTES: u64 = 4096;
pub(crate) const UNIT_BYTES: usize = 512;
const UNITS_IN_PAGE: u64 = PAGE_BYTES / UNIT_BYTES as u64;
/// Limits of the region length.
pub(crate) const PAGES_MIN: u64 = 256;
pub(crate) const PAGES_MAX: u64 = 1024;

/// Step of a transaction; ranges are in units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Write(Range<u64>),
    Discard(Range<u64>),
    /// New length in pages.
    Resize(u64),
}

/// State after a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    seed: u64,
    /// The last transaction.
    pub(crate) number: u64,
    /// Transaction that wrote each unit last; 0 if the unit is zero.
    writers: Vec<u64>,
}

/// Difference between memory and model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    Length {
        found: u64,
        expected: u64,
    },
    Unit {
        unit: u64,
        found: u64,
        expected: u64,
        differing: u64,
    },
}

impl Model {
    /// Creates the state after transaction `number`; 0 is a new store.
    pub(crate) fn at(seed: u64, number: u64) -> Self {
        let mut model = Self {
            seed,
            number: 0,
            writers: vec![0; (PAGES_MIN * UNITS_IN_PAGE) as usize],
        };
        while model.number < number {
            model.step();
        }
        model
    }

    /// Advances by one transaction and returns its steps in order.
    pub(crate) fn step(&mut self) -> Vec<Step> {
        self.number += 1;
        let mut random = Random::of(&[self.seed, self.number]);
        let mut steps = Vec::new();
        for _ in 0..random.within(1..5) {
            let step = self.random_step(&mut random);
            self.apply(&step);
            steps.push(step);
        }
        let last = Step::Write(0..1);
        self.apply(&last);
        steps.push(last);
        steps
    }

    fn random_step(&self, random: &mut Random) -> Step {
        let units = self.writers.len() as u64;
        let mut run = |units_max: u64| {
            let start = random.within(1..units);
            start..units.min(start + random.within(1..units_max + 1))
        };
        let (written, discarded) = (run(64), run(256));
        match random.within(0..12) {
            0 => Step::Resize(random.within(PAGES_MIN..PAGES_MAX + 1)),
            1 | 2 => Step::Discard(discarded),
            _ => Step::Write(written),
        }
    }

    fn apply(&mut self, step: &Step) {
        let (range, writer) = match step {
            Step::Write(range) => (range, self.number),
            Step::Discard(range) => (range, 0),
            Step::Resize(pages) => {
                self.writers.resize((pages * UNITS_IN_PAGE) as usize, 0);
                return;
            }
        };
        self.writers[range.start as usize..range.end as usize].fill(writer);
    }

    /// Compares memory with the model.
    pub(crate) fn check(&self, memory: &[u8]) -> Result<(), Mismatch> {
        let (found, expected) = (
            memory.len() as u64,
            (self.writers.len() * UNIT_BYTES) as u64,
        );
        if found != expected {
            return Err(Mismatch::Length { found, expected });
        }
        let units = memory.chunks_exact(UNIT_BYTES).zip(&self.writers);
        let mut differing = (0..).zip(units).filter(|(unit, (bytes, writer))| {
            **bytes != unit_bytes(self.seed, **writer, *unit)[..]
        });
        let Some((unit, (bytes, expected))) = differing.next() else {
            return Ok(());
        };
        Err(Mismatch::Unit {
            unit,
            found: number_in(bytes),
            expected: *expected,
            differing: 1 + differing.count() as u64,
        })
    }
}

/// Returns the transaction number that is stored in a unit.
pub(crate) fn number_in(unit: &[u8]) -> u64 {
    let first = unit.first_chunk();
    first.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Returns the bytes that a transaction writes to a unit; zeros for number 0.
pub(crate) fn unit_bytes(seed: u64, number: u64, unit: u64) -> [u8; UNIT_BYTES] {
    let mut bytes = [0; UNIT_BYTES];
    if number == 0 {
        return bytes;
    }
    let mut random = Random::of(&[seed, number, unit]);
    let words = [number, unit]
        .into_iter()
        .chain(std::iter::repeat_with(|| random.word()));
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Fills all units of a range.
pub(crate) fn fill(seed: u64, number: u64, units: Range<u64>, memory: &mut [u8]) {
    for (unit, place) in units.zip(memory.chunks_exact_mut(UNIT_BYTES)) {
        place.copy_from_slice(&unit_bytes(seed, number, unit));
    }
}

/// Returns the byte range of a range of units.
pub(crate) fn bytes_of(units: &Range<u64>) -> Range<u64> {
    units.start * UNIT_BYTES as u64..units.end * UNIT_BYTES as u64
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found, expected } => write!(f, "{found} bytes instead of {expected}"),
            Self::Unit {
                unit,
                found,
                expected,
                differing,
            } => write!(
                f,
                "{differing} units differ; the first is {unit} (page {}): transaction {found} where {expected} wrote last",
                unit / UNITS_IN_PAGE
            ),
        }
    }
}
