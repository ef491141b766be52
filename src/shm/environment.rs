//! Variables of the environment, read as numbers and texts that may be anything.

use std::env;
use std::ffi::OsString;
use std::str::FromStr;

use super::error::ShmError;

/// Gives the value of a variable; as a parameter, so that tests need not change the environment.
pub(super) type Lookup<'l> = &'l dyn Fn(&'static str) -> Option<OsString>;

pub(super) fn of_process(name: &'static str) -> Option<OsString> {
    env::var_os(name)
}

/// `None` where it is not set.
pub(super) fn text(lookup: Lookup<'_>, name: &'static str) -> Result<Option<String>, ShmError> {
    let Some(value) = lookup(name) else {
        return Ok(None);
    };
    match value.into_string() {
        Ok(text) => Ok(Some(text)),
        Err(value) => Err(refuse(name, value, "it is not UTF-8")),
    }
}

/// `None` where it is not set.
pub(super) fn number<N: FromStr>(
    lookup: Lookup<'_>,
    name: &'static str,
    what: &str,
) -> Result<Option<N>, ShmError> {
    let Some(text) = text(lookup, name)? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(refuse(name, text, what)),
    }
}

pub(super) fn refuse(name: &'static str, value: impl Into<OsString>, reason: &str) -> ShmError {
    ShmError::Variable {
        name,
        value: value.into(),
        reason: reason.to_owned(),
    }
}
