//! Verification of a whole store.

use std::ops::ControlFlow;

use super::heap_read_lock::HeapSelector;
use super::inspect::StoreReader;
use super::problem::ProblemKind;
use super::verify_heap::HeapVerifier;
use super::verify_report::{StoreVerifyReport, VerifyProgress};
use crate::snapshot::error::HeapSelectionError;
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{HeaderError, HeapName, METADATA_BYTES};
use crate::snapshot::heap::HeapState;

impl StoreReader {
    /// Verifies both copies of METADATA of each heap, every page of every complete heap, and every
    /// journal record that follows them.
    ///
    /// `progress` is called regularly. If it returns `Break`, the verification stops.
    ///
    /// # Errors
    ///
    /// All corruption is part of the result. The call itself fails with:
    ///
    /// - [`StoreError::HeapSelection`] if a newer program has written the store.
    /// - [`StoreError::Directory`] or [`StoreError::Backend`] if not even the headers can be read.
    /// - [`StoreError::Directory`] with `ResourceBusy` if checkpoints keep writing the heap.
    pub fn verify(
        &self,
        mut progress: impl FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Result<StoreVerifyReport, StoreError> {
        let mut found = StoreVerifyReport::default();
        self.verify_headers(&mut found)?;
        for heap in [HeapName::A, HeapName::B] {
            let Some(heap_lock) = self.lock_heap(HeapSelector::Named(heap))? else {
                continue;
            };
            found.heaps.push(heap);
            let mut verifier = HeapVerifier {
                reader: self,
                heap_lock: &heap_lock,
                found: &mut found,
                progress: &mut progress,
            };
            if verifier.verify_pages()?.is_break() {
                return Ok(found);
            }
            verifier.verify_journal();
            heap_lock.check_unchanged(self)?;
        }
        found.complete = true;
        Ok(found)
    }

    fn verify_headers(&self, found: &mut StoreVerifyReport) -> Result<(), StoreError> {
        let headers = self.inspect()?;
        if let Err(error @ HeapSelectionError::UnsupportedVersion { .. }) = headers.selection {
            return Err(error.into());
        }
        for info in &headers.heaps {
            let heap = info.heap;
            let was_begun = info.actual_bytes.is_none_or(|bytes| bytes > METADATA_BYTES);
            match info.state {
                HeapState::Missing => found.notes.push(format!("heap {heap} does not exist")),
                HeapState::Incomplete(metadata) => found.notes.push(format!(
                    "heap {heap} is incomplete: generation {} is or was being written",
                    metadata.generation
                )),
                // A crash during the first checkpoint into the heap leaves a zeroed header.
                HeapState::Corrupt([HeaderError::Zeroed, HeaderError::Zeroed]) if !was_begun => {
                    found.notes.push(format!("heap {heap} was never written"));
                    continue;
                }
                _ => {}
            }
            for (copy, found_copy) in info.metadata_copies.iter().flatten().enumerate() {
                if let Err(defect) = *found_copy {
                    found.add_problem(
                        LogicalFile::Heap(heap),
                        ProblemKind::Metadata {
                            copy,
                            header_error: defect,
                        },
                    );
                }
            }
        }
        if let Err(error) = headers.selection {
            found.add_problem(
                LogicalFile::Heap(HeapName::A),
                ProblemKind::HeapSelection(error),
            );
        }
        Ok(())
    }
}
