//! Processes that use a descriptor, for the program `shm-restore`. No stable interface.

pub use super::process_id::ProcessId;
pub use super::process_users::{
    Descendant, adopt_orphans, descendants_with, reap_orphans, users_of,
};
pub use crate::sys::fatal_signals::FAULT_SIGNALS;
