//! Lengths of campaigns: tests that repeat a random or enumerated step many times.
//!
//! `FLATSPAN_CAMPAIGN=full` requests the full length; `.ci/run` sets it. Otherwise a campaign has a
//! tenth of it, so that `cargo test` takes minutes. A campaign with a variable of its own follows
//! that variable in either case.

use std::env;

/// Returns whether campaigns run at full length.
pub(crate) fn is_full() -> bool {
    env::var_os("FLATSPAN_CAMPAIGN").is_some_and(|length| length == "full")
}

/// Returns `full`, or a tenth of it without the variable, but at least 1.
pub(crate) fn scaled(full: u64) -> u64 {
    if is_full() { full } else { (full / 10).max(1) }
}

/// Returns 1, or `plain` without the variable: the distance between visited elements of an
/// enumeration.
pub(crate) fn step(plain: usize) -> usize {
    if is_full() { 1 } else { plain }
}

/// Returns the number in `variable`, or [`scaled`] `full` if it is not set.
///
/// # Panics
///
/// Panics if the variable is not a number.
pub(crate) fn count(variable: &str, full: u64) -> u64 {
    number(variable).unwrap_or_else(|| scaled(full))
}

/// Returns the number in `variable`, or `None` if it is not set.
///
/// # Panics
///
/// Panics if the variable is not a number.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}
