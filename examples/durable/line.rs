//! What a child says: one line for each thing, written by one system call, so that whatever was said before a kill is
//! in the pipe, and whole.

use std::fmt;

use crate::phase::Phase;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The store is open, and this is the state.
    Found(Found),
    /// The memory was compared with the model, and fits.
    Fits,
    /// This transaction begins.
    Begin(u64),
    /// It was acknowledged, with all before it; the durable generation at that time.
    Done {
        number: u64,
        generation: u64,
    },
    /// A base checkpoint was acknowledged.
    Checkpoint {
        generation: u64,
    },
    /// The targeted call is about to be made.
    At(Phase),
    Fault {
        kind: FaultFound,
        text: String,
    },
}

/// What a store came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The last transaction that is in it.
    pub(crate) number: u64,
    pub(crate) generation: u64,
    pub(crate) replayed_records: u64,
    pub(crate) open_micros: u64,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultFound {
    Lost,
    Unbegun,
    Torn,
    Backward,
    Fallback,
    Refused,
    Ended,
}

impl FaultFound {
    pub(crate) const ALL: [Self; 7] = [
        Self::Lost,
        Self::Unbegun,
        Self::Torn,
        Self::Backward,
        Self::Fallback,
        Self::Refused,
        Self::Ended,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Unbegun => "unbegun",
            Self::Torn => "torn",
            Self::Backward => "backward",
            Self::Fallback => "fallback",
            Self::Refused => "refused",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(found) => write!(
                f,
                "found {} {} {} {}",
                found.number, found.generation, found.replayed_records, found.open_micros
            ),
            Self::Fits => write!(f, "fits"),
            Self::Begin(number) => write!(f, "begin {number}"),
            Self::Done { number, generation } => write!(f, "done {number} {generation}"),
            Self::Checkpoint { generation } => write!(f, "checkpoint {generation}"),
            Self::At(phase) => write!(f, "at {}", phase.name()),
            Self::Fault { kind, text } => {
                write!(f, "fault {} {}", kind.name(), text.replace('\n', " "))
            }
        }
    }
}

impl Line {
    /// `None` for what no child says.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let numbers =
            || -> Option<Vec<u64>> { rest.split(' ').map(|word| word.parse().ok()).collect() };
        Some(match verb {
            "found" => Self::Found(Found::parse(&numbers()?)?),
            "fits" => Self::Fits,
            "begin" => Self::Begin(rest.parse().ok()?),
            "done" => match numbers()?[..] {
                [number, generation] => Self::Done { number, generation },
                _ => return None,
            },
            "checkpoint" => Self::Checkpoint {
                generation: rest.parse().ok()?,
            },
            "at" => Self::At(Phase::ALL.into_iter().find(|phase| phase.name() == rest)?),
            "fault" => {
                let (name, text) = rest.split_once(' ')?;
                let kind = FaultFound::ALL
                    .into_iter()
                    .find(|kind| kind.name() == name)?;
                Self::Fault {
                    kind,
                    text: text.to_owned(),
                }
            }
            _ => return None,
        })
    }
}

impl Found {
    fn parse(numbers: &[u64]) -> Option<Self> {
        let [number, generation, replayed_records, open_micros] = *numbers else {
            return None;
        };
        Some(Self {
            number,
            generation,
            replayed_records,
            open_micros,
        })
    }
}
