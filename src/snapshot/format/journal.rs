//! The journal: header of a file, records and their bodies.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use super::ids_and_hashes::{NUMBERS_END, PAGE_BYTES, StoreId};
use super::metadata::{HeaderError, Writer, open_block, write_checksum};

const MAGIC: [u8; 8] = *b"FLATJRNL";
const FIELDS_END: usize = 48;
/// Offset of the first record.
pub(crate) const RECORDS_AT: u64 = PAGE_BYTES as u64;

pub(crate) const RECORD_MAGIC: [u8; 4] = *b"FSRC";
pub(crate) const RECORD_HEADER_BYTES: usize = 64;
const CHECKSUM_AT: usize = 56;
const ZEROS: u64 = 1 << 63;

/// Header of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalHeader {
    pub(crate) store: StoreId,
    pub(crate) number: u64,
    /// Random id, so that a record of another file does not match.
    pub(crate) id: u64,
}

impl JournalHeader {
    pub(crate) fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut block = [0; PAGE_BYTES];
        let mut out = Writer(&mut block, 0);
        out.put(&MAGIC);
        out.put(&1_u32.to_le_bytes());
        out.put(&[0; 4]);
        out.put(&self.store.0);
        out.put(&self.number.to_le_bytes());
        out.put(&self.id.to_le_bytes());
        debug_assert_eq!(out.1, FIELDS_END);
        write_checksum(&mut block);
        block
    }

    pub(crate) fn decode(block: &[u8; PAGE_BYTES]) -> Result<Self, HeaderError> {
        let mut fields = open_block(block, MAGIC, FIELDS_END)?;
        let zero = fields.u32();
        let header = Self {
            store: StoreId(fields.take()),
            number: fields.u64(),
            id: fields.u64(),
        };
        for (field, found, is_valid) in [
            ("reserved", zero.into(), zero == 0),
            ("number", header.number, header.number > 0),
            ("journal id", header.id, header.id > 0),
        ] {
            if !is_valid {
                return Err(HeaderError::InvalidField { field, found });
            }
        }
        Ok(header)
    }
}

/// Kind of a journal record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// Changes of one transaction.
    Transaction = 1,
    /// Pages of a delta checkpoint, which may take several records.
    Pages = 2,
    /// Last record of a finished journal file.
    Seal = 3,
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transaction => "transaction",
            Self::Pages => "pages",
            Self::Seal => "seal",
        })
    }
}

/// Header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: RecordKind,
    /// Whether the record completes a transaction, a delta checkpoint or a journal file.
    pub(crate) last: bool,
    pub(crate) body_bytes: u64,
    pub(crate) sequence: u64,
    pub(crate) generation: u64,
    /// Minimum base generation: the lowest generation of a heap that the record may be applied to.
    pub(crate) floor: u64,
    /// Last sequence number that was known to be durable when the record was written.
    pub(crate) durable: u64,
    /// Checksum of the previous record.
    pub(crate) chain: u64,
    pub(crate) checksum: u64,
}

