//! A progress bar on standard error with rate and remaining time. indicatif draws it on terminals
//! only.

use indicatif::{ProgressBar, ProgressStyle};

const TEMPLATE: &str =
    "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}";

/// A bar that counts bytes; dropping it clears the line.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new(message: &str, total_bytes: u64) -> Self {
        let style = ProgressStyle::with_template(TEMPLATE)
            .unwrap_or_else(|_invalid| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total_bytes).with_style(style);
        Self(bar.with_message(message.to_owned()))
    }

    pub(crate) fn set(&self, done_bytes: u64) {
        self.0.set_position(done_bytes);
    }

    /// Starts the next phase with its own message and total.
    pub(crate) fn restart(&self, message: String, total_bytes: u64) {
        self.0.set_length(total_bytes);
        self.0.set_message(message);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
