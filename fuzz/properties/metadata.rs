//! METADATA blocks and journal headers that are accepted equal the bytes that would be written for
//! them.
//!
//! The fuzz target and `tests/format` include this file; both have the format as `crate::format`.
//! The input consists of blocks. Each is parsed unchanged, and with a corrected start and checksum.

use xxhash_rust::xxh3::xxh3_128;

use crate::format::{Copies, HALF_BYTES, JournalHeader, METADATA_BYTES, Metadata, PAGE_BYTES};

type Block = [u8; PAGE_BYTES];

const CHECKSUM_AT: usize = PAGE_BYTES - 16;

/// Returns whether some of the input was accepted. Panics if `data` breaks the property.
pub(crate) fn check(data: &[u8]) -> bool {
    let mut blocks = data.chunks(PAGE_BYTES).map(padded);
    let first = blocks.next().unwrap_or([0; PAGE_BYTES]);
    let second = blocks.next().unwrap_or(first);
    let mut accepted = false;
    for magic in [b"FLATSPAN", b"FLATJRNL"] {
        for block in [
            first,
            corrected(first, magic, false),
            corrected(first, magic, true),
        ] {
            accepted |= check_block(&block);
        }
    }
    check_copies(first, second);
    let mend = |block| corrected(block, b"FLATSPAN", true);
    check_copies(mend(first), second);
    check_copies(mend(first), mend(second));
    accepted
}

fn padded(bytes: &[u8]) -> Block {
    let mut block = [0; PAGE_BYTES];
    block[..bytes.len()].copy_from_slice(bytes);
    block
}

/// Returns the block with a correct checksum, and if `fields` is set with the fields that every
/// block must have.
fn corrected(mut block: Block, magic: &[u8; 8], fields: bool) -> Block {
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
        assert!(metadata.min_base_generation <= metadata.generation);
        assert!(metadata.payload_bytes.is_multiple_of(PAGE_BYTES as u64));
        assert!(!metadata.closed || metadata.complete);
    }
    let header = JournalHeader::decode(block);
    if let Ok(header) = &header {
        assert!(header.encode() == *block, "{header:?}");
    }
    metadata.is_ok() || header.is_ok()
}

/// Asserts that the selected one of two copies is valid, and that no other ranks higher.
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
