//! METADATA of a heap: what the heap holds, of which generation, and whether it is complete.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::xxh3_128;

use super::ids_and_hashes::{HeapName, NUMBERS_END, PAGE_BYTES, StoreId, is_zero};
use crate::numbers::{Generation, JournalNumber, Sequence};

/// Length of METADATA, which precedes PAYLOAD. Each half begins with a copy.
pub(crate) const METADATA_BYTES: u64 = 64 << 10;
/// Offset of the second copy.
pub(crate) const HALF_BYTES: u64 = METADATA_BYTES / 2;
/// Unit of the lengths of part files.
pub(crate) const PART_UNIT_BYTES: u64 = METADATA_BYTES;

const MAGIC: [u8; 8] = *b"FLATSPAN";
const VERSION: u32 = 1;
const CHECKSUM_AT: usize = PAGE_BYTES - 16;
const FIELDS_END: usize = 136;

/// Verified content of METADATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// Id of the store.
    pub store_id: StoreId,
    /// The heap that it describes.
    pub heap: HeapName,
    /// Whether the store was shut down cleanly after this generation.
    pub closed: bool,
    /// Length of part files in bytes.
    pub part_bytes: u64,
    /// Generation of the heap, or the one that is being written to it.
    pub generation: Generation,
    /// `WRITE_LOCK`: whether the heap is complete. If not, `generation` is being written.
    pub complete: bool,
    /// Number of this METADATA among those of the same generation; the highest is valid.
    pub revision: u64,
    /// Length of the region in bytes.
    pub payload_bytes: u64,
    /// Hash of the root of the checksum tree; 0 if all pages are zero.
    pub tree_root_hash: u64,
    /// Sequence number of the last journal record that PAYLOAD includes; 0 for none.
    pub last_sequence: Sequence,
    /// Checksum of that record.
    pub last_record_checksum: u64,
    /// Number of the first journal file that may hold later records.
    pub first_journal: JournalNumber,
    /// Sequence number of the last journal record after a clean shutdown; `None` otherwise.
    pub end_sequence: Option<Sequence>,
    /// Time of the commit.
    pub committed_at: SystemTime,
    /// Minimum base generation: the lowest generation of a heap from which the journal leads to
    /// this one.
    pub min_base_generation: Generation,
}

/// Error of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file could not be read.
    #[error("cannot be read")]
    Unreadable,
    /// All bytes are zero, so no header was ever written.
    #[error("all bytes are zero")]
    Zeroed,
    /// The header does not begin with the magic bytes.
    #[error("does not begin with the magic bytes")]
    BadMagic,
    /// The header belongs to another store.
    #[error("belongs to another store")]
    WrongStore,
    /// The bytes do not match their checksum.
    #[error("does not match its checksum")]
    BadChecksum,
    /// Another version of this library wrote the header.
    #[error("has version {found}, but this program supports version 1")]
    UnsupportedVersion {
        /// Version of the format in the header.
        found: u32,
    },
    /// A field has an invalid value.
    #[error("field `{field}` has the invalid value {found}")]
    InvalidField {
        /// Name of the field.
        field: &'static str,
        /// Value of the field.
        found: u64,
    },
}

impl Metadata {
    pub(crate) fn seed(&self) -> u64 {
        self.store_id.seed()
    }

    pub(crate) fn pages(&self) -> u64 {
        self.payload_bytes / PAGE_BYTES as u64
    }

    /// Rank among the copies and revisions of a heap [I8].
    fn rank(&self) -> (Generation, bool, u64) {
        (self.generation, self.complete, self.revision)
    }

