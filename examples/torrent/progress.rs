//! A progress bar on standard error with rate and remaining time. indicatif hides it unless that is
//! a terminal.

use std::sync::atomic::{AtomicU64, Ordering};

use flatspan::span::HashProgress;
use indicatif::{ProgressBar, ProgressStyle};

const TEMPLATE: &str =
    "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}";

/// The bar of one torrent; it is cleared on drop.
pub(crate) struct Bar {
    bar: ProgressBar,
    furthest_bytes: AtomicU64,
}

impl Bar {
    pub(crate) fn new(name: &str, bytes: u64) -> Self {
        let style =
            ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(bytes)
            .with_style(style)
            .with_message(name.to_owned());
        Self {
            bar,
            furthest_bytes: AtomicU64::new(0),
        }
    }

    /// Called by all threads. A delayed report does not move the bar back.
    pub(crate) fn advance(&self, progress: HashProgress) {
        let before = self
            .furthest_bytes
            .fetch_max(progress.bytes_done, Ordering::Relaxed);
        if progress.bytes_done > before {
            self.bar.set_position(progress.bytes_done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
