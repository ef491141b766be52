//! Typed access to the fields of a bencode dictionary, with errors that name the field.

use crate::bencode::{Item, Value};
use crate::metainfo_error::{MetainfoError, Problem};

/// A dictionary, and its name in errors (empty for the outermost one).
pub(crate) struct Fields<'i, 'a> {
    name: String,
    at: usize,
    entries: &'i [(&'a [u8], Item<'a>)],
}

impl<'i, 'a> Fields<'i, 'a> {
    /// Returns the fields of `item`, which errors call `name`.
    pub(crate) fn of(item: &'i Item<'a>, name: String) -> Result<Self, MetainfoError> {
        match &item.value {
            Value::Dict(entries) => Ok(Fields {
                name,
                at: item.at,
                entries,
            }),
            other => {
                let field = if name.is_empty() {
                    "torrent".to_owned()
                } else {
                    name
                };
                Err(wrong_type(field, item.at, "a dictionary", other))
            }
        }
    }

    /// The first value of `key`.
    pub(crate) fn first(&self, key: &str) -> Option<&'i Item<'a>> {
        self.values(key).next()
    }

    /// The value of `key`. A repeated key is refused, because readers disagree on which value
    /// counts.
    pub(crate) fn optional(&self, key: &str) -> Result<Option<&'i Item<'a>>, MetainfoError> {
        let mut values = self.values(key);
        let value = values.next();
        match values.next() {
            Some(second) => Err(problem(self.name_of(key), second.at, Problem::Repeated)),
            None => Ok(value),
        }
    }

    pub(crate) fn required(&self, key: &str) -> Result<&'i Item<'a>, MetainfoError> {
        self.optional(key)?
            .ok_or_else(|| problem(self.name_of(key), self.at, Problem::Missing))
    }

    /// All keys and values, in the order of the input.
    pub(crate) fn entries(&self) -> &'i [(&'a [u8], Item<'a>)] {
        self.entries
    }

    fn values(&self, key: &str) -> impl Iterator<Item = &'i Item<'a>> {
        self.entries
            .iter()
            .filter(move |(name, _)| *name == key.as_bytes())
            .map(|(_, item)| item)
    }

    pub(crate) fn list(&self, key: &str) -> Result<&'i [Item<'a>], MetainfoError> {
        let item = self.required(key)?;
        match &item.value {
            Value::List(items) => Ok(items),
            other => Err(wrong_type(self.name_of(key), item.at, "a list", other)),
        }
    }

    pub(crate) fn bytes(&self, key: &str) -> Result<&'a [u8], MetainfoError> {
        bytes_of(self.required(key)?, || self.name_of(key))
    }

    pub(crate) fn unsigned(&self, key: &str) -> Result<u64, MetainfoError> {
        let item = self.required(key)?;
        match item.value {
            Value::Int(int) => u64::try_from(int)
                .ok()
                .ok_or_else(|| problem(self.name_of(key), item.at, Problem::Negative(int))),
            ref other => Err(wrong_type(self.name_of(key), item.at, "an integer", other)),
        }
    }

    /// An error about the field `key`, with its position.
    pub(crate) fn problem(&self, key: &str, what: Problem) -> MetainfoError {
        let at = self.first(key).map_or(self.at, |item| item.at);
        problem(self.name_of(key), at, what)
    }

    /// The full name of a field in errors.
    pub(crate) fn name_of(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }
}

/// An error about a field.
pub(crate) fn problem(field: String, at: usize, problem: Problem) -> MetainfoError {
    MetainfoError::Field { field, at, problem }
}

/// An error about the type of a field.
pub(crate) fn wrong_type(
    field: String,
    at: usize,
    expected: &'static str,
    found: &Value<'_>,
) -> MetainfoError {
    problem(
        field,
        at,
        Problem::WrongType {
            expected,
            found: found.kind(),
        },
    )
}

/// Returns the bytes of `item`, which must be a string.
pub(crate) fn bytes_of<'a>(
    item: &Item<'a>,
    name: impl FnOnce() -> String,
) -> Result<&'a [u8], MetainfoError> {
    match item.value {
        Value::Bytes(bytes) => Ok(bytes),
        ref other => Err(wrong_type(name(), item.at, "a string", other)),
    }
}