impl RecordHeader {
    fn bytes(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4] = self.kind as u8;
        bytes[5] = u8::from(self.last);
        let words = [
            self.body_bytes,
            self.sequence,
            self.generation,
            self.floor,
            self.durable,
            self.chain,
            self.checksum,
        ];
        for (place, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Parses a header. Its content is untrusted until
    /// [`has_valid_checksum`](Self::has_valid_checksum) returns true.
    pub(crate) fn parse(bytes: &[u8; RECORD_HEADER_BYTES]) -> Option<Self> {
        let kind = match bytes[4] {
            1 => RecordKind::Transaction,
            2 => RecordKind::Pages,
            3 => RecordKind::Seal,
            _ => return None,
        };
        if bytes[..4] != RECORD_MAGIC || bytes[5] > 1 || bytes[6..8] != [0, 0] {
            return None;
        }
        let (words, _) = bytes[8..].as_chunks::<8>();
        let [
            body_bytes,
            sequence,
            generation,
            floor,
            durable,
            chain,
            checksum,
        ] = std::array::from_fn(|index| u64::from_le_bytes(words[index]));
        let last = bytes[5] == 1;
        // Only records of pages are completed by a later record, and a seal record has no body.
        let is_consistent = match kind {
            RecordKind::Pages => true,
            RecordKind::Transaction => last,
            RecordKind::Seal => last && body_bytes == 0,
        };
        let is_in_range = sequence < NUMBERS_END && (1..NUMBERS_END).contains(&generation);
        (is_consistent && is_in_range && body_bytes.is_multiple_of(8)).then_some(Self {
            kind,
            last,
            body_bytes,
            sequence,
            generation,
            floor,
            durable,
            chain,
            checksum,
        })
    }

    /// Returns whether the checksum matches header, body and journal id.
    pub(crate) fn has_valid_checksum(&self, journal_id: u64, body: &[u8]) -> bool {
        self.body_bytes == body.len() as u64 && self.checksum == self.sum(journal_id, body)
    }

    fn sum(&self, journal_id: u64, body: &[u8]) -> u64 {
        let mut hash = Xxh3::with_seed(journal_id);
        hash.update(&self.bytes()[..CHECKSUM_AT]);
        hash.update(body);
        hash.digest()
    }

    /// Appends the record with its length and checksum, and returns the checksum.
    pub(crate) fn append(
        mut self,
        journal_id: u64,
        body: Option<&Body<'_>>,
        out: &mut Vec<u8>,
    ) -> u64 {
        let start = out.len();
        out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        if let Some(body) = body {
            body.append(out);
        }
        let body = &out[start + RECORD_HEADER_BYTES..];
        self.body_bytes = body.len() as u64;
        self.checksum = self.sum(journal_id, body);
        out[start..start + RECORD_HEADER_BYTES].copy_from_slice(&self.bytes());
        self.checksum
    }
}

/// New content of a range: bytes, or a number of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    Bytes(&'a [u8]),
    Zeros(u64),
}

/// Body of a record: the length of PAYLOAD after it, and the changed ranges. All ranges of a parsed
/// body are within that length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body<'a> {
    pub(crate) payload_bytes: u64,
    pub(crate) changes: Vec<(u64, Change<'a>)>,
}

impl<'a> Body<'a> {
    /// Length of the body in the journal, in bytes.
    pub(crate) fn len(&self) -> usize {
        let bytes = self.changes.iter().map(|(_, change)| match change {
            Change::Bytes(bytes) => bytes.len(),
            Change::Zeros(_) => 0,
        });
        (16 + 16 * self.changes.len() + bytes.sum::<usize>()).next_multiple_of(8)
    }

