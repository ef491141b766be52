//! Checksum tree of a heap. Its blocks are read on demand.
//!
//! A block is accepted only if it matches the hash in its parent, up to the root hash in METADATA.
//! The changes of a checkpoint are collected in a [`TreeUpdate`] and applied after the commit [I7].

use std::collections::{BTreeMap, HashMap};

use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::{CorruptionCause, StoreError};
use crate::snapshot::file_names::LogicalFile;
use crate::snapshot::format::{BlockId, FAN, HeapName, PAGE_BYTES, PAGES_MAX, ROOT, hash_page};
use crate::snapshot::page_set::PageSet;

type Block = Box<[u64; FAN as usize]>;

/// Page hashes of one committed heap.
#[derive(Debug)]
pub(crate) struct ChecksumTree {
    heap: HeapName,
    seed: u64,
    root: u64,
    /// Present length of the table file. Blocks after it are zeros.
    len: u64,
    blocks: HashMap<BlockId, Block>,
}

/// Blocks that a checkpoint changes.
#[derive(Debug, Default)]
pub(crate) struct TreeUpdate {
    pub(crate) root: u64,
    blocks: BTreeMap<u64, (BlockId, Block)>,
}

impl ChecksumTree {
    /// Opens the tree of a heap with this root hash.
    pub(crate) fn open(
        disk: &dyn StorageBackend,
        heap: HeapName,
        seed: u64,
        root: u64,
    ) -> Result<Self, StoreError> {
        let array = LogicalFile::Table(heap);
        let len = disk
            .len(array)
            .map_err(StoreError::disk("get the length of", array))?;
        Ok(Self {
            heap,
            seed,
            root,
            len,
            blocks: HashMap::new(),
        })
    }

    /// Returns the file with the pages of the tree.
    pub(crate) fn heap_file(&self) -> LogicalFile {
        LogicalFile::Heap(self.heap)
    }

    /// Returns the hash of a page.
    pub(crate) fn hash_of(
        &mut self,
        disk: &dyn StorageBackend,
        page: u64,
    ) -> Result<u64, StoreError> {
        let (leaf, at) = BlockId::of_page(page);
        Ok(self.block(disk, leaf)?[at])
    }

    /// Returns the hashes in the leaf of a page. The first page of a leaf is a multiple of [`FAN`].
    pub(crate) fn leaf(
        &mut self,
        disk: &dyn StorageBackend,
        page: u64,
    ) -> Result<&[u64; FAN as usize], StoreError> {
        self.block(disk, BlockId::of_page(page).0)
    }

    fn block(
        &mut self,
        disk: &dyn StorageBackend,
        id: BlockId,
    ) -> Result<&[u64; FAN as usize], StoreError> {
        if !self.blocks.contains_key(&id) {
            let expected = match id.parent() {
                Some((parent, at)) => self.block(disk, parent)?[at],
                None => self.root,
            };
            let block = self.load(disk, id, expected)?;
            self.blocks.insert(id, block);
        }
        Ok(&self.blocks[&id])
    }

    fn load(
        &self,
        disk: &dyn StorageBackend,
        id: BlockId,
        expected: u64,
    ) -> Result<Block, StoreError> {
        let mut block = Block::new([0; FAN as usize]);
        if expected == 0 {
            return Ok(block);
        }
        let array = LogicalFile::Table(self.heap);
        let mut bytes = [0; PAGE_BYTES];
        if id.offset() + PAGE_BYTES as u64 <= self.len {
            disk.read(array, id.offset(), &mut bytes)
                .map_err(StoreError::disk("read", array))?;
        }
        if hash_page(self.seed, &bytes) != expected {
            let (level, index) = (id.level, id.index);
            return Err(StoreError::Corrupt {
                file: array,
                offset: id.offset(),
                cause: CorruptionCause::TreeBlockChecksum { level, index },
            });
        }
        for (entry, bytes) in block.iter_mut().zip(bytes.as_chunks().0) {
            *entry = u64::from_le_bytes(*bytes);
        }
        Ok(block)
    }

