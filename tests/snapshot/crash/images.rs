//! Derives the images of crashes from a log.

use super::{
    engine::Limits,
    model::{Model, Part, State},
    op::Op,
    tearing::torn,
};

/// State after one crash.
pub(crate) struct Image<'a> {
    pub(crate) state: State,
    /// Marks that were set before the crash.
    pub(crate) marks: &'a [u64],
    at: usize,
    model: &'a Model,
    choice: &'a [Part],
}

impl Image<'_> {
    /// Describes the position of the crash, and which pending operations survived.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("crash after {} operations; of those pending:", self.at);
        for (pending, part) in self.model.pending.iter().zip(self.choice) {
            text.extend(["\n    ", &pending.op.describe(), &format!(": {part:?}")]);
        }
        text
    }
}

type Visit<'v> = &'v mut dyn FnMut(Image<'_>) -> Result<(), String>;

/// Makes the images of a log one by one, until `visit` returns an error.
pub(crate) fn each_image(
    base: &State,
    log: &[Op],
    limits: &Limits,
    visit: Visit<'_>,
) -> Result<(), String> {
    let mut random = Random(limits.seed);
    let random_each = random_each(base, log, limits);
    let mut model = Model::new(base.clone());
    let mut marks = Vec::new();
    for at in 0..=log.len() {
        let done = at.checked_sub(1).map(|last| &log[last]);
        if let Some(op) = done {
            model.step(op);
        }
        if let Some(Op::Mark(mark)) = done {
            marks.push(*mark);
        }
        let mut maker = Maker {
            model: &model,
            marks: &marks,
            at,
            limits,
            visit: &mut *visit,
        };
        maker.all_and_nothing()?;
        match done {
            Some(op) if op.is_change() => {
                maker.subsets(true, random_each, &mut random)?;
                maker.torn()?;
                maker.lost_lengths()?;
            }
            // All subsets of the pending operations were made before, but not with this mark.
            Some(Op::Mark(_)) => maker.subsets(false, random_each, &mut random)?,
            _ => {}
        }
    }
    Ok(())
}

/// Returns the number of random subsets for each operation of a long epoch, so that the total is
/// about the requested one.
fn random_each(base: &State, log: &[Op], limits: &Limits) -> usize {
    let mut model = Model::new(base.clone());
    let mut places = 0;
    for op in log {
        model.step(op);
        places += usize::from(op.is_change() && model.pending.len() > limits.subsets_max);
    }
    limits.random_subsets.div_ceil(places.max(1))
}

struct Maker<'a, 'v> {
    model: &'a Model,
    marks: &'a [u64],
    at: usize,
    limits: &'a Limits,
    visit: Visit<'v>,
}

impl Maker<'_, '_> {
    fn make(&mut self, choice: &[Part]) -> Result<(), String> {
        let mut state = self.model.durable.clone();
        for (pending, part) in self.model.pending.iter().zip(choice) {
            state.apply_part(&pending.op, part);
        }
        (self.visit)(Image {
            state,
            marks: self.marks,
            at: self.at,
            model: self.model,
            choice,
        })
    }

    fn len(&self) -> usize {
        self.model.pending.len()
    }

    fn all(&self) -> Vec<Part> {
        vec![Part::All; self.len()]
    }

    /// Selects all directory operations and no file operation, so that a single torn write is
    /// visible.
    fn only_names(&self) -> Vec<Part> {
        let part = |op: &Op| match op.changed() {
            Some(_) => Part::Nothing,
            None => Part::All,
        };
        self.model
            .pending
            .iter()
            .map(|pending| part(&pending.op))
            .collect()
    }

    fn all_and_nothing(&mut self) -> Result<(), String> {
        self.make(&self.all())?;
        self.make(&vec![Part::Nothing; self.len()])
    }

    /// Makes subsets of the pending operations: all of them, or only those with the newest.
    fn subsets(
        &mut self,
        with_newest: bool,
        random_each: usize,
        random: &mut Random,
    ) -> Result<(), String> {
        let len = self.len();
        let free = len - usize::from(with_newest);
        let pick = |is_in: &dyn Fn(usize) -> bool| -> Vec<Part> {
            let part = |place| {
                if place >= free || is_in(place) {
                    Part::All
                } else {
                    Part::Nothing
                }
            };
            (0..len).map(part).collect()
        };
        if len <= self.limits.subsets_max {
            return (0..1_u32 << free)
                .try_for_each(|mask| self.make(&pick(&|at| mask >> at & 1 == 1)));
        }
        self.make(&pick(&|_| false))?;
        for one in 0..free {
            self.make(&pick(&|at| at == one))?;
            self.make(&pick(&|at| at != one))?;
        }
        for _ in 0..random_each {
            let words: Vec<u64> = (0..len.div_ceil(64)).map(|_| random.next()).collect();
            self.make(&pick(&|at| words[at / 64] >> (at % 64) & 1 == 1))?;
        }
        Ok(())
    }

    /// Makes images in which one of the last writes is torn.
    fn torn(&mut self) -> Result<(), String> {
        let writes = (0..self.len()).rev();
        let writes = writes.filter(|at| matches!(self.model.pending[*at].op, Op::Write(..)));
        for at in writes.take(self.limits.torn_writes).collect::<Vec<_>>() {
            let range = self.model.pending[at].op.range();
            let len = (range.end - range.start) as usize;
            for part in torn(range.start, len, self.limits.sectors_max) {
                for mut choice in [self.all(), self.only_names()] {
                    choice[at] = part.clone();
                    self.make(&choice)?;
                }
            }
        }
        Ok(())
    }

    /// Makes images for writes that extended their file: for each, the length without the bytes;
    /// for the newest, also the bytes without the length.
    fn lost_lengths(&mut self) -> Result<(), String> {
        for at in 0..self.len() {
            if !self.model.pending[at].extends {
                continue;
            }
            let range = self.model.pending[at].op.range();
            let only_len = Part::Torn(Vec::new(), (range.end - range.start) as usize);
            let parts = if at + 1 == self.len() {
                vec![only_len, Part::Bytes]
            } else {
                vec![only_len]
            };
            for part in parts {
                for mut choice in [self.all(), self.only_names()] {
                    choice[at] = part.clone();
                    self.make(&choice)?;
                }
            }
        }
        Ok(())
    }
}

/// `SplitMix64` generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
