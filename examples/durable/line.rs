//! Messages of a child: one line per event, written by one system call. Every line that was written
//! before a kill is complete in the pipe.

use std::fmt;

use crate::phase::Phase;

/// Message of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The store is open; this is its state.
    Found(Found),
    /// The memory equals the model.
    Fits,
    /// This transaction begins.
    Begin(u64),
    /// All transactions up to this one are acknowledged, at this durable generation.
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
        kind: Problem,
        text: String,
    },
}

/// State of a store after it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The last transaction in the store.
    pub(crate) number: u64,
    pub(crate) generation: u64,
    pub(crate) replayed_records: u64,
    pub(crate) open_us: u64,
}

/// Kind of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Lost,
    Unexpected,
    Torn,
    GenerationRegressed,
    Fallback,
    OpenFailed,
    ChildExited,
}

impl Problem {
    pub(crate) const ALL: [Self; 7] = [
        Self::Lost,
        Self::Unexpected,
        Self::Torn,
        Self::GenerationRegressed,
        Self::Fallback,
        Self::OpenFailed,
        Self::ChildExited,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Unexpected => "unexpected",
            Self::Torn => "torn",
            Self::GenerationRegressed => "generation_regressed",
            Self::Fallback => "fallback",
            Self::OpenFailed => "open_failed",
            Self::ChildExited => "child_exited",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(found) => write!(
                f,
                "found {} {} {} {}",
                found.number, found.generation, found.replayed_records, found.open_us
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
    /// Parses a line; `None` if it is no valid message.
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
                let kind = Problem::ALL.into_iter().find(|kind| kind.name() == name)?;
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
        let [number, generation, replayed_records, open_us] = *numbers else {
            return None;
        };
        Some(Self {
            number,
            generation,
            replayed_records,
            open_us,
        })
    }
}
