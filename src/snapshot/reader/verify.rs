//! Verifying everything in a store, and naming all that is bad.

use std::ops::ControlFlow;

use super::facts::StoreReader;
use super::fault::{Fault, FaultKind};
use super::hold::Which;
use super::verify_heap::Verification;
use crate::snapshot::error::{NoHeap, SnapshotError};
use crate::snapshot::file_names::Array;
use crate::snapshot::format::{Defect, HeapName, METADATA_BYTES};
use crate::snapshot::heap::HeapState;

/// So many faults are named; neighbouring pages are one.
const FAULTS_MAX: usize = 10_000;

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The heap that is being read.
    pub heap: HeapName,
    /// Its bytes that are done.
    pub done_bytes: u64,
    /// And all of them.
    pub total_bytes: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Everything was looked at: nobody stopped it.
    pub complete: bool,
    /// Pages that were looked at, holes included.
    pub pages: u64,
    /// Records of the journal that are good, and behind a heap that is complete.
    pub records: u64,
    /// Heaps whose pages were looked at.
    pub heaps: Vec<HeapName>,
    /// What is bad.
    pub faults: Vec<Fault>,
    /// Faults beyond those that are named.
    pub more_faults: u64,
    /// What is not bad but worth knowing: heaps that are not complete, tails of the journal that never counted.
    pub notes: Vec<String>,
}

impl Verified {
    /// Everything was looked at and is good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.complete && self.faults.is_empty()
    }

    pub(super) fn fault(&mut self, array: Array, kind: FaultKind) {
        if let FaultKind::Pages { pages: new } = &kind
            && let Some(last) = self.faults.last_mut()
            && let FaultKind::Pages { pages } = &mut last.kind
            && last.array == array
            && pages.end == new.start
        {
            pages.end = new.end;
            return;
        }
        let fault = Fault { array, kind };
        // Both heaps may lead to the same record.
        if matches!(fault.kind, FaultKind::Journal { .. }) && self.faults.contains(&fault) {
            return;
        }
        match self.faults.len() < FAULTS_MAX {
            true => self.faults.push(fault),
            false => self.more_faults += 1,
        }
    }
}

impl StoreReader {
    /// Looks at both copies of METADATA of each heap, every page of every complete heap, and every record of the journal
    /// behind it. `progress` may stop it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::NoHeap`] for a newer version, which cannot be judged; [`SnapshotError::Disk`] and
    /// [`SnapshotError::Directory`] if not even headers can be read. All else is part of the answer.
    pub fn verify(
        &self,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Verified, SnapshotError> {
        let mut found = Verified::default();
        self.verify_headers(&mut found)?;
        for heap in [HeapName::A, HeapName::B] {
            let Some(hold) = self.hold(Which::Named(heap))? else {
                continue;
            };
            found.heaps.push(heap);
            let mut verification = Verification {
                reader: self,
                hold: &hold,
                found: &mut found,
                progress: &mut progress,
            };
            if verification.pages()?.is_break() {
                return Ok(found);
            }
            verification.journal()?;
            hold.must_be_unchanged(self)?;
        }
        found.complete = true;
        Ok(found)
    }

    fn verify_headers(&self, found: &mut Verified) -> Result<(), SnapshotError> {
        let survey = self.survey()?;
        if let Err(error @ NoHeap::Version { .. }) = survey.choice {
            return Err(error.into());
        }
        for facts in &survey.heaps {
            let heap = facts.heap;
            let was_begun = facts
                .present_bytes
                .is_none_or(|bytes| bytes > METADATA_BYTES);
            match facts.state {
                HeapState::Absent => found.notes.push(format!("heap {heap} is not there")),
                HeapState::Taken(metadata) => found.notes.push(format!(
                    "heap {heap} is not complete: generation {} is or was being written",
                    metadata.generation
                )),
                // What a crash leaves of the first checkpoint into it.
                HeapState::Damaged([Defect::Blank, Defect::Blank]) if !was_begun => {
                    found.notes.push(format!("heap {heap} was never written"));
                    continue;
                }
                _ => {}
            }
            for (copy, found_copy) in facts.copies.iter().flatten().enumerate() {
                if let Err(defect) = *found_copy {
                    found.fault(Array::Heap(heap), FaultKind::Metadata { copy, defect });
                }
            }
        }
        if let Err(error) = survey.choice {
            found.fault(Array::Heap(HeapName::A), FaultKind::Headers(error));
        }
        Ok(())
    }
}
