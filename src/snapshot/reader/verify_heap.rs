//! Verification of one heap and the journal that follows it, which continues after each problem.

use std::io;
use std::ops::{ControlFlow, Range};

use super::heap_read_lock::HeapReadLock;
use super::image::STEP_PAGES;
use super::inspect::StoreReader;
use super::problem::ProblemKind;
use super::verify_report::{StoreVerifyReport, VerifyProgress};
use crate::snapshot::error::{CorruptionCause, StoreError, error_chain};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{BlockId, FAN, METADATA_BYTES, PAGE_BYTES};
use crate::snapshot::heap;
use crate::snapshot::heap::ChecksumTree as Table;

/// Pages between two calls of the progress callback: 64 MiB.
const PROGRESS_PAGES: u64 = 16 << 10;

/// Verification of one heap.
pub(super) struct HeapVerifier<'v> {
    pub(super) reader: &'v StoreReader,
    pub(super) heap_lock: &'v HeapReadLock,
    pub(super) found: &'v mut StoreVerifyReport,
    pub(super) progress: &'v mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
}

impl HeapVerifier<'_> {
    /// Verifies in large steps. After a problem the steps are short and then grow again.
    pub(super) fn verify_pages(&mut self) -> Result<ControlFlow<()>, StoreError> {
        let pages = self.heap_lock.metadata.pages();
        let Some(end) = self.reachable_pages()? else {
            return Ok(ControlFlow::Continue(()));
        };
        let mut table = self.table()?;
        let (mut page, mut table_end, mut step) = (0, STEP_PAGES, PROGRESS_PAGES);
        while page < end {
            if self.report_progress(page, pages).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if page >= table_end {
                // A tree keeps every block that it has read, so start with an empty one.
                table = self.table()?;
                table_end = page + STEP_PAGES;
            }
            let range = page..end.min(page + step);
            let next = match self.check(&mut table, range.clone()) {
                Ok(()) => {
                    step = PROGRESS_PAGES.min(step * 2);
                    range.end
                }
                // Read page by page to find the one that fails.
                Err(StoreError::Backend { .. }) if step > 1 => {
                    step = 1;
                    page
                }
                Err(error) => {
                    step = 1;
                    self.add_error(page, end, &error)
                }
            };
            self.found.verified_pages += next - page;
            page = next;
        }
        Ok(self.report_progress(end, pages))
    }

    fn table(&self) -> Result<Table, StoreError> {
        let metadata = &self.heap_lock.metadata;
        Table::open(
            self.heap_lock.disk(),
            metadata.heap,
            metadata.seed(),
            metadata.tree_root_hash,
        )
    }

    fn check(&self, table: &mut Table, pages: Range<u64>) -> Result<(), StoreError> {
        let ignore = |_: u64, _: &[u8]| Ok(());
        heap::read_pages(
            self.heap_lock.disk(),
            &self.heap_lock.metadata,
            table,
            pages,
            ignore,
            |_| (),
        )
    }

    fn report_progress(&mut self, page: u64, pages: u64) -> ControlFlow<()> {
        (self.progress)(VerifyProgress {
            heap: self.heap_lock.metadata.heap,
            done_bytes: page * PAGE_BYTES as u64,
            total_bytes: pages * PAGE_BYTES as u64,
        })
    }

    /// Records a problem at or after `page`; all pages before are valid. Returns the page to
    /// continue with.
    fn add_error(&mut self, page: u64, end: u64, error: &StoreError) -> u64 {
        let (array, what) = match error {
            StoreError::Corrupt {
                file: array,
                cause: what,
                ..
            } => (*array, what),
            StoreError::Backend { .. } => {
                let pages = page..page + 1;
                let error = error_chain(error);
                let array = self.heap_lock.array();
                self.found
                    .add_problem(array, ProblemKind::Unreadable { pages, error });
                return page + 1;
            }
            _ => unreachable!("reading pages returns no other error"),
        };
        match *what {
            CorruptionCause::TreeBlockChecksum { level, index } => {
                let pages = pages_under(level, index, end);
                let kind = ProblemKind::TreeBlock {
                    level,
                    index,
                    pages: pages.clone(),
                };
                self.found.add_problem(array, kind);
                pages.end.max(page + 1)
            }
            CorruptionCause::PageChecksum { page } => {
                let page = page.get();
                let pages = page..page + 1;
                self.found.add_problem(array, ProblemKind::Pages { pages });
                page + 1
            }
            _ => unreachable!("only pages and blocks are read"),
        }
    }

    /// Number of pages that can be read; `None` if there is no checksum tree.
    fn reachable_pages(&mut self) -> Result<Option<u64>, StoreError> {
        let heap = self.heap_lock.metadata.heap;
        if let Err(error) = self.heap_lock.disk().len(LogicalFile::Table(heap)) {
            self.add_file_error(LogicalFile::Table(heap), &error);
            return Ok(None);
        }
        match heap::must_be_whole(self.heap_lock.disk(), &self.heap_lock.metadata) {
            Ok(()) => return Ok(Some(self.heap_lock.metadata.pages())),
            Err(StoreError::Backend { source, .. }) => {
                self.add_file_error(self.heap_lock.array(), &source);
            }
            Err(StoreError::Corrupt { cause: what, .. }) => {
                let reason = what.to_string();
                self.found
                    .add_problem(self.heap_lock.array(), ProblemKind::PartFiles { reason });
            }
            Err(error) => return Err(error),
        }
        let reachable = self
            .reader
            .contiguous_bytes(self.heap_lock.array())
            .saturating_sub(METADATA_BYTES);
        let pages = reachable / PAGE_BYTES as u64;
        Ok(Some(pages.min(self.heap_lock.metadata.pages())))
    }

    fn add_file_error(&mut self, array: LogicalFile, error: &io::Error) {
        let kind = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => ProblemKind::PartFiles {
                reason: error.to_string(),
            },
            _ => ProblemKind::Unreadable {
                pages: 0..0,
                error: error.to_string(),
            },
        };
        self.found.add_problem(array, kind);
    }

    pub(super) fn verify_journal(&mut self) {
        let heap = self.heap_lock.metadata.heap;
        match self.heap_lock.replay(|| 0, |records, _| *records += 1) {
            Ok((replayed, records)) => {
                self.found.verified_records = self.found.verified_records.max(records);
                for tail in replayed.ignored_tails {
                    let note = format!(
                        "{}: ignored tail of {} bytes at offset {}, after record {}: never acknowledged, or being written",
                        LogicalFile::Journal(tail.journal),
                        tail.len_bytes,
                        tail.offset,
                        tail.first_sequence.get() - 1
                    );
                    if !self.found.notes.contains(&note) {
                        self.found.notes.push(note);
                    }
                }
            }
            Err(StoreError::Corrupt {
                file: array,
                offset,
                cause: what,
            }) => {
                let reason = what.to_string();
                self.found
                    .add_problem(array, ProblemKind::Journal { offset, reason });
            }
            Err(StoreError::Backend {
                file: array,
                source,
                ..
            }) => self.add_file_error(array, &source),
            Err(error) => {
                let reason = format!("journal after heap {heap}: {}", error_chain(&error));
                self.found.notes.push(reason);
            }
        }
    }
}

impl StoreReader {
    /// Bytes from the start of a logical file to its first part file that is missing or too short.
    fn contiguous_bytes(&self, array: LogicalFile) -> u64 {
        let mut bytes = 0;
        let part_bytes = self
            .disk()
            .map_or(self.part_bytes, |disk| disk.part_bytes_of(array));
        for part in 0.. {
            let path = self.directory.join(array.part_name(part));
            let len = std::fs::metadata(path).map_or(0, |found| found.len());
            bytes += len.min(part_bytes);
            if len != part_bytes {
                break;
            }
        }
        bytes
    }
}

/// Pages under a block of the checksum tree.
fn pages_under(level: u8, index: u64, end: u64) -> Range<u64> {
    let block = BlockId { level, index };
    let each = FAN.pow(u32::from(block.level) + 1);
    (block.index * each).min(end)..((block.index + 1) * each).min(end)
}
