//! The checksum tree of a heap, read block by block as it is needed.
//!
//! Blocks are believed only when they have the hash that their parent has for them, up to the root in METADATA. What a
//! checkpoint changes is put together apart and joins the table when the checkpoint is committed (hazard 7).

use std::collections::{BTreeMap, HashMap};

use super::disk::{Array, Disk};
use super::error::{Damage, SnapshotError};
use super::format::{BlockId, FAN, HeapName, PAGE_BYTES, PAGES_MAX, ROOT, hash_page};
use super::page_set::PageSet;

type Block = Box<[u64; FAN as usize]>;

/// The hashes of one committed image.
#[derive(Debug)]
pub(crate) struct Table {
    heap: HeapName,
    seed: u64,
    root: u64,
    /// Present length of the array; what lies behind is zeros.
    len: u64,
    blocks: HashMap<BlockId, Block>,
}

/// The blocks that a checkpoint changes.
#[derive(Debug, Default)]
pub(crate) struct TableUpdate {
    pub(crate) root: u64,
    blocks: BTreeMap<u64, (BlockId, Block)>,
}

impl Table {
    pub(crate) fn open(
        disk: &dyn Disk,
        heap: HeapName,
        seed: u64,
        root: u64,
    ) -> Result<Self, SnapshotError> {
        let array = Array::Table(heap);
        let len = disk
            .len(array)
            .map_err(SnapshotError::disk("ask the length of", array))?;
        Ok(Self {
            heap,
            seed,
            root,
            len,
            blocks: HashMap::new(),
        })
    }

    /// The array with the pages.
    pub(crate) fn heap_array(&self) -> Array {
        Array::Heap(self.heap)
    }

    /// The hash of a page.
    pub(crate) fn hash_of(&mut self, disk: &dyn Disk, page: u64) -> Result<u64, SnapshotError> {
        let (leaf, at) = BlockId::of_page(page);
        Ok(self.block(disk, leaf)?[at])
    }

    /// The hashes of the pages that share a leaf with this one; the leaf begins at a multiple of [`FAN`].
    pub(crate) fn leaf(
        &mut self,
        disk: &dyn Disk,
        page: u64,
    ) -> Result<&[u64; FAN as usize], SnapshotError> {
        self.block(disk, BlockId::of_page(page).0)
    }

