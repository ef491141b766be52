//! What a torrent has that was ignored, and the first reason to refuse it.

use crate::metainfo_error::MetainfoError;

/// More warnings are only counted: a torrent can cause millions.
const WARNINGS_MAX: usize = 100;

/// The findings while a torrent is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    warnings: Vec<String>,
    omitted_warnings: usize,
    refusal: Option<MetainfoError>,
}

impl Findings {
    /// Adds a warning about a field and its position.
    pub(crate) fn warn(&mut self, field: &str, at: usize, what: &str) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(format!("{field} (byte {at}): {what}"));
        } else {
            self.omitted_warnings += 1;
        }
    }

    /// Keeps the first reason to refuse the torrent: later ones are often consequences of it.
    pub(crate) fn refuse(&mut self, reason: MetainfoError) {
        self.refusal.get_or_insert(reason);
    }

    /// Returns a value that could be read, and keeps the reason otherwise.
    pub(crate) fn keep<T>(&mut self, read: Result<T, MetainfoError>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(reason) => {
                self.refuse(reason);
                None
            }
        }
    }

    pub(crate) fn refusal(&self) -> Option<&MetainfoError> {
        self.refusal.as_ref()
    }

    /// The warnings, with the number of omitted ones as the last.
    pub(crate) fn into_warnings(self) -> Vec<String> {
        let mut warnings = self.warnings;
        if self.omitted_warnings > 0 {
            warnings.push(format!("{} more warnings", self.omitted_warnings));
        }
        warnings
    }
}
