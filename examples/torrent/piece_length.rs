//! The choice of a piece length: a power of two for 1000 to 2000 pieces, within the limits of
//! common clients.

use crate::parse_size::parse_size;

/// The shortest piece: the block that peers request from each other.
pub(crate) const PIECE_BYTES_MIN: u64 = 16 << 10;
/// The longest piece that is chosen automatically; users can request longer ones.
pub(crate) const PIECE_BYTES_CHOSEN_MAX: u64 = 16 << 20;
/// The longest piece that users can request.
pub(crate) const PIECE_BYTES_REQUESTED_MAX: u64 = 1 << 30;
const PIECES_TARGET: u64 = 2000;

/// A piece length and the reason for the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) piece_bytes: u64,
    pub(crate) reason: &'static str,
}

/// The shortest piece length that divides `total_bytes` into at most 2000 pieces.
pub(crate) fn choose(total_bytes: u64) -> Choice {
    let wanted = total_bytes
        .div_ceil(PIECES_TARGET)
        .checked_next_power_of_two()
        .unwrap_or(u64::MAX);
    let reason = if wanted < PIECE_BYTES_MIN {
        "the shortest supported one"
    } else if wanted > PIECE_BYTES_CHOSEN_MAX {
        "the longest automatic one"
    } else {
        "for 1000 to 2000 pieces"
    };
    Choice {
        piece_bytes: wanted.clamp(PIECE_BYTES_MIN, PIECE_BYTES_CHOSEN_MAX),
        reason,
    }
}

/// Parses a piece length given by the user.
pub(crate) fn parse_piece_length(text: &str) -> Result<u64, String> {
    let piece_bytes = parse_size(text)?;
    let fits = (PIECE_BYTES_MIN..=PIECE_BYTES_REQUESTED_MAX).contains(&piece_bytes);
    if fits && piece_bytes.is_power_of_two() {
        Ok(piece_bytes)
    } else {
        Err("a piece length must be a power of two from 16 KiB to 1 GiB".to_owned())
    }
}
