//! A bar on standard error with rate and time left. indicatif shows nothing unless that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

const TEMPLATE: &str =
    "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}";

/// A bar of bytes; it is cleared when dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new(what: &str, bytes: u64) -> Self {
        let style =
            ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(bytes).with_style(style);
        Self(bar.with_message(what.to_owned()))
    }

    pub(crate) fn set(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Something else from here on.
    pub(crate) fn restart(&self, what: String, bytes: u64) {
        self.0.set_length(bytes);
        self.0.set_message(what);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
