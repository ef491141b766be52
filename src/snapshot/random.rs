//! Random numbers for names: ids of stores and of journals.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A word that nobody has had before, as good as certain: the standard library's keys come from the system's
/// generator, and differ with every call.
pub(crate) fn word() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u128(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.as_nanos()),
    );
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// As many bytes as an id of a store has.
pub(crate) fn id() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&word().to_le_bytes());
    bytes[8..].copy_from_slice(&word().to_le_bytes());
    bytes
}
