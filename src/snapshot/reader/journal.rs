//! The journal, record by record.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::facts::StoreReader;
use super::hold::{Hold, Which};
use crate::snapshot::backend::Disk;
use crate::snapshot::error::{Damage, SnapshotError, error_chain};
use crate::snapshot::file_names::Array;
use crate::snapshot::format::{Change, Defect, Metadata, RECORDS_AT, RecordKind};
use crate::snapshot::journal::{self, Cut, Record, Replayed, Start};

/// Of a journal that grows, one look may see a later record without those before it.
const LOOKS: u32 = 8;

/// A file of the journal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalFacts {
    /// Its number.
    pub number: u64,
    /// Its length.
    pub bytes: u64,
    /// What is wrong with its header, if anything is. [`Defect::Blank`]: it was never finished being made.
    pub defect: Option<Defect>,
    /// Good records from its begin on.
    pub records: u64,
    /// Where the last of them ends.
    pub records_end: u64,
    /// The sequences of the first and the last of them.
    pub sequences: Option<(u64, u64)>,
    /// The last one is a seal: nothing follows in this file.
    pub sealed: bool,
}

/// A record of the journal that belongs to the state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordFacts {
    /// Number of its file.
    pub journal: u64,
    /// Where it begins in there.
    pub offset: u64,
    /// All its bytes.
    pub bytes: u64,
    /// `transaction`, `pages` or `seal`.
    pub kind: &'static str,
    /// Its number in the journal.
    pub sequence: u64,
    /// The generation it names.
    pub generation: u64,
    /// What was known to be durable when it was written.
    pub durable: u64,
    /// It completes what it belongs to.
    pub last: bool,
    /// Length of the region after it; a seal has none.
    pub region_bytes: Option<u64>,
    /// What it changes, in order; true for what it makes zeros.
    pub changes: Vec<(Range<u64>, bool)>,
}

impl StoreReader {
    /// All files of the journal, by number. What they contain counts only as far as [`records`](Self::records) goes.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Disk`], [`SnapshotError::Directory`], [`SnapshotError::NoHeap`].
    pub fn journal_files(&self) -> Result<Vec<JournalFacts>, SnapshotError> {
        let survey = self.survey()?;
        let known = survey.heaps.iter().find_map(|heap| heap.state.metadata());
        let Some(metadata) = known else {
            survey.choice?;
            return Ok(Vec::new());
        };
        let disk = self.disk()?;
        let mut files = Vec::new();
        for number in journal::numbers(&disk)? {
            match facts_of(&disk, metadata, number) {
                // A checkpoint has removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                facts => files.push(facts?),
            }
        }
        Ok(files)
    }

    /// Hands out the records behind the newer complete heap, or behind the older one; `None` if that is not complete. Returns the
    /// tails that do not count.
    ///
    /// # Errors
    ///
    /// As for [`newest`](Self::newest), after the records before the damage.
    pub fn records(
        &self,
        behind_older: bool,
        mut take: impl FnMut(RecordFacts),
    ) -> Result<Option<Vec<Cut>>, SnapshotError> {
        let which = if behind_older {
            Which::Second
        } else {
            Which::First
        };
        let Some(hold) = self.hold(which)? else {
            return Ok(None);
        };
        let mut told = hold.metadata.sequence;
        let replayed = hold.replay(
            || (),
            |(), record| {
                // Another look begins at the begin.
                if record.header.sequence > told {
                    told = record.header.sequence;
                    take(facts_of_record(record));
                }
            },
        )?;
        hold.must_be_unchanged(self)?;
        Ok(Some(replayed.0.cuts))
    }
}

impl Hold {
    /// Reads the journal behind the heap. Damage is believed when two looks see the same: a running writer appends between the
    /// reading of two files. Each look begins with a new `begin()`.
    pub(super) fn replay<T>(
        &self,
        begin: impl Fn() -> T,
        mut apply: impl FnMut(&mut T, &Record<'_>),
    ) -> Result<(Replayed, T), SnapshotError> {
        let mut seen = String::new();
        let mut looks = 0;
        loop {
            looks += 1;
            let mut state = begin();
            let replayed = journal::records(self.disk(), self.start(), |record| {
                apply(&mut state, record);
                Ok(())
            });
            match replayed {
                Ok(replayed) => return Ok((replayed, state)),
                Err(error @ SnapshotError::Damaged { .. }) if looks < LOOKS => {
                    let text = error_chain(&error);
                    if text == seen {
                        return Err(error);
                    }
                    seen = text;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn start(&self) -> Start {
        match &self.newer {
            Some(newer) => Start::instead_of(newer, &self.metadata),
            None => Start::of(&self.metadata),
        }
    }
}

fn facts_of(
    disk: &dyn Disk,
    metadata: &Metadata,
    number: u64,
) -> Result<JournalFacts, SnapshotError> {
    let array = Array::Journal(number);
    let len = disk.len(array);
    let mut facts = JournalFacts {
        number,
        bytes: len.map_err(SnapshotError::disk("ask the length of", array))?,
        defect: None,
        records: 0,
        records_end: RECORDS_AT,
        sequences: None,
        sealed: false,
    };
    let file = match journal::open_file(disk, metadata.store, number) {
        Ok(Some(file)) => file,
        Ok(None) => {
            facts.defect = Some(Defect::Blank);
            return Ok(facts);
        }
        Err(SnapshotError::Damaged {
            what: Damage::Header(defect),
            ..
        }) => {
            facts.defect = Some(defect);
            return Ok(facts);
        }
        Err(error) => return Err(error),
    };
    while !facts.sealed
        && let Some((header, _)) = journal::record_at(disk, &file, facts.records_end)?
    {
        facts.records += 1;
        facts.records_end += journal::record_bytes(&header);
        facts.sealed = header.kind == RecordKind::Seal;
        let first = facts.sequences.map_or(header.sequence, |(first, _)| first);
        facts.sequences = Some((first, header.sequence));
    }
    Ok(facts)
}

fn facts_of_record(record: &Record<'_>) -> RecordFacts {
    let header = &record.header;
    let range = |(offset, change): &(u64, Change<'_>)| match change {
        Change::Bytes(bytes) => (*offset..offset + bytes.len() as u64, false),
        Change::Zeros(len) => (*offset..offset + len, true),
    };
    let body = record.body.as_ref();
    RecordFacts {
        journal: record.journal,
        offset: record.offset,
        bytes: journal::record_bytes(header),
        kind: match header.kind {
            RecordKind::Transaction => "transaction",
            RecordKind::Pages => "pages",
            RecordKind::Seal => "seal",
        },
        sequence: header.sequence,
        generation: header.generation,
        durable: header.durable,
        last: header.last,
        region_bytes: body.map(|body| body.payload_bytes),
        changes: body.map_or_else(Vec::new, |body| body.changes.iter().map(range).collect()),
    }
}
