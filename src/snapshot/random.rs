//! Random numbers for the ids of stores and journal files.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

/// Returns a random word that is unique with high probability.
///
/// The keys of [`RandomState`] come from the system's random number generator and differ with every
/// call.
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

/// Returns a random store id.
pub(crate) fn id() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&word().to_le_bytes());
    bytes[8..].copy_from_slice(&word().to_le_bytes());
    bytes
}
