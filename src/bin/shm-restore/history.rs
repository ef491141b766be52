//! The snapshots before the newest one (`--keep`).

use std::time::Instant;

use flatspan::snapshot::{Kept, SnapshotError};
use serde_json::json;

use crate::cli::Cli;
use crate::events::Events;

/// Keeps states beside the newest one, as many as are asked for.
pub(crate) struct History {
    of_store: flatspan::snapshot::History,
    /// `None`: nothing is kept, and nothing removed.
    count: Option<usize>,
    events: Events,
    failed: Option<String>,
}

impl History {
    pub(crate) fn new(cli: &Cli, events: Events) -> Self {
        Self {
            of_store: flatspan::snapshot::History::of(&cli.store),
            count: cli.keep,
            events,
            failed: None,
        }
    }

    /// Behind a snapshot. That is durable whatever this comes to, which is told only.
    pub(crate) fn keep(&mut self) {
        let Some(count) = self.count else {
            return;
        };
        let begun = Instant::now();
        match self.add(count) {
            Ok((kept, removed)) => {
                self.failed = None;
                let names: Vec<_> = removed.iter().map(Kept::name).collect();
                let fields = json!({
                    "name": kept.map(|kept| kept.name()),
                    "removed": names,
                    "seconds": begun.elapsed().as_secs_f64(),
                });
                self.events.note("kept", fields);
            }
            Err(error) => {
                let text = format!("{:#}", anyhow::Error::from(error));
                let fields = json!({ "error": text });
                // The same again is told to programs only.
                match self.failed.replace(text.clone()).as_ref() == Some(&text) {
                    true => self.events.note("not_kept", fields),
                    false => {
                        let text =
                            format!("the snapshot is durable, but not in the history: {text}");
                        self.events.tell("not_kept", &text, fields);
                    }
                }
            }
        }
    }

    /// The oldest go behind: a failure in between leaves one more.
    fn add(&self, count: usize) -> Result<(Option<Kept>, Vec<Kept>), SnapshotError> {
        let kept = match count {
            0 => None,
            _ => Some(self.of_store.keep()?),
        };
        Ok((kept, self.of_store.prune(count)?))
    }
}