    pub(crate) fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut block = [0; PAGE_BYTES];
        let mut out = Writer(&mut block, 0);
        out.put(&MAGIC);
        out.put(&VERSION.to_le_bytes());
        out.put(&(PAGE_BYTES as u32).to_le_bytes());
        out.put(&self.store_id.0);
        out.put(&(self.heap as u32).to_le_bytes());
        out.put(&u32::from(self.closed).to_le_bytes());
        for word in [
            self.part_bytes,
            self.generation.get(),
            u64::from(self.complete),
            self.revision,
            self.payload_bytes,
            self.tree_root_hash,
            self.last_sequence.get(),
            self.last_record_checksum,
            self.first_journal.get(),
            self.end_sequence.unwrap_or_default().get(),
            nanoseconds(self.committed_at),
            self.min_base_generation.get(),
        ] {
            out.put(&word.to_le_bytes());
        }
        debug_assert_eq!(out.1, FIELDS_END);
        write_checksum(&mut block);
        block
    }

    pub(crate) fn decode(block: &[u8; PAGE_BYTES]) -> Result<Self, HeaderError> {
        let mut fields = open_block(block, MAGIC, FIELDS_END)?;
        let page_bytes = fields.u32();
        let store = StoreId(fields.take());
        let heap = fields.u32();
        let closed = flag("closed", fields.u32().into())?;
        let mut next = || fields.u64();
        let (part_bytes, generation, lock, revision) = (next(), next(), next(), next());
        let field = |field, found| HeaderError::InvalidField { field, found };
        let metadata = Self {
            store_id: store,
            heap: match heap {
                0 => HeapName::A,
                1 => HeapName::B,
                found => return Err(field("heap", found.into())),
            },
            closed,
            part_bytes,
            generation: Generation::new(generation).ok_or_else(|| field("generation", 0))?,
            complete: flag("WRITE_LOCK", lock)?,
            revision,
            payload_bytes: next(),
            tree_root_hash: next(),
            last_sequence: Sequence::new(next()),
            last_record_checksum: next(),
            first_journal: JournalNumber::new(next()).ok_or_else(|| field("first_journal", 0))?,
            end_sequence: closed_end(closed, next())?,
            committed_at: UNIX_EPOCH + Duration::from_nanos(next()),
            min_base_generation: Generation::new(next())
                .ok_or_else(|| field("min_base_generation", 0))?,
        };
        if page_bytes != PAGE_BYTES as u32 {
            return Err(field("page size", page_bytes.into()));
        }
        metadata.check()?;
        Ok(metadata)
    }

    fn check(&self) -> Result<(), HeaderError> {
        let page = PAGE_BYTES as u64;
        let pages = self.payload_bytes / page;
        let fields = [
            (
                "part_bytes",
                self.part_bytes,
                is_part_length(self.part_bytes),
            ),
            (
                "generation",
                self.generation.get(),
                self.generation < NUMBERS_END,
            ),
            ("revision", self.revision, self.revision < NUMBERS_END),
            (
                "last_sequence",
                self.last_sequence.get(),
                self.last_sequence < NUMBERS_END,
            ),
            (
                "first_journal",
                self.first_journal.get(),
                self.first_journal < NUMBERS_END,
            ),
            (
                "min_base_generation",
                self.min_base_generation.get(),
                self.min_base_generation <= self.generation,
            ),
            (
                "payload_bytes",
                self.payload_bytes,
                self.payload_bytes.is_multiple_of(page) && pages <= super::tree_layout::PAGES_MAX,
            ),
            (
                "end_sequence",
                self.end_sequence.unwrap_or_default().get(),
                self.end_sequence
                    .is_none_or(|end| end >= self.last_sequence && self.complete),
            ),
        ];
        match fields.into_iter().find(|(_, _, is_valid)| !is_valid) {
            None => Ok(()),
            Some((field, found, _)) => Err(HeaderError::InvalidField { field, found }),
        }
    }
}

/// Value of the field `end`, which is 0 without a clean shutdown.
fn closed_end(closed: bool, found: u64) -> Result<Option<Sequence>, HeaderError> {
    match (closed, found) {
        (true, end) => Ok(Some(Sequence::new(end))),
        (false, 0) => Ok(None),
        (false, found) => Err(HeaderError::InvalidField {
            field: "end_sequence",
            found,
        }),
    }
}

