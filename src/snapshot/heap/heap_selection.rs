//! Selection of the heap with the newest complete state, by the headers of both heaps and without
//! I/O.

use std::fmt;

use crate::numbers::Generation;
use crate::snapshot::error::{HeapSelectionError, HeapUnusable};
use crate::snapshot::format::{Copies, HeaderError, HeapName, Metadata};

/// State of a heap, as recorded in its METADATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "programs print every state")]
pub enum HeapState {
    /// The heap has no files.
    Missing,
    /// A newer program wrote a copy of METADATA with this format version.
    UnsupportedVersion(u32),
    /// No copy of METADATA is valid.
    Corrupt([HeaderError; 2]),
    /// A checkpoint of the recorded generation was not completed.
    Incomplete(Metadata),
    /// The heap is complete.
    Complete(Metadata),
}

/// Heaps to restore from, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapSelection {
    /// Newest complete heap.
    pub primary: Metadata,
    /// Complete heap to use if the first one is corrupt.
    pub fallback: Option<Metadata>,
    /// Generation above every generation in a header.
    pub next_generation: Generation,
}

impl fmt::Display for HeapState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedVersion(version) => write!(f, "has version {version}"),
            Self::Complete(metadata) => {
                write!(f, "is complete, generation {}", metadata.generation)
            }
            _ => self.unusable().fmt(f),
        }
    }
}

impl HeapState {
    /// Returns the state that the copies of METADATA record.
    pub(crate) fn of(copies: &Copies) -> Self {
        if let Some(version) = copies.newer_version() {
            return Self::UnsupportedVersion(version);
        }
        match copies.state() {
            Some(metadata) if metadata.complete => Self::Complete(metadata),
            Some(metadata) => Self::Incomplete(metadata),
            None => Self::Corrupt(copies.0.map(|copy| match copy {
                Err(defect) => defect,
                Ok(_) => unreachable!("a valid copy is a state"),
            })),
        }
    }

    /// Returns the valid METADATA of the heap, if it has a valid copy.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        match self {
            Self::Incomplete(metadata) | Self::Complete(metadata) => Some(metadata),
            Self::Missing | Self::Corrupt(_) | Self::UnsupportedVersion(_) => None,
        }
    }

    fn unusable(&self) -> HeapUnusable {
        match *self {
            Self::Missing | Self::UnsupportedVersion(_) => HeapUnusable::Missing,
            Self::Corrupt([first, second]) => HeapUnusable::Corrupt { first, second },
            Self::Incomplete(Metadata { generation, .. })
            | Self::Complete(Metadata { generation, .. }) => {
                HeapUnusable::Incomplete { generation }
            }
        }
    }
}

