//! Positions of the blocks of the checksum tree, as arithmetic only.

use super::ids_and_hashes::PAGE_BYTES;

/// Entries of a block.
pub(crate) const FAN: u64 = 512;
/// Level of the root; leaves have level 0.
pub(crate) const ROOT_LEVEL: u8 = 3;
/// Number of pages that the tree covers.
pub(crate) const PAGES_MAX: u64 = FAN.pow(ROOT_LEVEL as u32 + 1);

/// Block of the tree, by its level and its number on that level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockId {
    pub(crate) level: u8,
    pub(crate) index: u64,
}

pub(crate) const ROOT: BlockId = BlockId {
    level: ROOT_LEVEL,
    index: 0,
};

impl BlockId {
    /// Leaf with the hash of a page, and the index of the entry.
    pub(crate) fn of_page(page: u64) -> (Self, usize) {
        let leaf = Self {
            level: 0,
            index: page / FAN,
        };
        // Lossless: less than the fan-out.
        (leaf, (page % FAN) as usize)
    }

    /// Block with the hash of this one, and the index of the entry; `None` for the root.
    pub(crate) fn parent(self) -> Option<(Self, usize)> {
        let parent = Self {
            level: self.level + 1,
            index: self.index / FAN,
        };
        (self.level < ROOT_LEVEL).then_some((parent, (self.index % FAN) as usize))
    }

    /// Position in the table file, in blocks. The order is preorder.
    pub(crate) fn position(self) -> u64 {
        // Three kinds of blocks precede it: those before it on its own level, those of lower levels
        // under these, and those of higher levels up to its ancestors.
        let below: u64 = (0..self.level)
            .map(|level| self.index * FAN.pow(u32::from(self.level - level)))
            .sum();
        let above: u64 = (self.level + 1..=ROOT_LEVEL)
            .map(|level| 1 + self.index / FAN.pow(u32::from(level - self.level)))
            .sum();
        self.index + below + above
    }

    /// Offset in the table file, in bytes.
    pub(crate) fn offset(self) -> u64 {
        self.position() * PAGE_BYTES as u64
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn id(level: u8, index: u64) -> BlockId {
        BlockId { level, index }
    }

    #[test]
    fn blocks_are_in_preorder_without_gaps() {
        // Walk through the first blocks of every level.
        let mut expected = vec![ROOT];
        'all: for two in 0.. {
            expected.push(id(2, two));
            for one in two * FAN..(two + 1) * FAN {
                expected.push(id(1, one));
                expected.extend((one * FAN..(one + 1) * FAN).map(|zero| id(0, zero)));
                if expected.len() > 600_000 {
                    break 'all;
                }
            }
        }
        for (position, block) in expected.into_iter().enumerate() {
            assert_eq!(block.position(), position as u64, "{block:?}");
        }
    }

    #[test]
    fn positions_match_the_format_document() {
        let fan = FAN;
        for j in [0, 1, 511, 512, 513, fan * fan - 1, fan * fan + 5] {
            let expected = 1 + (1 + j / (fan * fan)) + (1 + j / fan) + j;
            assert_eq!(id(0, j).position(), expected);
        }
        for j in [0, 1, 511, 512, 513, fan * fan - 1] {
            assert_eq!(id(1, j).position(), 1 + (1 + j / fan) + j * (1 + fan));
        }
        for j in [0, 1, 2, 511] {
            assert_eq!(id(2, j).position(), 1 + j * (1 + fan * (1 + fan)));
        }
    }

    #[test]
    fn parents_lead_to_the_root() {
        let (leaf, at) = BlockId::of_page(PAGES_MAX - 1);
        assert_eq!((leaf.index, at), (FAN.pow(3) - 1, 511));
        let (one, at) = leaf.parent().expect("a leaf has a parent");
        assert_eq!((one, at), (id(1, FAN.pow(2) - 1), 511));
        let (two, _) = one.parent().expect("only the root has no parent");
        let (root, at) = two.parent().expect("only the root has no parent");
        assert_eq!((root, at), (ROOT, 511));
        assert_eq!(root.parent(), None);
    }
}