/// Nanoseconds since 1970; 0 for times before.
fn nanoseconds(at: SystemTime) -> u64 {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns whether part files may have this length.
pub(crate) fn is_part_length(bytes: u64) -> bool {
    bytes > 0 && bytes.is_multiple_of(PART_UNIT_BYTES) && i64::try_from(bytes).is_ok()
}

/// Both copies of METADATA, as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copies(pub(crate) [Result<Metadata, HeaderError>; 2]);

impl Copies {
    /// Decodes both copies from the bytes before PAYLOAD.
    pub(crate) fn read(area: &[u8]) -> Self {
        debug_assert_eq!(area.len() as u64, METADATA_BYTES);
        let (first, second) = area.split_at(HALF_BYTES as usize);
        Self([first, second].map(|half| {
            // The bytes after the block in each half are unused, so corruption in them has no
            // effect.
            let block = half.first_chunk().expect("a half holds a block");
            Metadata::decode(block)
        }))
    }

    /// Version of a copy that a newer program has written.
    pub(crate) fn newer_version(&self) -> Option<u32> {
        self.0.iter().find_map(|copy| match copy {
            Err(HeaderError::UnsupportedVersion { found }) => Some(*found),
            _ => None,
        })
    }

    /// The valid copy with the highest rank.
    pub(crate) fn state(&self) -> Option<Metadata> {
        let valid = self.0.iter().filter_map(|copy| copy.as_ref().ok());
        valid.max_by_key(|copy| copy.rank()).copied()
    }

    /// The invalid copy beside a valid one.
    pub(crate) fn bad_beside_good(&self) -> Option<(usize, HeaderError)> {
        self.state()?;
        let bad = |(index, copy): (usize, &Result<_, HeaderError>)| Some((index, copy.err()?));
        self.0.iter().enumerate().find_map(bad)
    }
}

pub(super) fn flag(field: &'static str, found: u64) -> Result<bool, HeaderError> {
    match found {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(HeaderError::InvalidField { field, found }),
    }
}

/// Writes the checksum to the end of a block.
pub(super) fn write_checksum(block: &mut [u8; PAGE_BYTES]) {
    let checksum = xxh3_128(&block[..CHECKSUM_AT]);
    block[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
}

/// Checks what all headers have in common, and returns the fields after the version.
pub(super) fn open_block(
    block: &[u8; PAGE_BYTES],
    magic: [u8; 8],
    fields_end: usize,
) -> Result<Reader<'_>, HeaderError> {
    if is_zero(block) {
        return Err(HeaderError::Zeroed);
    }
    if block[..8] != magic {
        return Err(HeaderError::BadMagic);
    }
    if block[CHECKSUM_AT..] != xxh3_128(&block[..CHECKSUM_AT]).to_le_bytes() {
        return Err(HeaderError::BadChecksum);
    }
    let mut fields = Reader(&block[8..]);
    match fields.u32() {
        VERSION => {}
        found => return Err(HeaderError::UnsupportedVersion { found }),
    }
    if !is_zero(&block[fields_end..CHECKSUM_AT]) {
        return Err(HeaderError::InvalidField {
            field: "reserved",
            found: 1,
        });
    }
    Ok(fields)
}

/// Reader of the fields of a block, in order.
pub(super) struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .expect("the block holds all fields");
        self.0 = rest;
        *field
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

pub(super) struct Writer<'a>(pub(super) &'a mut [u8; PAGE_BYTES], pub(super) usize);

impl Writer<'_> {
    pub(super) fn put(&mut self, field: &[u8]) {
        self.0[self.1..][..field.len()].copy_from_slice(field);
        self.1 += field.len();
    }
}

