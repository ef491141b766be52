//! Which heap holds the newest complete state: a decision about two headers, without I/O.

use std::fmt;

use super::format::{Copies, Defect, HeapName, Metadata};

/// What is known of a heap from its METADATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeapState {
    /// There are no files of it.
    Absent,
    /// A newer program wrote a copy, in this version.
    Newer(u32),
    /// No copy is valid.
    Damaged([Defect; 2]),
    /// Somebody was writing the generation it names.
    Taken(Metadata),
    /// It is complete.
    Released(Metadata),
}

/// Why the headers lead to no heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoHeap {
    /// Neither is complete.
    #[error("neither heap is complete: a {a}, b {b}")]
    NoneComplete {
        /// What is wrong with heap a.
        a: Unfit,
        /// What is wrong with heap b.
        b: Unfit,
    },
    /// A newer program wrote one of them.
    #[error("heap {heap} has version {found}, this program knows 1")]
    Version {
        /// Which heap.
        heap: HeapName,
        /// The version it names.
        found: u32,
    },
    /// They belong to different stores.
    #[error("the heaps are of different stores: one was copied here from elsewhere")]
    Strangers,
    /// Both claim to be the same generation.
    #[error("both heaps claim generation {generation}: one is a copy of the other")]
    Twins {
        /// That generation.
        generation: u64,
    },
    /// The header of one heap lies in the files of the other.
    #[error("the files of heap {heap} hold the other heap: they were renamed")]
    Swapped {
        /// Whose files.
        heap: HeapName,
    },
}

/// Why a heap is no candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Its files are not there.
    #[error("is not there")]
    Absent,
    /// Neither copy of METADATA is valid.
    #[error("has no valid METADATA ({first}; {second})")]
    Damaged {
        /// What is wrong with the first copy.
        first: Defect,
        /// And with the second.
        second: Defect,
    },
    /// A checkpoint into it was not finished.
    #[error("was being written (generation {generation})")]
    Taken {
        /// The generation that never was.
        generation: u64,
    },
}

/// In which order to try the heaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The newest complete one.
    pub first: Metadata,
    /// What is left if that does not hold what it promises.
    pub second: Option<Metadata>,
    /// Higher than every generation that a header names.
    pub next_generation: u64,
}

impl fmt::Display for HeapState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(version) => write!(f, "has version {version}"),
            Self::Released(metadata) => {
                write!(f, "is complete, generation {}", metadata.generation)
            }
            _ => self.unfit().fmt(f),
        }
    }
}

impl HeapState {
    pub(crate) fn of(copies: &Copies) -> Self {
        if let Some(version) = copies.newer_version() {
            return Self::Newer(version);
        }
        match copies.state() {
            Some(metadata) if metadata.released => Self::Released(metadata),
            Some(metadata) => Self::Taken(metadata),
            None => Self::Damaged(copies.0.map(|copy| match copy {
                Err(defect) => defect,
                Ok(_) => unreachable!("a valid copy is a state"),
            })),
        }
    }

    /// What its header says, if there is a valid one.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        match self {
            Self::Taken(metadata) | Self::Released(metadata) => Some(metadata),
            Self::Absent | Self::Damaged(_) | Self::Newer(_) => None,
        }
    }

    fn unfit(&self) -> Unfit {
        match *self {
            Self::Absent | Self::Newer(_) => Unfit::Absent,
            Self::Damaged([first, second]) => Unfit::Damaged { first, second },
            Self::Taken(Metadata { generation, .. })
            | Self::Released(Metadata { generation, .. }) => Unfit::Taken { generation },
        }
    }
}