    fn append(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.len();
        out.reserve(self.len());
        out.extend_from_slice(&self.payload_bytes.to_le_bytes());
        out.extend_from_slice(&(self.changes.len() as u64).to_le_bytes());
        for (offset, change) in &self.changes {
            let len = match change {
                Change::Bytes(bytes) => bytes.len() as u64,
                Change::Zeros(len) => len | ZEROS,
            };
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
        for (_, change) in &self.changes {
            if let Change::Bytes(bytes) = change {
                out.extend_from_slice(bytes);
            }
        }
        out.resize(end, 0);
    }

    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, HeaderError> {
        let invalid = |field, found| HeaderError::InvalidField { field, found };
        let (words, _) = body.as_chunks::<8>();
        let word = |index: usize| words.get(index).map(|word| u64::from_le_bytes(*word));
        let (Some(payload_bytes), Some(count)) = (word(0), word(1)) else {
            return Err(invalid("body_bytes", body.len() as u64));
        };
        let page = PAGE_BYTES as u64;
        if !payload_bytes.is_multiple_of(page)
            || payload_bytes / page > super::tree_layout::PAGES_MAX
        {
            return Err(invalid("payload_bytes", payload_bytes));
        }
        // Check the count against the length before memory is allocated for it.
        let table = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(2));
        let table = table.filter(|table| *table <= words.len() - 2);
        let table = table.ok_or_else(|| invalid("number of ranges", count))?;
        let mut rest = &body[16 + 8 * table..];
        let mut changes = Vec::with_capacity(table / 2);
        for index in (2..2 + table).step_by(2) {
            let (offset, len) = (word(index).unwrap_or(0), word(index + 1).unwrap_or(0));
            let bytes = len & !ZEROS;
            let end = offset.checked_add(bytes);
            if bytes == 0 || end.is_none_or(|end| end > payload_bytes) {
                return Err(invalid("range", offset));
            }
            if len & ZEROS != 0 {
                changes.push((offset, Change::Zeros(bytes)));
                continue;
            }
            let here = usize::try_from(bytes)
                .ok()
                .and_then(|len| rest.split_at_checked(len));
            let (here, after) = here.ok_or_else(|| invalid("length of a range", bytes))?;
            changes.push((offset, Change::Bytes(here)));
            rest = after;
        }
        if rest.len() >= 8 || rest.iter().any(|byte| *byte != 0) {
            return Err(invalid("body_bytes", body.len() as u64));
        }
        Ok(Self {
            payload_bytes,
            changes,
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(sequence: u64) -> RecordHeader {
        RecordHeader {
            kind: RecordKind::Transaction,
            last: true,
            body_bytes: 0,
            sequence,
            generation: 4,
            floor: 2,
            durable: 3,
            chain: 0x55,
            checksum: 0,
        }
    }

    #[test]
    fn file_headers_round_trip_and_detect_flipped_bits() {
        let header = JournalHeader {
            store: StoreId([7; 16]),
            number: 5,
            id: 99,
        };
        assert_eq!(JournalHeader::decode(&header.encode()), Ok(header));
        for bit in 0..PAGE_BYTES * 8 {
            let mut block = header.encode();
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(JournalHeader::decode(&block).is_err(), "{bit}");
        }
        let without_number = JournalHeader {
            number: 0,
            ..header
        };
        assert!(JournalHeader::decode(&without_number.encode()).is_err());
    }

    fn body() -> Body<'static> {
        Body {
            payload_bytes: 8192,
            changes: vec![(10, Change::Bytes(b"hello")), (4096, Change::Zeros(4096))],
        }
    }

    #[test]
    fn records_and_bodies_round_trip() {
        let mut out = vec![1; 3];
        let checksum = header(12).append(77, Some(&body()), &mut out);
        let (start, rest) = out[3..].split_first_chunk().expect("a valid header");
        let found = RecordHeader::parse(start).expect("a valid header");
        assert_eq!((found.sequence, found.checksum), (12, checksum));
        assert!(found.has_valid_checksum(77, rest) && !found.has_valid_checksum(78, rest));
        assert_eq!(rest.len(), body().len());
        assert_eq!(Body::parse(rest), Ok(body()));
    }

    #[test]
    fn flipped_bits_of_a_record_are_detected() {
        let mut good = Vec::new();
        header(12).append(77, Some(&body()), &mut good);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (start, rest) = bytes.split_first_chunk().expect("a valid header");
            let found = RecordHeader::parse(start);
            assert!(
                found.is_none_or(|found| !found.has_valid_checksum(77, rest)),
                "{bit}"
            );
        }
    }

    #[test]
    fn records_with_numbers_past_the_maximum_are_rejected() {
        let last = header(NUMBERS_END - 1);
        let generation = NUMBERS_END;
        for (header, is_valid) in [
            (last, true),
            (header(NUMBERS_END), false),
            (
                RecordHeader {
                    generation,
                    ..header(1)
                },
                false,
            ),
        ] {
            let mut out = Vec::new();
            header.append(77, None, &mut out);
            let found = out.first_chunk().and_then(RecordHeader::parse);
            assert_eq!(found.is_some(), is_valid, "{header:?}");
        }
    }

    #[test]
    fn invalid_bodies_are_rejected() {
        let words = |words: &[u64]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        for bad in [
            vec![],
            words(&[4096]),
            words(&[100, 0]),
            words(&[u64::MAX - 4095, 0]),
            words(&[4096, 1]),
            words(&[4096, u64::MAX]),
            words(&[4096, 1 << 62, 0, 0]),
            words(&[4096, 1, 0, 0]),
            words(&[4096, 1, 4096, 1, 0]),
            words(&[4096, 1, u64::MAX, 8, 0]),
            words(&[4096, 1, 0, 16, 0]),
            words(&[4096, 1, 0, 8 | ZEROS, 0]),
            words(&[4096, 1, 0, 4, 1 << 40]),
        ] {
            assert!(Body::parse(&bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_any_bytes_as_a_body_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Body::parse(&bytes));
        }
    }
}
