//! What was promised, what was found, and what is wrong with it.

use crate::line::{FaultFound, Found, Line};
use crate::phase::Phase;
use crate::plan;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    kills: [u64; Phase::ALL.len()],
    /// The last transaction that was begun.
    pub(crate) begun: u64,
    /// The last that was acknowledged, or found.
    acknowledged: u64,
    /// The highest generation that was durable.
    generation: u64,
    pub(crate) transactions: u64,
    pub(crate) checkpoints: u64,
    pub(crate) replayed_records: u64,
    /// Of each opening.
    pub(crate) open_micros: Vec<u64>,
    /// The first one.
    pub(crate) fault: Option<(FaultFound, String)>,
}

impl Tally {
    pub(crate) fn hear(&mut self, line: &Line) {
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
        self.open_micros.push(found.open_micros);
        self.replayed_records += found.replayed_records;
        let Found {
            number, generation, ..
        } = *found;
        let (begun, acknowledged) = (self.begun, self.acknowledged);
        if number < acknowledged {
            let text = format!("{acknowledged} was acknowledged, {number} was found");
            self.wrong(FaultFound::Lost, text);
        }
        if number > begun {
            let text = format!("{begun} was begun, {number} was found");
            self.wrong(FaultFound::Unbegun, text);
        }
        if generation < self.generation {
            let text = format!("generation {generation} behind {}", self.generation);
            self.wrong(FaultFound::Backward, text);
        }
        // From here on that is the state.
        self.begun = number;
        self.acknowledged = number;
        self.generation = generation;
    }

    pub(crate) fn wrong(&mut self, kind: FaultFound, text: String) {
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

    /// How many kills the needed phases lack, when there are to be so many.
    pub(crate) fn missing(&self, kills: u64) -> Vec<(Phase, u64)> {
        let lacks = |phase| plan::needed(kills).saturating_sub(self.kills_in(phase));
        let phases = Phase::NEEDED.into_iter().map(|phase| (phase, lacks(phase)));
        phases.filter(|(_, kills)| *kills > 0).collect()
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.fault.is_none() && self.missing(self.kills()).is_empty()
    }
}
