//! The choice of a piece length, and names for the terminal.

use crate::paths::printable;
use crate::piece_length::{PIECE_BYTES_CHOSEN_MAX, PIECE_BYTES_MIN, choose, parse_piece_length};

#[test]
fn the_chosen_length_gives_1000_to_2000_pieces() {
    for shift in 25..35 {
        for total_bytes in [1u64 << shift, (1 << shift) + 1, 3 << (shift - 1)] {
            let choice = choose(total_bytes);
            let pieces = total_bytes.div_ceil(choice.piece_bytes);
            assert!(
                (1000..=2000).contains(&pieces),
                "{total_bytes}: {pieces} pieces"
            );
            assert!(choice.piece_bytes.is_power_of_two());
            assert_eq!(choice.reason, "for 1000 to 2000 pieces");
        }
    }
}

#[test]
fn the_chosen_length_is_bounded_for_tiny_and_huge_content() {
    assert_eq!(choose(0).piece_bytes, PIECE_BYTES_MIN);
    assert_eq!(choose(1).piece_bytes, PIECE_BYTES_MIN);
    assert_eq!(choose(1 << 50).piece_bytes, PIECE_BYTES_CHOSEN_MAX);
    assert_eq!(choose(u64::MAX).piece_bytes, PIECE_BYTES_CHOSEN_MAX);
}

#[test]
fn piece_lengths_are_powers_of_two_from_16_kib_to_1_gib() {
    for (text, bytes) in [("16384", 16 << 10), ("256K", 256 << 10), ("1G", 1 << 30)] {
        assert_eq!(parse_piece_length(text), Ok(bytes));
    }
    for text in ["0", "8K", "100000", "2G", "much"] {
        assert!(parse_piece_length(text).is_err(), "{text}");
    }
}

#[test]
fn control_characters_in_names_are_escaped() {
    assert_eq!(
        printable("ä b\u{1b}[2Jc\n\u{202e}"),
        "ä b\\u{1b}[2Jc\\n\\u{202e}"
    );
}
