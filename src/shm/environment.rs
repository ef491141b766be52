//! Environment variables as numbers and texts. Their values are untrusted.

use std::env;
use std::ffi::OsString;
use std::str::FromStr;

use super::error::ShmError;

/// Lookup of a variable. Tests pass their own instead of changing the environment.
pub(super) type Lookup<'l> = &'l dyn Fn(&'static str) -> Option<OsString>;

pub(super) fn of_process(name: &'static str) -> Option<OsString> {
    env::var_os(name)
}

/// The value of a variable, `None` if it is not set.
pub(super) fn text(lookup: Lookup<'_>, name: &'static str) -> Result<Option<String>, ShmError> {
    let Some(value) = lookup(name) else {
        return Ok(None);
    };
    match value.into_string() {
        Ok(text) => Ok(Some(text)),
        Err(value) => Err(refuse(name, value, "it is not UTF-8")),
    }
}

/// The value of a variable as a number, `None` if it is not set. `reason` is the reason in the
/// error for a value that cannot be parsed.
pub(super) fn number<N: FromStr>(
    lookup: Lookup<'_>,
    name: &'static str,
    reason: &str,
) -> Result<Option<N>, ShmError> {
    let Some(text) = text(lookup, name)? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(refuse(name, text, reason)),
    }
}

pub(super) fn refuse(name: &'static str, value: impl Into<OsString>, reason: &str) -> ShmError {
    ShmError::InvalidVariable {
        name,
        value: value.into(),
        reason: reason.to_owned(),
    }
}
