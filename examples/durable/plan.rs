//! Plan of the next kill.

use std::time::Duration;

use crate::phase::Phase;
use crate::random::Random;

/// Of 200 kills, each needed phase must be hit this many times.
const NEEDED_OF_200: u64 = 10;
/// Upper limit of a random kill time after the start; opening the store takes part of it.
const LIFE_MICROS: u64 = 400_000;
/// Upper limit of the delay after the targeted call.
const DELAY_MICROS: u64 = 300;
const LINGER_MICROS: u64 = 2_000;
/// Used if a needed phase must not be missed. The kill ends the wait.
const LINGER_LATE_MICROS: u64 = 50_000;
/// Limit for waiting for the targeted call.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One planned kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) aim: Option<Aim>,
    /// Delay after the targeted call, or after the start.
    pub(crate) delay: Duration,
}

/// Backend call at which the child is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aim {
    pub(crate) phase: Phase,
    pub(crate) call: u64,
    /// The child delays the call by this time, so that the kill hits between two calls.
    pub(crate) linger: Duration,
}

impl Plan {
    /// Plans one third of the kills at random times and the others in one of the phases. Near the
    /// end it targets the phases that still need kills.
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

    /// Returns the time after which the child is killed in any case.
    pub(crate) fn timeout(&self) -> Duration {
        if self.aim.is_some() {
            TIMEOUT
        } else {
            self.delay
        }
    }
}

/// Returns the number of kills that each needed phase requires.
pub(crate) fn needed(kills: u64) -> u64 {
    kills * NEEDED_OF_200 / 200
}

/// Returns the approximate number of calls of a phase during two checkpoints.
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