    /// Returns the blocks and the root hash that the tree has with new hashes for some pages.
    pub(crate) fn update(
        &mut self,
        disk: &dyn StorageBackend,
        hashes: &BTreeMap<u64, u64>,
    ) -> Result<TreeUpdate, StoreError> {
        let mut update = TreeUpdate {
            root: self.root,
            blocks: BTreeMap::new(),
        };
        // Changed entries of one level, by block.
        let mut entries: BTreeMap<(BlockId, usize), u64> = hashes
            .iter()
            .map(|(page, hash)| (BlockId::of_page(*page), *hash))
            .collect();
        while !entries.is_empty() {
            let mut parents = BTreeMap::new();
            let mut rest = entries.into_iter().peekable();
            while let Some(((id, at), hash)) = rest.next() {
                let mut block = Block::new(*self.block(disk, id)?);
                block[at] = hash;
                while let Some(((_, at), hash)) = rest.next_if(|((other, _), _)| *other == id) {
                    block[at] = hash;
                }
                let hash = hash_page(self.seed, &bytes_of(&block));
                match id.parent() {
                    Some(entry) => {
                        parents.insert(entry, hash);
                    }
                    None => update.root = hash,
                }
                update.blocks.insert(id.position(), (id, block));
            }
            entries = parents;
        }
        self.fill_short_gaps(disk, &mut update)?;
        Ok(update)
    }

    /// Adds the unchanged blocks of short gaps, so that one write covers the blocks on both sides.
    fn fill_short_gaps(
        &mut self,
        disk: &dyn StorageBackend,
        update: &mut TreeUpdate,
    ) -> Result<(), StoreError> {
        const GAP_BLOCKS: u64 = 8;
        let leaves = update.blocks.values().map(|(id, _)| *id);
        let leaves: Vec<_> = leaves.filter(|id| id.level == 0).collect();
        for pair in leaves.windows(2) {
            let gap = pair[0].index + 1..pair[1].index;
            if gap.end - gap.start > GAP_BLOCKS {
                continue;
            }
            for index in gap {
                let id = BlockId { level: 0, index };
                let block = Block::new(*self.block(disk, id)?);
                update.blocks.insert(id.position(), (id, block));
            }
        }
        Ok(())
    }

    /// Applies an update that was committed in `heap`.
    pub(crate) fn apply(&mut self, heap: HeapName, len: u64, update: TreeUpdate) {
        self.heap = heap;
        self.len = len;
        self.root = update.root;
        self.blocks.extend(update.blocks.into_values());
    }

    /// Records that the tree was copied to `heap`.
    pub(crate) fn moved_to(&mut self, heap: HeapName, len: u64) {
        self.heap = heap;
        self.len = len;
    }

    /// Returns the pages below `pages` that differ between two heaps. Includes every page under a
    /// corrupt block of `other`.
    pub(crate) fn differences(
        &mut self,
        disk: &dyn StorageBackend,
        other: &mut Self,
        pages: u64,
    ) -> Result<PageSet, StoreError> {
        let mut differ = PageSet::default();
        if self.root != other.root {
            self.compare(disk, other, ROOT, pages, &mut differ)?;
        }
        Ok(differ)
    }