#[cfg(all(test, not(loom)))]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(heap: HeapName, generation: u64) -> Metadata {
        Metadata {
            store_id: StoreId(*b"0123456789abcdef"),
            heap,
            closed: false,
            part_bytes: 1 << 20,
            generation: Generation::new(generation).expect("above 0"),
            complete: true,
            revision: 3,
            payload_bytes: 5 * 4096,
            tree_root_hash: 77,
            last_sequence: Sequence::new(12),
            last_record_checksum: 99,
            first_journal: JournalNumber::new(2).expect("above 0"),
            end_sequence: None,
            committed_at: UNIX_EPOCH + Duration::from_nanos(1),
            min_base_generation: Generation::FIRST,
        }
    }

    fn area(copies: [Option<Metadata>; 2]) -> Vec<u8> {
        let mut area = vec![0; METADATA_BYTES as usize];
        for (half, copy) in area.chunks_exact_mut(HALF_BYTES as usize).zip(copies) {
            if let Some(copy) = copy {
                half[..PAGE_BYTES].copy_from_slice(&copy.encode());
            }
        }
        area
    }

    #[test]
    fn encoding_and_decoding_round_trip() {
        let metadata = sample(HeapName::B, 9);
        assert_eq!(Metadata::decode(&metadata.encode()), Ok(metadata));
        let closed = Metadata {
            closed: true,
            end_sequence: Some(Sequence::new(15)),
            ..metadata
        };
        assert_eq!(Metadata::decode(&closed.encode()), Ok(closed));
    }

    #[test]
    fn flipped_bits_of_metadata_are_detected() {
        let good = sample(HeapName::A, 9);
        let mut bytes = area([Some(good), Some(good)]);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let copies = Copies::read(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(copies.state(), Some(good), "the other copy is valid");
            let (half, within) = (bit / 8 / HALF_BYTES as usize, bit / 8 % HALF_BYTES as usize);
            assert_eq!(
                copies.bad_beside_good().map(|(index, _)| index),
                (within < PAGE_BYTES).then_some(half),
                "{bit}"
            );
        }
    }

    #[test]
    fn i08_highest_generation_wins_then_complete_beats_incomplete() {
        let old = sample(HeapName::A, 7);
        let incomplete = Metadata {
            complete: false,
            ..sample(HeapName::A, 9)
        };
        let new = sample(HeapName::A, 9);
        let rewritten = Metadata { revision: 4, ..new };
        for (copies, holds) in [
            ([Some(old), Some(incomplete)], Some(incomplete)),
            ([Some(incomplete), Some(old)], Some(incomplete)),
            ([Some(new), Some(incomplete)], Some(new)),
            ([Some(incomplete), Some(new)], Some(new)),
            ([Some(new), Some(rewritten)], Some(rewritten)),
            ([None, Some(old)], Some(old)),
            ([None, None], None),
        ] {
            assert_eq!(Copies::read(&area(copies)).state(), holds);
        }
    }

    #[test]
    fn invalid_fields_are_named() {
        type Damage = fn(&mut Metadata);
        let invalid: [(Damage, &str); 10] = [
            (|it| it.part_bytes = 4096, "part_bytes"),
            (|it| it.part_bytes = 0, "part_bytes"),
            (
                |it| it.generation = NUMBERS_END.try_into().expect("above 0"),
                "generation",
            ),
            (|it| it.revision = u64::MAX, "revision"),
            (|it| it.last_sequence = NUMBERS_END.into(), "last_sequence"),
            (
                |it| it.first_journal = u64::MAX.try_into().expect("above 0"),
                "first_journal",
            ),
            (|it| it.payload_bytes = 100, "payload_bytes"),
            (|it| it.payload_bytes = u64::MAX - 4095, "payload_bytes"),
            (|it| it.end_sequence = Some(1.into()), "end_sequence"),
            (
                |it| (it.closed, it.end_sequence) = (true, Some(11.into())),
                "end_sequence",
            ),
        ];
        for (change, name) in invalid {
            let mut bad = sample(HeapName::A, 9);
            change(&mut bad);
            let found = Metadata::decode(&bad.encode());
            assert!(
                matches!(found, Err(HeaderError::InvalidField { field, .. }) if field == name),
                "{found:?}"
            );
        }
    }

    #[test]
    fn zero_is_an_invalid_number_of_a_state_or_file() {
        for (offset, name) in [
            (48, "generation"),
            (104, "first_journal"),
            (128, "min_base_generation"),
        ] {
            let mut block = sample(HeapName::A, 9).encode();
            block[offset..offset + 8].fill(0);
            write_checksum(&mut block);
            assert_eq!(
                Metadata::decode(&block),
                Err(HeaderError::InvalidField {
                    field: name,
                    found: 0
                })
            );
        }
    }

    #[test]
    fn unsupported_versions_and_page_sizes_are_named() {
        let mut block = sample(HeapName::A, 9).encode();
        block[8] = 2;
        write_checksum(&mut block);
        assert_eq!(
            Metadata::decode(&block),
            Err(HeaderError::UnsupportedVersion { found: 2 })
        );
        let mut block = sample(HeapName::A, 9).encode();
        block[13] = 0x40;
        write_checksum(&mut block);
        assert!(matches!(
            Metadata::decode(&block),
            Err(HeaderError::InvalidField {
                field: "page size",
                ..
            })
        ));
        assert_eq!(Metadata::decode(&[0; PAGE_BYTES]), Err(HeaderError::Zeroed));
        assert_eq!(
            Metadata::decode(&[1; PAGE_BYTES]),
            Err(HeaderError::BadMagic)
        );
    }
}
