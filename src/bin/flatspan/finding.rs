//! One result of `flatspan doctor`.

/// The effect of a finding on stores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    /// Stores work; the explanation names a restriction.
    Warning,
    /// Stores do not work, or lose a guarantee.
    Unavailable,
}

/// A property of the system and its meaning.
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) status: Status,
    pub(crate) explanation: String,
}

impl Finding {
    pub(crate) fn new(
        name: &'static str,
        value: impl Into<String>,
        status: Status,
        explanation: impl Into<String>,
    ) -> Self {
        Self {
            name,
            value: value.into(),
            status,
            explanation: explanation.into(),
        }
    }
}

impl Status {
    pub(crate) fn ok_if(is_ok: bool, otherwise: Self) -> Self {
        if is_ok { Self::Ok } else { otherwise }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Unavailable => "unavailable",
        }
    }
}