/// Selects the heap to restore from by the headers alone. The content is verified afterwards.
///
/// | a | b | primary | fallback |
/// | --- | --- | --- | --- |
/// | complete, generation g | complete, generation h < g | a | b |
/// | complete | incomplete, corrupt, missing | a | - |
/// | incomplete, corrupt, missing | incomplete, corrupt, missing | error | |
///
/// The table holds with a and b exchanged, too. Contradictory headers are an error.
#[expect(
    clippy::result_large_err,
    reason = "called once, when a store is opened"
)]
pub(crate) fn choose_heap(
    a: &HeapState,
    b: &HeapState,
) -> Result<HeapSelection, HeapSelectionError> {
    let both = [(HeapName::A, a), (HeapName::B, b)];
    for (heap, state) in both {
        if let HeapState::UnsupportedVersion(found) = *state {
            return Err(HeapSelectionError::UnsupportedVersion { heap, found });
        }
        if state.metadata().is_some_and(|found| found.heap != heap) {
            return Err(HeapSelectionError::WrongHeap { heap });
        }
    }
    if let (Some(a), Some(b)) = (a.metadata(), b.metadata()) {
        if a.store_id != b.store_id {
            return Err(HeapSelectionError::StoreIdMismatch);
        }
        if a.generation == b.generation {
            let generation = a.generation;
            return Err(HeapSelectionError::DuplicateGeneration { generation });
        }
    }
    let known = both.iter().filter_map(|(_, state)| state.metadata());
    let highest = known.map(|metadata| metadata.generation).max();
    let (first, second) = match (a, b) {
        (HeapState::Complete(a), HeapState::Complete(b)) if a.generation > b.generation => {
            (*a, Some(*b))
        }
        (HeapState::Complete(a), HeapState::Complete(b)) => (*b, Some(*a)),
        (HeapState::Complete(a), _) => (*a, None),
        (_, HeapState::Complete(b)) => (*b, None),
        _ => {
            let (a, b) = (a.unusable(), b.unusable());
            return Err(HeapSelectionError::NoneComplete { a, b });
        }
    };
    Ok(HeapSelection {
        primary: first,
        fallback: second,
        next_generation: highest.map_or(Generation::FIRST, Generation::next),
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::snapshot::format::tests::sample;

    /// Returns every state of a heap, with the generations 5, 6 and 7.
    fn states(heap: HeapName) -> Vec<HeapState> {
        let mut all = vec![
            HeapState::Missing,
            HeapState::Corrupt([HeaderError::BadChecksum, HeaderError::Zeroed]),
        ];
        for generation in [5, 6, 7] {
            let released = sample(heap, generation);
            all.push(HeapState::Complete(released));
            all.push(HeapState::Incomplete(Metadata {
                complete: false,
                ..released
            }));
        }
        all
    }

    #[test]
    fn every_pair_of_states_is_selected_as_in_the_table() {
        for a in states(HeapName::A) {
            for b in states(HeapName::B) {
                let chosen = choose_heap(&a, &b);
                let generation = |state: &HeapState| state.metadata().map(|found| found.generation);
                let complete = |state: &HeapState| match state {
                    HeapState::Complete(metadata) => Some(*metadata),
                    _ => None,
                };
                let is_duplicate = generation(&a).is_some() && generation(&a) == generation(&b);
                if is_duplicate {
                    assert!(
                        matches!(chosen, Err(HeapSelectionError::DuplicateGeneration { .. })),
                        "{a:?} {b:?}"
                    );
                    continue;
                }
                let mut candidates: Vec<_> =
                    [complete(&a), complete(&b)].into_iter().flatten().collect();
                candidates.sort_by_key(|found| std::cmp::Reverse(found.generation));
                match candidates[..] {
                    [] => assert!(matches!(
                        chosen,
                        Err(HeapSelectionError::NoneComplete { .. })
                    )),
                    [first, ref rest @ ..] => {
                        let chosen = chosen.expect("a heap is complete");
                        assert_eq!(chosen.primary, first);
                        assert_eq!(chosen.fallback, rest.first().copied());
                        let highest = generation(&a)
                            .max(generation(&b))
                            .expect("one state has a generation");
                        assert_eq!(
                            chosen.next_generation,
                            highest.next(),
                            "i08: generations of incomplete heaps count"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn contradictory_headers_are_named_in_the_error() {
        let a = sample(HeapName::A, 5);
        let b = sample(HeapName::B, 6);
        #[expect(clippy::result_large_err, reason = "the error is compared")]
        let chosen = |a, b| choose_heap(&HeapState::Complete(a), &HeapState::Complete(b));
        let of_another_store = Metadata {
            store_id: crate::snapshot::format::StoreId([1; 16]),
            ..b
        };
        assert_eq!(
            chosen(a, of_another_store),
            Err(HeapSelectionError::StoreIdMismatch)
        );
        let other = Metadata {
            part_bytes: 2 << 20,
            ..b
        };
        // Part lengths may differ while they are converted.
        assert!(matches!(chosen(a, other), Ok(choice) if choice.primary == other));
        let heap = HeapName::B;
        assert_eq!(
            chosen(a, sample(HeapName::A, 6)),
            Err(HeapSelectionError::WrongHeap { heap })
        );
        let newer = HeapState::UnsupportedVersion(2);
        let found = 2;
        let error = choose_heap(&HeapState::Complete(a), &newer);
        assert_eq!(
            error,
            Err(HeapSelectionError::UnsupportedVersion { heap, found })
        );
    }
}
