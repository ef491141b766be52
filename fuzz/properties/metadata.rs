//! Blocks of METADATA and headers of journal files: what is taken for good is what would be written for it, byte by byte.
//!
//! Included by the fuzz target and by `tests/format`, each of which has the format as `crate::format`. The input is such
//! blocks; each is looked at as it is, and with its begin and its checksum mended.

use xxhash_rust::xxh3::xxh3_128;

use crate::format::{Copies, HALF_BYTES, JournalHeader, METADATA_BYTES, Metadata, PAGE_BYTES};

type Block = [u8; PAGE_BYTES];

const CHECKSUM_AT: usize = PAGE_BYTES - 16;

/// Panics if `data` breaks the property; whether any of it was taken for good.
pub(crate) fn check(data: &[u8]) -> bool {
    let mut blocks = data.chunks(PAGE_BYTES).map(padded);
    let first = blocks.next().unwrap_or([0; PAGE_BYTES]);
    let second = blocks.next().unwrap_or(first);
    let mut good = false;
    for magic in [b"FLATSPAN", b"FLATJRNL"] {
        for block in [
            first,
            mended(first, magic, false),
            mended(first, magic, true),
        ] {
            good |= check_block(&block);
        }
    }
    check_copies(first, second);
    let mend = |block| mended(block, b"FLATSPAN", true);
    check_copies(mend(first), second);
    check_copies(mend(first), mend(second));
    good
}

fn padded(bytes: &[u8]) -> Block {
    let mut block = [0; PAGE_BYTES];
    block[..bytes.len()].copy_from_slice(bytes);
    block
}

/// With a good checksum, and if asked for with the fields that every block must have.
fn mended(mut block: Block, magic: &[u8; 8], fields: bool) -> Block {
    block[..8].copy_from_slice(magic);
    if fields {
        block[8..12].copy_from_slice(&1_u32.to_le_bytes());
        if magic == b"FLATSPAN" {
            block[12..16].copy_from_slice(&(PAGE_BYTES as u32).to_le_bytes());
            block[136..CHECKSUM_AT].fill(0);
        } else {
            block[12..16].fill(0);
            block[48..CHECKSUM_AT].fill(0);
        }
    }
    let checksum = xxh3_128(&block[..CHECKSUM_AT]);
    block[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    block
}

fn check_block(block: &Block) -> bool {
    let metadata = Metadata::decode(block);
    if let Ok(metadata) = &metadata {
        assert!(metadata.encode() == *block, "{metadata:?}");
        assert!((1..=metadata.generation).contains(&metadata.floor));
        assert!(metadata.payload_bytes.is_multiple_of(PAGE_BYTES as u64));
        assert!(!metadata.closed || metadata.released);
    }
    let header = JournalHeader::decode(block);
    if let Ok(header) = &header {
        assert!(header.encode() == *block, "{header:?}");
    }
    metadata.is_ok() || header.is_ok()
}

/// Of two copies the one that holds is valid, and no other ranks higher.
fn check_copies(first: Block, second: Block) {
    let mut area = vec![0; METADATA_BYTES as usize];
    for (offset, block) in [(0, first), (HALF_BYTES as usize, second)] {
        area[offset..offset + PAGE_BYTES].copy_from_slice(&block);
    }
    let copies = Copies::read(&area);
    let valid: Vec<_> = copies.0.iter().filter_map(|copy| copy.ok()).collect();
    let Some(state) = copies.state() else {
        return assert!(valid.is_empty());
    };
    assert!(valid.contains(&state));
    assert!(valid.iter().all(|copy| copy.generation <= state.generation));
}
