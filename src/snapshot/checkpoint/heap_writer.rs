//! Writer of the pages of a base checkpoint (step 2 in docs/file-format.md, "Base checkpoint").

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::checkpointer::Cost;
use crate::snapshot::capture::{PageBuffer, Sink};
use crate::snapshot::error::StoreError;
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{HeapName, PAGE_BYTES, hash_page};
use crate::snapshot::heap::offset_of;
use crate::snapshot::journal::Position;
use crate::snapshot::store_files::StoreFiles;

/// Writes pages to a heap, adjacent pages by one call, and collects their hashes. Pages of
/// zeros become holes.
pub(super) struct HeapWriter<'a> {
    files: &'a StoreFiles,
    target: HeapName,
    /// Whether the region maps the target.
    is_mapped: bool,
    done: Mutex<(BTreeMap<u64, u64>, Cost)>,
}

impl<'a> HeapWriter<'a> {
    pub(super) fn new(
        files: &'a StoreFiles,
        target: HeapName,
        is_mapped: bool,
        cost: Cost,
    ) -> Self {
        Self {
            files,
            target,
            is_mapped,
            done: Mutex::new((BTreeMap::new(), cost)),
        }
    }

    /// Returns the hashes of the written pages, and the cost.
    pub(super) fn finish(self) -> (BTreeMap<u64, u64>, Cost) {
        self.done
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a run of pages and returns the number of bytes written.
    fn write_run(&self, first: u64, bytes: &[u8], hashes: &[u64]) -> Result<u64, StoreError> {
        let array = LogicalFile::Heap(self.target);
        // A hole in a mapped heap would change the region.
        let is_hole = |hash: &u64| *hash == 0 && !self.is_mapped;
        let mut written = 0;
        let mut at = 0;
        for same in hashes.chunk_by(|a, b| is_hole(a) == is_hole(b)) {
            let part = at * PAGE_BYTES..(at + same.len()) * PAGE_BYTES;
            let start = offset_of(first + at as u64);
            if is_hole(&same[0]) {
                self.punch_hole(array, start..start + part.len() as u64)?;
            } else {
                written += part.len() as u64;
                self.files
                    .backend
                    .write(array, start, &bytes[part])
                    .map_err(StoreError::disk("write pages of", array))?;
            }
            at += same.len();
        }
        Ok(written)
    }

    /// Punches a hole. Bytes after the end of the file are zeros already.
    fn punch_hole(&self, array: LogicalFile, range: Range<u64>) -> Result<(), StoreError> {
        let backend = &self.files.backend;
        let present = backend.len(array);
        let present = present.map_err(StoreError::disk("get the length of", array))?;
        let end = range.end.min(present);
        if range.start < end {
            backend
                .discard(array, range.start..end)
                .map_err(StoreError::disk("punch a hole in", array))?;
        }
        Ok(())
    }
}

impl Sink for HeapWriter<'_> {
    fn write(&self, pages: &PageBuffer, _: u64) -> Result<(), StoreError> {
        let seed = self.files.id.seed();
        let mut hashes = Vec::with_capacity(pages.len());
        let mut written = 0;
        for (first, bytes) in pages.runs() {
            let run = bytes.chunks_exact(PAGE_BYTES);
            let run: Vec<_> = run.map(|page| hash_page(seed, page)).collect();
            written += self.write_run(first, bytes, &run)?;
            hashes.extend((first..).zip(run));
        }
        if let (Some((first, _)), Some((last, _))) = (hashes.first(), hashes.last()) {
            let range = offset_of(*first)..offset_of(last + 1);
            self.files
                .start_writeback(LogicalFile::Heap(self.target), range);
        }
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.1.pages += hashes.len() as u64;
        done.1.bytes += written;
        done.0.extend(hashes);
        Ok(())
    }

    /// Continues the journal in the next file, whose records come after the checkpoint.
    fn position(&self) -> Result<Position, StoreError> {
        self.files.journal.roll(self.files.generation().get())
    }
}
