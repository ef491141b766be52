//! When the next child is killed.

use std::time::Duration;

use crate::phase::Phase;
use crate::random::Random;

/// Of 200 kills so many must hit each needed phase.
const NEEDED_OF_200: u64 = 10;
/// A random instant is this long behind the start at most: opening takes some of it.
const LIFE_MICROS: u64 = 400_000;
/// After the call that was aimed at.
const DELAY_MICROS: u64 = 300;
const LINGER_MICROS: u64 = 2_000;
/// When it must not be missed. The kill ends it.
const LINGER_LATE_MICROS: u64 = 50_000;
/// A call that does not come in this time is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// One kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) aim: Option<Aim>,
    /// Behind the call that is aimed at, or behind the start.
    pub(crate) delay: Duration,
}

/// A call of the store's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aim {
    pub(crate) phase: Phase,
    pub(crate) call: u64,
    /// The child does not make the call so long: the kill comes between two calls, and not in one.
    pub(crate) linger: Duration,
}

impl Plan {
    /// A third at random times, the others in one of the phases; in the end in those that lack kills.
    pub(crate) fn next(random: &mut Random, missing: &[(Phase, u64)], left: u64) -> Self {
        let lacking: u64 = missing.iter().map(|(_, kills)| kills).sum();
        let is_late = lacking > 0 && left <= lacking * 2;
        if !is_late && random.one_in(3) {
            return Self {
                aim: None,
                delay: micros(random.within(0..LIFE_MICROS)),
            };
        }
        let worst = missing.iter().max_by_key(|(_, kills)| kills);
        let phase = match worst {
            Some((phase, _)) if is_late || random.one_in(2) => *phase,
            _ => Phase::NEEDED[random.within(0..Phase::NEEDED.len() as u64) as usize],
        };
        let linger = match is_late {
            true => LINGER_LATE_MICROS,
            false if random.one_in(2) => LINGER_MICROS,
            false => 0,
        };
        let aim = Aim {
            phase,
            call: random.within(1..calls_max(phase) + 1),
            linger: micros(linger),
        };
        Self {
            aim: Some(aim),
            delay: micros(random.within(0..DELAY_MICROS)),
        }
    }

    /// It is killed then in any case.
    pub(crate) fn patience(&self) -> Duration {
        if self.aim.is_some() {
            PATIENCE
        } else {
            self.delay
        }
    }
}

/// How many kills each phase needs of so many.
pub(crate) fn needed(kills: u64) -> u64 {
    kills * NEEDED_OF_200 / 200
}

/// Two checkpoints have about so many calls of a phase.
fn calls_max(phase: Phase) -> u64 {
    match phase {
        Phase::Pages => 80,
        Phase::Restore => 40,
        _ => 12,
    }
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}