/// Chooses by the headers alone; what they promise is verified afterwards.
///
/// | a | b | first | second |
/// | --- | --- | --- | --- |
/// | released g | released h < g | a | b |
/// | released | taken, damaged, absent | a | - |
/// | taken, damaged, absent | the same | error | |
///
/// and likewise with a and b exchanged. Headers that contradict each other are an error.
#[expect(
    clippy::result_large_err,
    reason = "asked once, when a store is opened"
)]
pub(crate) fn choose_heap(a: &HeapState, b: &HeapState) -> Result<Choice, NoHeap> {
    let both = [(HeapName::A, a), (HeapName::B, b)];
    for (heap, state) in both {
        if let HeapState::Newer(found) = *state {
            return Err(NoHeap::Version { heap, found });
        }
        if state.metadata().is_some_and(|found| found.heap != heap) {
            return Err(NoHeap::Swapped { heap });
        }
    }
    if let (Some(a), Some(b)) = (a.metadata(), b.metadata()) {
        if a.store != b.store {
            return Err(NoHeap::Strangers);
        }
        if a.generation == b.generation {
            let generation = a.generation;
            return Err(NoHeap::Twins { generation });
        }
    }
    let known = both.iter().filter_map(|(_, state)| state.metadata());
    let highest = known.map(|metadata| metadata.generation).max().unwrap_or(0);
    let (first, second) = match (a, b) {
        (HeapState::Released(a), HeapState::Released(b)) if a.generation > b.generation => {
            (*a, Some(*b))
        }
        (HeapState::Released(a), HeapState::Released(b)) => (*b, Some(*a)),
        (HeapState::Released(a), _) => (*a, None),
        (_, HeapState::Released(b)) => (*b, None),
        _ => {
            let (a, b) = (a.unfit(), b.unfit());
            return Err(NoHeap::NoneComplete { a, b });
        }
    };
    Ok(Choice {
        first,
        second,
        next_generation: highest.saturating_add(1),
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::format::tests::sample;
    use super::*;

    /// Every state a heap can be in, for the generations 5, 6 and 7.
    fn states(heap: HeapName) -> Vec<HeapState> {
        let mut all = vec![
            HeapState::Absent,
            HeapState::Damaged([Defect::Checksum, Defect::Blank]),
        ];
        for generation in [5, 6, 7] {
            let released = sample(heap, generation);
            all.push(HeapState::Released(released));
            all.push(HeapState::Taken(Metadata {
                released: false,
                ..released
            }));
        }
        all
    }

    #[test]
    fn every_pair_of_states_is_decided_as_the_table_says() {
        for a in states(HeapName::A) {
            for b in states(HeapName::B) {
                let chosen = choose_heap(&a, &b);
                let generation = |state: &HeapState| state.metadata().map(|found| found.generation);
                let complete = |state: &HeapState| match state {
                    HeapState::Released(metadata) => Some(*metadata),
                    _ => None,
                };
                let twins = generation(&a).is_some() && generation(&a) == generation(&b);
                if twins {
                    assert!(matches!(chosen, Err(NoHeap::Twins { .. })), "{a:?} {b:?}");
                    continue;
                }
                let mut candidates: Vec<_> =
                    [complete(&a), complete(&b)].into_iter().flatten().collect();
                candidates.sort_by_key(|found| std::cmp::Reverse(found.generation));
                match candidates[..] {
                    [] => assert!(matches!(chosen, Err(NoHeap::NoneComplete { .. }))),
                    [first, ref rest @ ..] => {
                        let chosen = chosen.expect("a candidate");
                        assert_eq!(chosen.first, first);
                        assert_eq!(chosen.second, rest.first().copied());
                        let highest = generation(&a).max(generation(&b)).expect("one");
                        assert_eq!(
                            chosen.next_generation,
                            highest + 1,
                            "h08: locked ones count"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn headers_that_contradict_each_other_are_errors_with_names() {
        let a = sample(HeapName::A, 5);
        let b = sample(HeapName::B, 6);
        #[expect(clippy::result_large_err, reason = "a test")]
        let chosen = |a, b| choose_heap(&HeapState::Released(a), &HeapState::Released(b));
        let stranger = Metadata {
            store: super::super::format::StoreId([1; 16]),
            ..b
        };
        assert_eq!(chosen(a, stranger), Err(NoHeap::Strangers));
        let other = Metadata {
            part_bytes: 2 << 20,
            ..b
        };
        // Their length is being changed.
        assert!(matches!(chosen(a, other), Ok(choice) if choice.first == other));
        let heap = HeapName::B;
        assert_eq!(
            chosen(a, sample(HeapName::A, 6)),
            Err(NoHeap::Swapped { heap })
        );
        let newer = HeapState::Newer(2);
        let found = 2;
        let error = choose_heap(&HeapState::Released(a), &newer);
        assert_eq!(error, Err(NoHeap::Version { heap, found }));
    }
}
