//! What was done so far.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::keeper::{Outcome, Taken};

#[derive(Debug)]
pub(crate) struct Statistics {
    begun: Instant,
    tried: u64,
    taken: u64,
    failed: u64,
    starved: u64,
    pages: u64,
    bytes: u64,
    pause: Duration,
    pause_max: Duration,
    last: Option<(Taken, Instant)>,
}

impl Statistics {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            tried: 0,
            taken: 0,
            failed: 0,
            starved: 0,
            pages: 0,
            bytes: 0,
            pause: Duration::ZERO,
            pause_max: Duration::ZERO,
            last: None,
        }
    }

    pub(crate) fn add(&mut self, outcome: &anyhow::Result<Outcome>) {
        self.tried += 1;
        match outcome {
            Err(_) => self.failed += 1,
            Ok(Outcome::Starved { .. }) => self.starved += 1,
            Ok(Outcome::Nothing | Outcome::NoQueue | Outcome::Ended) => {}
            Ok(Outcome::Taken(taken)) => {
                self.taken += 1;
                self.pages += taken.pages;
                self.bytes += taken.bytes;
                self.pause += taken.pause;
                self.pause_max = self.pause_max.max(taken.pause);
                self.last = Some((taken.clone(), Instant::now()));
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        let last = self.last.as_ref().map_or_else(
            || "none yet".to_owned(),
            |(taken, at)| format!("generation {}, {:.1?} ago", taken.generation, at.elapsed()),
        );
        format!(
            "{} snapshots of {} tried in {:.1?}, {} failed, {} starved; {} pages, {} bytes written; pauses {:.3?} at most, \
             {:.3?} in all; the last: {last}",
            self.taken,
            self.tried,
            self.begun.elapsed(),
            self.failed,
            self.starved,
            self.pages,
            self.bytes,
            self.pause_max,
            self.pause,
        )
    }

    pub(crate) fn fields(&self) -> Value {
        json!({
            "tried": self.tried,
            "taken": self.taken,
            "failed": self.failed,
            "starved": self.starved,
            "pages": self.pages,
            "bytes": self.bytes,
            "pause_seconds": self.pause.as_secs_f64(),
            "pause_max_seconds": self.pause_max.as_secs_f64(),
            "generation": self.last.as_ref().map(|(taken, _)| taken.generation),
            "seconds": self.begun.elapsed().as_secs_f64(),
        })
    }
}

impl Taken {
    pub(crate) fn fields(&self) -> Value {
        json!({
            "generation": self.generation,
            "pages": self.pages,
            "bytes": self.bytes,
            "pause_seconds": self.pause.as_secs_f64(),
            "seconds": self.took.as_secs_f64(),
        })
    }
}
