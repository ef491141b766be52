//! Operations on all of a group, while no other thread works: hashes of all pieces, and budgets.

use flatspan::{
    mapping_cache::BudgetPolicy,
    span::{HashOptions, PieceAssembler, PieceHash, PieceHasher as _, Pieces, Sha1},
};

use super::scenario::Scenario;
use crate::content::Rng;

impl Scenario {
    /// Hashes all pieces of a group, and compares them with the model.
    pub(crate) fn hash_all(&mut self, rng: &mut Rng) {
        let number = rng.below(2) as usize;
        let group = self.groups[number].as_ref().expect("open");
        let len = 1000 + rng.below(200_000);
        let mut pieces = Pieces::new(group, len).expect("a length of a piece");
        if rng.percent(50) {
            #[expect(unsafe_code, reason = "no other thread works")]
            // SAFETY: nothing writes to the files while this thread hashes them.
            let in_place = unsafe { pieces.hash_in_place() };
            pieces = in_place;
        }
        let hashes = pieces.hash_all(&HashOptions::new()).expect("enough memory");
        assert_eq!(hashes.len(), pieces.count());
        for (piece, hash) in hashes.iter().enumerate() {
            let range = pieces.range(piece).expect("a piece");
            let mut bytes = Vec::new();
            let mut certain = 0;
            for part in self.model.plans[number].parts(&range) {
                let Some(stripe) = part.stripe else {
                    bytes.resize(bytes.len() + part.range.len(), 0);
                    certain += part.range.len();
                    continue;
                };
                let stripe = &self.model.stripes[stripe];
                let floor = self.model.files[stripe.file].floor();
                let end = stripe.start + part.range.end as u64;
                certain += if floor >= end { part.range.len() } else { 0 };
                bytes.extend(stripe.current().slice(part.range).bytes());
            }
            let mut expected = Sha1::default();
            expected.update(&bytes);
            match hash {
                PieceHash::Hashed(hash) => {
                    assert_eq!(*hash, expected.finish(), "piece {piece} of {len} bytes");
                }
                PieceHash::Failed(error) => {
                    assert!(
                        certain < bytes.len(),
                        "piece {piece} of {len} bytes: {error:?}"
                    );
                }
                other => panic!("piece {piece} was cancelled: {other:?}"),
            }
        }
        *self.tally.entry("hash_all".to_owned()).or_default() += 1;
    }

    /// Hashes a piece from blocks in any order.
    pub(crate) fn assemble(&self, rng: &mut Rng) {
        let group = self.groups[1].as_ref().expect("open");
        let pieces = Pieces::new(group, 20_000).expect("a length of a piece");
        let piece = rng.below(pieces.count() as u64) as usize;
        let range = pieces.range(piece).expect("a piece");
        let mut bytes = vec![0; (range.end - range.start) as usize];
        if group.read_exact_at(range.start, &mut bytes).is_err() {
            return;
        }
        let mut assembler: PieceAssembler = PieceAssembler::new(&pieces, piece).expect("a piece");
        let mut blocks: Vec<_> = bytes.chunks(3000).enumerate().collect();
        while !blocks.is_empty() {
            let next = rng.below(blocks.len() as u64) as usize;
            let (number, block) = blocks.swap_remove(next);
            let offset = range.start + 3000 * number as u64;
            assembler.push_block(offset, block).expect("inside");
        }
        let hash = pieces.hash(piece).expect("all bytes exist");
        assert_eq!(assembler.finish().expect("no gap"), hash);
    }

    /// No pin is left, and the budgets were kept.
    pub(crate) fn check_budgets(&self) {
        for open in &self.caches {
            let stats = open.cache.stats();
            assert_eq!(stats.pinned_mappings, 0, "{stats:?}");
            if open.policy == BudgetPolicy::Fail {
                assert_eq!(stats.over_budget_mappings, 0, "{stats:?}");
            }
            if stats.over_budget_mappings == 0 {
                let budget = open.budget_bytes;
                assert!(stats.mapped_bytes_max <= budget, "{budget}: {stats:?}");
            }
        }
    }
}
