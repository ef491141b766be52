//! Files of a store, generated from arbitrary bytes by docs/file-format.md alone.
//!
//! Zeros, or no bytes, generate a correct store: a heap, its tree, and journal records. Other bytes
//! change fields of METADATA, entries of the tree, and headers and bodies of records before their
//! checksums are computed; afterwards they change bytes and lengths of files. So decoders mostly
//! see wrong values under correct checksums.

use std::collections::BTreeMap;

use flatspan::snapshot::{HeapName, JournalNumber, LogicalFile};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed, xxh3_128};

pub(crate) const PAGE_BYTES: usize = 4096;
pub(crate) const PART_BYTES: u64 = 64 << 10;

const METADATA_BYTES: usize = 64 << 10;
const STORE: [u8; 16] = *b"a store of fuzz!";
const JOURNAL_ID: u64 = 77;
const FAN: usize = 512;

/// Bytes of each logical file, and the states that a reader may return.
pub(crate) struct StoreFiles {
    pub(crate) arrays: BTreeMap<LogicalFile, Vec<u8>>,
    /// Memory of the heap, then after each record. `None` if wrong bytes have a correct checksum.
    states: Option<Vec<Vec<u8>>>,
    /// Whether nothing was changed.
    is_unchanged: bool,
}

impl StoreFiles {
    /// Returns whether wrong bytes have a correct checksum.
    pub(crate) fn has_wrong_checksums(&self) -> bool {
        self.states.is_none()
    }

    /// Returns whether a reader may return this state. An unchanged store must return the last
    /// state; a changed one may return any state or none.
    pub(crate) fn may_return(&self, memory: Option<&[u8]>) -> bool {
        let Some(states) = &self.states else {
            return true;
        };
        match memory {
            Some(memory) if self.is_unchanged => states.last().is_some_and(|last| last == memory),
            Some(memory) => states.iter().any(|state| state == memory),
            None => !self.is_unchanged,
        }
    }
}

pub(crate) fn store_files(data: &[u8]) -> StoreFiles {
    let mut input = Input {
        rest: data,
        is_used: false,
    };
    // Some of the pages are in a second part.
    let pages = 20 + usize::from(input.size(20));
    let mut memory: Vec<u8> = (0..pages)
        .flat_map(|page| [page as u8; PAGE_BYTES])
        .collect();
    let (root, table) = tree(&mut input, &memory);
    let mut heap = metadata(&mut input, memory.len() as u64, root);
    heap.extend_from_slice(&memory);
    let mut states = vec![memory.clone()];
    let journal = journal(&mut input, &mut memory, &mut states);
    let mut arrays = BTreeMap::from([
        (LogicalFile::Heap(HeapName::A), heap),
        (LogicalFile::Table(HeapName::A), table),
        (LogicalFile::Journal(JournalNumber::FIRST), journal),
    ]);
    let states = (!input.is_used).then_some(states);
    corrupt(&mut input, &mut arrays);
    StoreFiles {
        arrays,
        states,
        is_unchanged: !input.is_used,
    }
}

fn seed() -> u64 {
    let (words, _) = STORE.as_chunks::<8>();
    u64::from_le_bytes(words[0])
}

fn hash(bytes: &[u8]) -> u64 {
    if bytes.iter().all(|byte| *byte == 0) {
        0
    } else {
        xxh3_64_with_seed(bytes, seed()).max(1)
    }
}

/// Builds the tree from the first block of each level; their indexes in the table are 3, 2, 1, 0.
fn tree(input: &mut Input<'_>, memory: &[u8]) -> (u64, Vec<u8>) {
    let mut entries: Vec<u64> = memory.chunks(PAGE_BYTES).map(hash).collect();
    let mut blocks = Vec::new();
    let mut root = 0;
    for _level in 0..4 {
        entries.resize(FAN, 0);
        for _ in 0..input.few() {
            let at = usize::from(input.byte()) * 2;
            entries[at] = input.word();
        }
        let block: Vec<u8> = entries
            .iter()
            .flat_map(|entry| entry.to_le_bytes())
            .collect();
        root = hash(&block);
        entries = vec![root];
        blocks.push(block);
    }
    blocks.reverse();
    (root, blocks.concat())
}

