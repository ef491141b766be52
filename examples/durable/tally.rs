//! Record of the reports of the children: acknowledged transactions, found state, first problem.

use crate::line::{Found, Line, Problem};
use crate::phase::Phase;
use crate::plan;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    kills: [u64; Phase::ALL.len()],
    /// The last transaction that was begun.
    pub(crate) begun: u64,
    /// The last transaction that was acknowledged or found.
    acknowledged: u64,
    /// The highest durable generation.
    generation: u64,
    pub(crate) transactions: u64,
    pub(crate) checkpoints: u64,
    pub(crate) replayed_records: u64,
    /// Duration of each opening of the store.
    pub(crate) open_us: Vec<u64>,
    /// The first problem.
    pub(crate) fault: Option<(Problem, String)>,
}

impl Tally {
    pub(crate) fn receive(&mut self, line: &Line) {
        match line {
            Line::Found(found) => self.found(found),
            Line::Begin(number) => self.begun = *number,
            Line::Done { number, generation } => {
                self.transactions += number - self.acknowledged.min(*number);
                self.acknowledged = *number;
                self.generation = self.generation.max(*generation);
            }
            Line::Checkpoint { generation } => {
                self.checkpoints += 1;
                self.generation = self.generation.max(*generation);
            }
            Line::Fault { kind, text } => self.wrong(*kind, text.clone()),
            Line::Fits | Line::At(_) => {}
        }
    }

    fn found(&mut self, found: &Found) {
        self.open_us.push(found.open_us);
        self.replayed_records += found.replayed_records;
        let Found {
            number, generation, ..
        } = *found;
        let (begun, acknowledged) = (self.begun, self.acknowledged);
        if number < acknowledged {
            let text = format!("{acknowledged} was acknowledged, {number} was found");
            self.wrong(Problem::Lost, text);
        }
        if number > begun {
            let text = format!("{begun} was begun, {number} was found");
            self.wrong(Problem::Unexpected, text);
        }
        if generation < self.generation {
            let text = format!(
                "found generation {generation} after generation {}",
                self.generation
            );
            self.wrong(Problem::GenerationRegressed, text);
        }
        // The found state is the start of the next run.
        self.begun = number;
        self.acknowledged = number;
        self.generation = generation;
    }

    pub(crate) fn wrong(&mut self, kind: Problem, text: String) {
        self.fault.get_or_insert((kind, text));
    }

    pub(crate) fn killed(&mut self, phase: Phase) {
        self.kills[phase as usize] += 1;
    }

    pub(crate) fn kills_in(&self, phase: Phase) -> u64 {
        self.kills[phase as usize]
    }

    pub(crate) fn kills(&self) -> u64 {
        self.kills.iter().sum()
    }

    /// Returns the phases that need more kills, and how many, for a total of `kills`.
    pub(crate) fn missing(&self, kills: u64) -> Vec<(Phase, u64)> {
        let lacks = |phase| plan::needed(kills).saturating_sub(self.kills_in(phase));
        let phases = Phase::NEEDED.into_iter().map(|phase| (phase, lacks(phase)));
        phases.filter(|(_, kills)| *kills > 0).collect()
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.fault.is_none() && self.missing(self.kills()).is_empty()
    }
}
