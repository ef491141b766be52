//! Counters of the snapshots (SIGUSR1).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::host::{Outcome, Persisted};

#[derive(Debug)]
pub(crate) struct Statistics {
    started: Instant,
    attempted: u64,
    succeeded: u64,
    failed: u64,
    starved: u64,
    pages: u64,
    bytes: u64,
    pause: Duration,
    max_pause: Duration,
    newest: Option<(Persisted, Instant)>,
}

impl Statistics {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            attempted: 0,
            succeeded: 0,
            failed: 0,
            starved: 0,
            pages: 0,
            bytes: 0,
            pause: Duration::ZERO,
            max_pause: Duration::ZERO,
            newest: None,
        }
    }

    pub(crate) fn add(&mut self, outcome: &anyhow::Result<Outcome>) {
        self.attempted += 1;
        match outcome {
            Err(_) => self.failed += 1,
            Ok(Outcome::Starved { .. }) => self.starved += 1,
            Ok(Outcome::Unchanged | Outcome::NoQueue | Outcome::CommandExited) => {}
            Ok(Outcome::Persisted(snapshot)) => {
                self.succeeded += 1;
                self.pages += snapshot.pages;
                self.bytes += snapshot.bytes;
                self.pause += snapshot.pause;
                self.max_pause = self.max_pause.max(snapshot.pause);
                self.newest = Some((snapshot.clone(), Instant::now()));
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        let newest = match &self.newest {
            Some((snapshot, time)) => {
                format!(
                    "generation {}, {:.1?} ago",
                    snapshot.generation,
                    time.elapsed()
                )
            }
            None => "none".to_owned(),
        };
        format!(
            "{} of {} snapshots succeeded in {:.1?}, {} failed, {} starved; {} pages, {} bytes written; \
             longest pause {:.3?}, all pauses {:.3?}; newest snapshot: {newest}",
            self.succeeded,
            self.attempted,
            self.started.elapsed(),
            self.failed,
            self.starved,
            self.pages,
            self.bytes,
            self.max_pause,
            self.pause,
        )
    }

    pub(crate) fn fields(&self) -> Value {
        let newest = self.newest.as_ref();
        json!({
            "attempted": self.attempted,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "starved": self.starved,
            "written_pages": self.pages,
            "written_bytes": self.bytes,
            "pause_seconds": self.pause.as_secs_f64(),
            "max_pause_seconds": self.max_pause.as_secs_f64(),
            "generation": newest.map(|(snapshot, _)| snapshot.generation),
            "duration_seconds": self.started.elapsed().as_secs_f64(),
        })
    }
}

impl Persisted {
    pub(crate) fn fields(&self) -> Value {
        json!({
            "generation": self.generation,
            "written_pages": self.pages,
            "written_bytes": self.bytes,
            "pause_seconds": self.pause.as_secs_f64(),
            "duration_seconds": self.duration.as_secs_f64(),
        })
    }
}
