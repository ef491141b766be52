//! Numbers of bytes on command lines.

/// A number, with K, M or G behind it or not.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) => (digits, &text[digits.len()..]),
        None => (text, ""),
    };
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => 0,
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is no number of bytes"))?;
    let bytes = number.checked_mul(1 << shift);
    bytes.ok_or_else(|| format!("`{text}` is too much"))
}
