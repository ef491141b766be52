//! Verifying one heap and the journal behind it, past everything that is bad.

use std::io;
use std::ops::{ControlFlow, Range};

use super::facts::StoreReader;
use super::fault::FaultKind;
use super::hold::Hold;
use super::image::STEP_PAGES;
use super::verify::{Progress, Verified};
use crate::snapshot::error::{Damage, SnapshotError, error_chain};
use crate::snapshot::file_names::Array;
use crate::snapshot::format::{BlockId, FAN, METADATA_BYTES, PAGE_BYTES};
use crate::snapshot::heap;
use crate::snapshot::heap::ChecksumTree as Table;

/// So many pages are checked between two looks at whether to go on: 64 MiB.
const LOOK_PAGES: u64 = 16 << 10;

/// Of one heap.
pub(super) struct Verification<'v> {
    pub(super) reader: &'v StoreReader,
    pub(super) hold: &'v Hold,
    pub(super) found: &'v mut Verified,
    pub(super) progress: &'v mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Verification<'_> {
    /// Goes in long steps, and after a fault in short ones that become longer again.
    pub(super) fn pages(&mut self) -> Result<ControlFlow<()>, SnapshotError> {
        let pages = self.hold.metadata.pages();
        let Some(end) = self.reachable_pages()? else {
            return Ok(ControlFlow::Continue(()));
        };
        let mut table = self.table()?;
        let (mut page, mut table_end, mut step) = (0, STEP_PAGES, LOOK_PAGES);
        while page < end {
            if self.tell(page, pages).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if page >= table_end {
                // It keeps every block that it has seen.
                table = self.table()?;
                table_end = page + STEP_PAGES;
            }
            let range = page..end.min(page + step);
            let next = match self.check(&mut table, range.clone()) {
                Ok(()) => {
                    step = LOOK_PAGES.min(step * 2);
                    range.end
                }
                // Which page it is must be found first.
                Err(SnapshotError::Disk { .. }) if step > 1 => {
                    step = 1;
                    page
                }
                Err(error) => {
                    step = 1;
                    self.name(page, end, &error)?
                }
            };
            self.found.pages += next - page;
            page = next;
        }
        Ok(self.tell(end, pages))
    }

    fn table(&self) -> Result<Table, SnapshotError> {
        let metadata = &self.hold.metadata;
        Table::open(
            self.hold.disk(),
            metadata.heap,
            metadata.seed(),
            metadata.root,
        )
    }

    fn check(&self, table: &mut Table, pages: Range<u64>) -> Result<(), SnapshotError> {
        let ignore = |_: u64, _: &[u8]| Ok(());
        heap::read_pages(
            self.hold.disk(),
            &self.hold.metadata,
            table,
            pages,
            ignore,
            |_| (),
        )
    }

    fn tell(&mut self, page: u64, pages: u64) -> ControlFlow<()> {
        (self.progress)(Progress {
            heap: self.hold.metadata.heap,
            done_bytes: page * PAGE_BYTES as u64,
            total_bytes: pages * PAGE_BYTES as u64,
        })
    }

    /// Notes a fault at or behind `page`, everything before it being good. Returns where to go on.
    fn name(&mut self, page: u64, end: u64, error: &SnapshotError) -> Result<u64, SnapshotError> {
        let (array, what) = match error {
            SnapshotError::Damaged { array, what, .. } => (*array, what),
            SnapshotError::Disk { .. } => {
                let pages = page..page + 1;
                let error = error_chain(error);
                let array = self.hold.array();
                self.found
                    .fault(array, FaultKind::Unreadable { pages, error });
                return Ok(page + 1);
            }
            _ => unreachable!("reading pages says nothing else"),
        };
        match *what {
            Damage::Block { level, index } => {
                let pages = beneath(level, index, end);
                let kind = FaultKind::Block {
                    level,
                    index,
                    pages: pages.clone(),
                };
                self.found.fault(array, kind);
                Ok(pages.end.max(page + 1))
            }
            Damage::Page { page } => {
                let pages = page..page + 1;
                self.found.fault(array, FaultKind::Pages { pages });
                Ok(page + 1)
            }
            _ => unreachable!("pages and blocks are all that is read"),
        }
    }

    /// How far the pages can be read; `None` if not at all, for want of a table.
    fn reachable_pages(&mut self) -> Result<Option<u64>, SnapshotError> {
        let heap = self.hold.metadata.heap;
        if let Err(error) = self.hold.disk().len(Array::Table(heap)) {
            self.files(Array::Table(heap), &error);
            return Ok(None);
        }
        match heap::must_be_whole(self.hold.disk(), &self.hold.metadata) {
            Ok(()) => return Ok(Some(self.hold.metadata.pages())),
            Err(SnapshotError::Disk { source, .. }) => self.files(self.hold.array(), &source),
            Err(SnapshotError::Damaged { what, .. }) => {
                let reason = what.to_string();
                self.found
                    .fault(self.hold.array(), FaultKind::Files { reason });
            }
            Err(error) => return Err(error),
        }
        let reachable = self
            .reader
            .row_bytes(self.hold.array())
            .saturating_sub(METADATA_BYTES);
        let pages = reachable / PAGE_BYTES as u64;
        Ok(Some(pages.min(self.hold.metadata.pages())))
    }

    fn files(&mut self, array: Array, error: &io::Error) {
        let kind = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => FaultKind::Files {
                reason: error.to_string(),
            },
            _ => FaultKind::Unreadable {
                pages: 0..0,
                error: error.to_string(),
            },
        };
        self.found.fault(array, kind);
    }

    pub(super) fn journal(&mut self) -> Result<(), SnapshotError> {
        let heap = self.hold.metadata.heap;
        match self.hold.replay(|| 0, |records, _| *records += 1) {
            Ok((replayed, records)) => {
                self.found.records = self.found.records.max(records);
                for cut in replayed.cuts {
                    let note = format!(
                        "{}: {} bytes from {} on, behind record {}, never counted or are being written",
                        Array::Journal(cut.journal),
                        cut.bytes,
                        cut.offset,
                        cut.sequence - 1
                    );
                    if !self.found.notes.contains(&note) {
                        self.found.notes.push(note);
                    }
                }
            }
            Err(SnapshotError::Damaged {
                array,
                offset,
                what,
            }) => {
                let reason = what.to_string();
                self.found
                    .fault(array, FaultKind::Journal { offset, reason });
            }
            Err(SnapshotError::Disk { array, source, .. }) => self.files(array, &source),
            Err(error) => {
                let reason = format!("behind heap {heap}: {}", error_chain(&error));
                self.found.notes.push(reason);
            }
        }
        Ok(())
    }
}

impl StoreReader {
    /// The bytes from the begin of an array to the first file of it that is missing or too short.
    fn row_bytes(&self, array: Array) -> u64 {
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

/// The pages beneath a block.
fn beneath(level: u8, index: u64, end: u64) -> Range<u64> {
    let block = BlockId { level, index };
    let each = FAN.pow(u32::from(block.level) + 1);
    (block.index * each).min(end)..((block.index + 1) * each).min(end)
}
