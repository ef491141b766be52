//! The pin blocks of a cache, which are used again and never freed.
//!
//! The pool has as many blocks as mappings existed at once, and at most a third more. A lookup
//! takes no lock.

use std::sync::{OnceLock, PoisonError};

use super::pin_block::{Address, BlockId, CHUNK_BLOCKS_MAX, CHUNKS, PinBlock};
use crate::mapping_cache::sync::{Mutex, MutexGuard};

const FIRST_CHUNK_BLOCKS: usize = if cfg!(loom) { 2 } else { 16 };

#[derive(Debug)]
pub(in crate::mapping_cache) struct PinPool {
    /// Index zero is unused.
    chunks: [OnceLock<Box<[PinBlock]>>; CHUNKS],
    free: Mutex<FreeBlocks>,
}

#[derive(Debug)]
struct FreeBlocks {
    ids: Vec<BlockId>,
    chunks: usize,
    blocks: usize,
}

impl PinPool {
    pub(in crate::mapping_cache) fn new() -> Self {
        let pool = Self {
            chunks: std::array::from_fn(|_| OnceLock::new()),
            free: Mutex::new(FreeBlocks {
                ids: Vec::new(),
                chunks: 0,
                blocks: 0,
            }),
        };
        if cfg!(loom) {
            // loom does not model the ordering of OnceLock.
            pool.grow(&mut pool.lock());
        }
        pool
    }

    /// Returns the block with this id.
    #[inline(always)]
    pub(in crate::mapping_cache) fn get(&self, id: BlockId) -> &PinBlock {
        let chunk = self.chunks[id.chunk()].get();
        &chunk.expect("blocks have a chunk")[id.index()]
    }

    /// Returns a free block, prepared for a mapping at this address.
    pub(in crate::mapping_cache) fn allocate(&self, address: Address) -> &PinBlock {
        let mut free = self.lock();
        if free.ids.is_empty() {
            self.grow(&mut free);
        }
        let id = free.ids.pop().expect("the pool has grown");
        drop(free);
        let block = self.get(id);
        block.set_address(address);
        block
    }

    /// Returns a block to the pool. The caller has unmapped the mapping.
    pub(super) fn release(&self, id: BlockId) {
        self.lock().ids.push(id);
    }

    /// Returns how many pins found their window mapped.
    pub(in crate::mapping_cache) fn hits(&self) -> u64 {
        let chunks = self.chunks.iter().filter_map(OnceLock::get);
        let blocks = chunks.flat_map(|chunk| chunk.iter());
        blocks.map(PinBlock::hits).sum()
    }

    #[cfg(all(test, not(loom)))]
    pub(in crate::mapping_cache) fn blocks(&self) -> usize {
        self.lock().blocks
    }

    fn grow(&self, free: &mut FreeBlocks) {
        let blocks = (free.blocks / 3).clamp(FIRST_CHUNK_BLOCKS, CHUNK_BLOCKS_MAX);
        let number = free.chunks + 1;
        // All chunks together have room for 600 million mappings at once.
        let id = |index| BlockId::new(number, index).expect("the pool has fewer blocks");
        let new: Box<[PinBlock]> = (0..blocks).map(|index| PinBlock::new(id(index))).collect();
        // In reverse, so that the first one is used first.
        free.ids.extend(new.iter().rev().map(PinBlock::id));
        free.chunks = number;
        free.blocks += blocks;
        self.chunks[number]
            .set(new)
            .expect("chunks are created under the lock");
    }

    fn lock(&self) -> MutexGuard<'_, FreeBlocks> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
