//! The errors that an operation may return. Any other error fails the test.

use std::io;

use flatspan::{mapping_cache::MappingError, span::GroupError};

/// Circumstances of an operation, each of which permits one error.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    /// A conflicting operation was active: `RangeLocked`.
    pub(crate) locked: bool,
    /// A file may end before the range: `FileTooShort`.
    pub(crate) short: bool,
    /// A file may be missing: `NotFound`.
    pub(crate) missing: bool,
    /// The budget may not be exceeded: `BudgetExhausted`.
    pub(crate) exhausted: bool,
    /// A window that must be unmapped may be pinned: `WindowPinned`.
    pub(crate) pinned: bool,
    /// Pages that are locked may be truncated and added again before the error is made: an I/O
    /// error of the kind `OutOfMemory`.
    pub(crate) lost: bool,
    /// The file may exist: an I/O error of the kind `AlreadyExists`.
    pub(crate) exists: bool,
}

impl Allowed {
    /// Returns the name of an error that the circumstances permit, and panics at any other.
    #[track_caller]
    pub(crate) fn check(self, operation: &str, error: &GroupError) -> &'static str {
        use MappingError as E;
        let GroupError::File(of_file) = error else {
            panic!("{operation}: {error:?}");
        };
        let (name, is_allowed) = match of_file {
            E::RangeLocked { .. } => ("RangeLocked", self.locked),
            E::FileTooShort { .. } => ("FileTooShort", self.short),
            E::NotFound { .. } => ("NotFound", self.missing),
            E::BudgetExhausted { .. } => ("BudgetExhausted", self.exhausted),
            E::WindowPinned { .. } => ("WindowPinned", self.pinned),
            E::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                ("AlreadyExists", self.exists)
            }
            E::Io { source, .. } if source.kind() == io::ErrorKind::OutOfMemory => {
                ("OutOfMemory", self.lost)
            }
            _ => ("an error", false),
        };
        assert!(
            is_allowed,
            "{operation}: {name} is not allowed by {self:?}: {error:?}"
        );
        name
    }
}