    fn compare(
        &mut self,
        disk: &dyn StorageBackend,
        other: &mut Self,
        id: BlockId,
        pages: u64,
        differ: &mut PageSet,
    ) -> Result<(), StoreError> {
        let block = *self.block(disk, id)?;
        let pages_each = FAN.pow(u32::from(id.level));
        let first = id.index * FAN * pages_each;
        let other_block = match other.block(disk, id) {
            Ok(block) => *block,
            Err(StoreError::Corrupt { .. }) => {
                differ.insert_range(first..pages.min(first + FAN * pages_each));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for (at, (hash, other_hash)) in block.iter().zip(&other_block).enumerate() {
            if hash == other_hash {
                continue;
            }
            let index = id.index * FAN + at as u64;
            match id.level.checked_sub(1) {
                None => differ.insert(index),
                Some(level) => {
                    let child = BlockId { level, index };
                    self.compare(disk, other, child, pages, differ)?;
                }
            }
        }
        Ok(())
    }
}

impl TreeUpdate {
    /// Writes the blocks to the table file of a heap, adjacent blocks by one call. Returns the
    /// number of bytes written.
    pub(crate) fn write(
        &self,
        disk: &dyn StorageBackend,
        heap: HeapName,
    ) -> Result<u64, StoreError> {
        const RUN_BYTES: usize = 1 << 20;
        let array = LogicalFile::Table(heap);
        let mut written = 0;
        let mut run = Vec::new();
        let mut blocks = self.blocks.iter().peekable();
        while let Some((position, (_, block))) = blocks.next() {
            run.extend_from_slice(&bytes_of(block));
            let next = blocks.peek().map(|(position, _)| **position);
            if next != Some(position + 1) || run.len() >= RUN_BYTES {
                let end = (position + 1) * PAGE_BYTES as u64;
                disk.write(array, end - run.len() as u64, &run)
                    .map_err(StoreError::disk("write", array))?;
                written += run.len() as u64;
                run.clear();
            }
        }
        Ok(written)
    }
}

fn bytes_of(block: &[u64; FAN as usize]) -> [u8; PAGE_BYTES] {
    let mut bytes = [0; PAGE_BYTES];
    for (bytes, entry) in bytes.as_chunks_mut().0.iter_mut().zip(block) {
        *bytes = entry.to_le_bytes();
    }
    bytes
}

const _: () = assert!(PAGES_MAX == FAN * FAN * FAN * FAN);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::snapshot::testing::Recorder;

    const SEED: u64 = 77;

    /// Returns a tree without hashes.
    fn blank(disk: &dyn StorageBackend) -> ChecksumTree {
        ChecksumTree::open(disk, HeapName::A, SEED, 0).expect("the file exists")
    }

    /// Returns a backend with an empty table file.
    fn disk() -> Recorder {
        let disk = Recorder::unpublished(64 << 10);
        disk.create(LogicalFile::Table(HeapName::A))
            .expect("the file is new");
        disk
    }

    fn commit(tree: &mut ChecksumTree, disk: &dyn StorageBackend, hashes: &[(u64, u64)]) {
        let hashes = hashes.iter().copied().collect();
        let update = tree.update(disk, &hashes).expect("the tree is readable");
        update.write(disk, HeapName::A).expect("the backend works");
        let len = disk
            .len(LogicalFile::Table(HeapName::A))
            .expect("the file exists");
        tree.apply(HeapName::A, len, update);
    }

    #[test]
    fn i07_hashes_in_memory_change_at_the_commit() {
        let disk = &disk();
        let mut tree = blank(disk);
        commit(&mut tree, disk, &[(3, 30), (600, 60)]);
        let root = tree.root;
        let update = tree.update(disk, &BTreeMap::from([(3, 31), (4, 40)]));
        let update = update.expect("the tree is readable");
        assert_ne!(update.root, root);
        let now = |tree: &mut ChecksumTree| {
            [3, 4, 600].map(|page| tree.hash_of(disk, page).expect("the tree is readable"))
        };
        assert_eq!((now(&mut tree), tree.root), ([30, 0, 60], root));
        // The next update starts from the committed tree.
        drop(update);
        commit(&mut tree, disk, &[(4, 41)]);
        assert_eq!(now(&mut tree), [30, 41, 60]);
        let mut read =
            ChecksumTree::open(disk, HeapName::A, SEED, tree.root).expect("the file exists");
        assert_eq!(now(&mut read), [30, 41, 60]);
    }

    #[test]
    fn i07_growth_moves_no_block() {
        let disk = &disk();
        let mut tree = blank(disk);
        let fan = FAN;
        let mut known = Vec::new();
        for page in [0, 5, fan, 9 * fan, fan * fan - 1, fan * fan + 1] {
            let before: Vec<_> = tree.blocks.keys().copied().collect();
            let positions: Vec<_> = before.iter().map(|id| id.position()).collect();
            commit(&mut tree, disk, &[(page, page + 1)]);
            known.push(page);
            let now: Vec<_> = before.iter().map(|id| id.position()).collect();
            assert_eq!(now, positions);
            // Open the tree with the root hash that METADATA would have.
            let mut read =
                ChecksumTree::open(disk, HeapName::A, SEED, tree.root).expect("the file exists");
            for page in &known {
                assert_eq!(
                    read.hash_of(disk, *page).expect("the tree is readable"),
                    page + 1
                );
            }
        }
    }

    #[test]
    fn i07_a_block_is_verified_by_the_hash_in_its_parent() {
        let disk = &disk();
        let mut tree = blank(disk);
        commit(&mut tree, disk, &[(3, 30), (600, 60)]);
        let root = tree.root;
        let leaf = BlockId::of_page(600).0;
        disk.write(LogicalFile::Table(HeapName::A), leaf.offset(), &[9; 8])
            .expect("the backend works");
        let mut read = ChecksumTree::open(disk, HeapName::A, SEED, root).expect("the file exists");
        assert_eq!(read.hash_of(disk, 3).expect("the block is intact"), 30);
        let error = read.hash_of(disk, 600).expect_err("the block is corrupt");
        assert!(
            matches!(
                &error,
                StoreError::Corrupt {
                    cause: CorruptionCause::TreeBlockChecksum { level: 0, index: 1 },
                    ..
                }
            ),
            "{error}"
        );
        // A wrong root hash.
        let mut other =
            ChecksumTree::open(disk, HeapName::A, SEED, root ^ 1).expect("the file exists");
        let error = other.hash_of(disk, 3).expect_err("the root hash is wrong");
        assert!(
            matches!(
                &error,
                StoreError::Corrupt {
                    cause: CorruptionCause::TreeBlockChecksum { level: 3, .. },
                    ..
                }
            ),
            "{error}"
        );
    }
}