/// Builds both copies, and fills the rest of their halves.
fn metadata(input: &mut Input<'_>, payload_bytes: u64, root: u64) -> Vec<u8> {
    let (part, generation, released, revision) = (PART_BYTES, 5, 1, 1);
    let (sequence, chain, journal, end, time, floor) = (0, 0, 1, 0, 1, 1);
    let mut words = [
        part,
        generation,
        released,
        revision,
        payload_bytes,
        root,
        sequence,
        chain,
        journal,
        end,
        time,
        floor,
    ];
    let mut area = Vec::new();
    for _copy in 0..2 {
        for _ in 0..input.few() {
            let at = usize::from(input.byte()) % words.len();
            words[at] = input.word();
        }
        let mut block = Vec::from(*b"FLATSPAN");
        block.extend(1_u32.to_le_bytes());
        block.extend((PAGE_BYTES as u32).to_le_bytes());
        block.extend(STORE);
        block.extend(u32::from(input.few() & 1).to_le_bytes());
        block.extend(u32::from(input.few() & 1).to_le_bytes());
        block.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        area.extend(sealed(block));
        area.resize(area.len().next_multiple_of(METADATA_BYTES / 2), 0);
    }
    area
}

/// Extends the block to a page, and puts its checksum at the end.
fn sealed(mut block: Vec<u8>) -> Vec<u8> {
    block.resize(PAGE_BYTES - 16, 0);
    block.extend(xxh3_128(&block).to_le_bytes());
    block
}

/// Builds a header and at least two records. Adds the memory after each record to `states` if the
/// records are correct.
fn journal(input: &mut Input<'_>, memory: &mut [u8], states: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let mut header = Vec::from(*b"FLATJRNL");
    header.extend(1_u32.to_le_bytes());
    header.extend([0; 4]);
    header.extend(STORE);
    header.extend(1_u64.to_le_bytes());
    header.extend(JOURNAL_ID.to_le_bytes());
    let mut out = sealed(header);
    let mut chain = 0;
    for sequence in 1..=2 + u64::from(input.few()) {
        let body = body(input, sequence, memory);
        chain = record(input, sequence, chain, &body, &mut out);
        states.push(memory.to_vec());
    }
    out
}

/// Builds a body with bytes for one range and zeros for another.
fn body(input: &mut Input<'_>, sequence: u64, memory: &mut [u8]) -> Vec<u8> {
    let (at, zeros) = (sequence as usize * 5000, sequence as usize * 9000);
    memory[at..at + 8].copy_from_slice(b"changed!");
    memory[zeros..zeros + 100].fill(0);
    let mut words = [
        memory.len() as u64,
        2,
        at as u64,
        8,
        zeros as u64,
        100 | 1 << 63,
        u64::from_le_bytes(*b"changed!"),
    ];
    for _ in 0..input.few() {
        let at = usize::from(input.byte()) % words.len();
        words[at] = input.word();
    }
    let words = words.iter().take(words.len() - usize::from(input.few()));
    words.flat_map(|word| word.to_le_bytes()).collect()
}

/// Appends a record with a correct checksum, and returns the checksum.
fn record(input: &mut Input<'_>, sequence: u64, chain: u64, body: &[u8], out: &mut Vec<u8>) -> u64 {
    let kind = 1 + input.few();
    let last = 1 ^ (input.few() & 1);
    let mut words = [body.len() as u64, sequence, 5, 1, sequence - 1, chain];
    for _ in 0..input.few() {
        let at = usize::from(input.byte()) % words.len();
        words[at] = input.word();
    }
    let mut header = Vec::from(*b"FSRC");
    header.extend([kind, last, 0, 0]);
    header.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let mut checksum = Xxh3::with_seed(JOURNAL_ID);
    checksum.update(&header);
    checksum.update(body);
    let checksum = checksum.digest();
    header.extend(checksum.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(body);
    checksum
}

/// Changes bytes, truncates files and removes them, without updating checksums.
fn corrupt(input: &mut Input<'_>, arrays: &mut BTreeMap<LogicalFile, Vec<u8>>) {
    for _ in 0..input.few() {
        let index = usize::from(input.byte()) % arrays.len();
        let bytes = arrays.values_mut().nth(index).expect("one of them");
        let at = input.word() as usize % (bytes.len() + 1);
        match input.byte() {
            0 => bytes.truncate(at),
            1 => bytes.resize(at + bytes.len(), 0),
            byte => bytes[at..]
                .iter_mut()
                .take(1)
                .for_each(|place| *place ^= byte),
        }
    }
}

/// Rest of the input; zeros follow its end.
struct Input<'a> {
    rest: &'a [u8],
    /// Whether the input requested any change.
    is_used: bool,
}

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => 0,
        }
    }

    fn size(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    /// Returns a small number, mostly zero, so that later parts are reached.
    fn few(&mut self) -> u8 {
        let few = match self.byte() {
            byte @ 240.. => byte % 4,
            _ => 0,
        };
        self.is_used |= few > 0;
        few
    }

    /// Returns a word that is small, near a power of two, or arbitrary.
    fn word(&mut self) -> u64 {
        let (form, byte) = (self.byte(), self.byte());
        match form % 4 {
            0 => u64::from(byte),
            1 => u64::from(byte) * PAGE_BYTES as u64,
            2 => (1_u64 << (byte % 64)).wrapping_sub(u64::from(form >> 4)),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }
}