    fn block(
        &mut self,
        disk: &dyn Disk,
        id: BlockId,
    ) -> Result<&[u64; FAN as usize], SnapshotError> {
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

    fn load(&self, disk: &dyn Disk, id: BlockId, expected: u64) -> Result<Block, SnapshotError> {
        let mut block = Block::new([0; FAN as usize]);
        if expected == 0 {
            return Ok(block);
        }
        let array = Array::Table(self.heap);
        let mut bytes = [0; PAGE_BYTES];
        if id.offset() + PAGE_BYTES as u64 <= self.len {
            disk.read(array, id.offset(), &mut bytes)
                .map_err(SnapshotError::disk("read", array))?;
        }
        if hash_page(self.seed, &bytes) != expected {
            let (level, index) = (id.level, id.index);
            return Err(SnapshotError::Damaged {
                array,
                offset: id.offset(),
                what: Damage::Block { level, index },
            });
        }
        for (entry, bytes) in block.iter_mut().zip(bytes.as_chunks().0) {
            *entry = u64::from_le_bytes(*bytes);
        }
        Ok(block)
    }

    /// What becomes of the tree when these pages get these hashes.
    pub(crate) fn update(
        &mut self,
        disk: &dyn Disk,
        hashes: &BTreeMap<u64, u64>,
    ) -> Result<TableUpdate, SnapshotError> {
        let mut update = TableUpdate {
            root: self.root,
            blocks: BTreeMap::new(),
        };
        // Level by level: the entries that change, by block.
        let mut entries: BTreeMap<(BlockId, usize), u64> = hashes
            .iter()
            .map(|(page, hash)| (BlockId::of_page(*page), *hash))
            .collect();
        while !entries.is_empty() {
            let mut above = BTreeMap::new();
            let mut rest = entries.into_iter().peekable();
            while let Some(((id, at), hash)) = rest.next() {
                let mut block = Block::new(*self.block(disk, id)?);
                block[at] = hash;
                while let Some(((_, at), hash)) = rest.next_if(|((other, _), _)| *other == id) {
                    block[at] = hash;
                }
                let hash = hash_page(self.seed, &bytes_of(&block));
                match id.parent() {
                    Some(place) => {
                        above.insert(place, hash);
                    }
                    None => update.root = hash,
                }
                update.blocks.insert(id.position(), (id, block));
            }
            entries = above;
        }
        self.bridge(disk, &mut update)?;
        Ok(update)
    }

    /// Adds the blocks of short gaps, as they are: writing through them costs less than going round them.
    fn bridge(&mut self, disk: &dyn Disk, update: &mut TableUpdate) -> Result<(), SnapshotError> {
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

    /// The update is committed, in this heap.
    pub(crate) fn apply(&mut self, heap: HeapName, len: u64, update: TableUpdate) {
        self.heap = heap;
        self.len = len;
        self.root = update.root;
        self.blocks.extend(update.blocks.into_values());
    }

    /// It was copied to this heap.
    pub(crate) fn now_in(&mut self, heap: HeapName, len: u64) {
        self.heap = heap;
        self.len = len;
    }

    /// The pages that differ between two images of no more than so many pages: all of a block of `other` that
    /// is damaged.
    pub(crate) fn differences(
        &mut self,
        disk: &dyn Disk,
        other: &mut Self,
        pages: u64,
    ) -> Result<PageSet, SnapshotError> {
        let mut differ = PageSet::default();
        if self.root != other.root {
            self.compare(disk, other, ROOT, pages, &mut differ)?;
        }
        Ok(differ)
    }

    fn compare(
        &mut self,
        disk: &dyn Disk,
        other: &mut Self,
        id: BlockId,
        pages: u64,
        differ: &mut PageSet,
    ) -> Result<(), SnapshotError> {
        let ours = *self.block(disk, id)?;
        let pages_each = FAN.pow(u32::from(id.level));
        let first = id.index * FAN * pages_each;
        let theirs = match other.block(disk, id) {
            Ok(block) => *block,
            Err(SnapshotError::Damaged { .. }) => {
                differ.insert_range(first..pages.min(first + FAN * pages_each));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            if ours == theirs {
                continue;
            }
            let index = id.index * FAN + at as u64;
            match id.level.checked_sub(1) {
                None => differ.insert(index),
                Some(level) => {
                    let below = BlockId { level, index };
                    self.compare(disk, other, below, pages, differ)?;
                }
            }
        }
        Ok(())
    }
}

impl TableUpdate {
    /// Writes the blocks into the table of a heap, neighbours together. Returns how many bytes.
    pub(crate) fn write(&self, disk: &dyn Disk, heap: HeapName) -> Result<u64, SnapshotError> {
        const RUN_BYTES: usize = 1 << 20;
        let array = Array::Table(heap);
        let mut written = 0;
        let mut run = Vec::new();
        let mut blocks = self.blocks.iter().peekable();
        while let Some((position, (_, block))) = blocks.next() {
            run.extend_from_slice(&bytes_of(block));
            let next = blocks.peek().map(|(position, _)| **position);
            if next != Some(position + 1) || run.len() >= RUN_BYTES {
                let end = (position + 1) * PAGE_BYTES as u64;
                disk.write(array, end - run.len() as u64, &run)
                    .map_err(SnapshotError::disk("write", array))?;
                written += run.len() as u64;
                run.clear();
            }
        }
        Ok(written)
    }
}

fn bytes_of(block: &[u64; FAN as usize]) -> [u8; PAGE_BYTES] {
    let mut bytes = [0; PAGE_BYTES];
    for (place, entry) in bytes.as_chunks_mut().0.iter_mut().zip(block) {
        *place = entry.to_le_bytes();
    }
    bytes
}

const _: () = assert!(PAGES_MAX == FAN * FAN * FAN * FAN);

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::super::options::StoreOptions;
    use super::super::seeded::Recorder;
    use super::super::store::Store;
    use super::*;

    const SEED: u64 = 77;

    /// A table that is not there: no entry has a hash.
    fn blank(disk: &dyn Disk) -> Table {
        Table::open(disk, HeapName::A, SEED, 0).expect("its length")
    }

    /// With the tables of an empty store.
    fn disk() -> Arc<Recorder> {
        let disk = Arc::new(Recorder::unpublished(64 << 10));
        let options = StoreOptions::default().reserve_bytes(1 << 20);
        drop(Store::open_on(disk.clone(), options).expect("a store"));
        disk
    }

    fn commit(table: &mut Table, disk: &dyn Disk, hashes: &[(u64, u64)]) {
        let hashes = hashes.iter().copied().collect();
        let update = table.update(disk, &hashes).expect("an update");
        update.write(disk, HeapName::A).expect("written");
        let len = disk.len(Array::Table(HeapName::A)).expect("its length");
        table.apply(HeapName::A, len, update);
    }

    #[test]
    fn h07_hashes_in_memory_change_when_the_checkpoint_is_committed_and_not_before() {
        let disk = &*disk();
        let mut table = blank(disk);
        commit(&mut table, disk, &[(3, 30), (600, 60)]);
        let root = table.root;
        let update = table.update(disk, &BTreeMap::from([(3, 31), (4, 40)]));
        let update = update.expect("an update");
        assert_ne!(update.root, root);
        let now =
            |table: &mut Table| [3, 4, 600].map(|page| table.hash_of(disk, page).expect("a hash"));
        assert_eq!((now(&mut table), table.root), ([30, 0, 60], root));
        // Given up: the next one is made of what is committed.
        drop(update);
        commit(&mut table, disk, &[(4, 41)]);
        assert_eq!(now(&mut table), [30, 41, 60]);
        let mut read = Table::open(disk, HeapName::A, SEED, table.root).expect("its length");
        assert_eq!(now(&mut read), [30, 41, 60]);
    }

    #[test]
    fn h07_a_longer_image_moves_no_block_of_the_shorter() {
        let disk = &*disk();
        let mut table = blank(disk);
        let fan = FAN;
        let mut known = Vec::new();
        for page in [0, 5, fan, 9 * fan, fan * fan - 1, fan * fan + 1] {
            let before: Vec<_> = table.blocks.keys().copied().collect();
            let places: Vec<_> = before.iter().map(|id| id.position()).collect();
            commit(&mut table, disk, &[(page, page + 1)]);
            known.push(page);
            let now: Vec<_> = before.iter().map(|id| id.position()).collect();
            assert_eq!(now, places);
            // Read again, from the root that METADATA would have.
            let mut read = Table::open(disk, HeapName::A, SEED, table.root).expect("its length");
            for page in &known {
                assert_eq!(read.hash_of(disk, *page).expect("a hash"), page + 1);
            }
        }
    }

    #[test]
    fn h07_a_block_is_believed_by_the_hash_above_it() {
        let disk = &*disk();
        let mut table = blank(disk);
        commit(&mut table, disk, &[(3, 30), (600, 60)]);
        let root = table.root;
        let leaf = BlockId::of_page(600).0;
        disk.write(Array::Table(HeapName::A), leaf.offset(), &[9; 8])
            .expect("written");
        let mut read = Table::open(disk, HeapName::A, SEED, root).expect("its length");
        assert_eq!(read.hash_of(disk, 3).expect("another leaf"), 30);
        let error = read.hash_of(disk, 600).expect_err("another block");
        assert!(
            matches!(
                &error,
                SnapshotError::Damaged {
                    what: Damage::Block { level: 0, index: 1 },
                    ..
                }
            ),
            "{error}"
        );
        // Another root, another table.
        let mut other = Table::open(disk, HeapName::A, SEED, root ^ 1).expect("its length");
        let error = other.hash_of(disk, 3).expect_err("another root");
        assert!(
            matches!(
                &error,
                SnapshotError::Damaged {
                    what: Damage::Block { level: 3, .. },
                    ..
                }
            ),
            "{error}"
        );
    }
}
