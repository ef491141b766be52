//! Restoring a heap and the journal after it.

use super::restore_target::{apply, map, to_copy_into};
use crate::snapshot::backend::StorageBackend;
use crate::snapshot::error::StoreError;
use crate::snapshot::format::{Metadata, PAGE_BYTES};
use crate::snapshot::heap::{self, ChecksumTree};
use crate::snapshot::journal::{self, Replayed, Start};
use crate::snapshot::memory::pages_of;
use crate::snapshot::modes::Restore;
use crate::snapshot::options::{MemorySource, StoreOptions};
use crate::snapshot::page_set::PageSet;
use crate::snapshot::region::Region;

/// Restored heap and journal.
pub(super) struct Restored {
    pub(super) region: Region,
    pub(super) tree: ChecksumTree,
    /// Pages that the journal changed.
    pub(super) changed: PageSet,
    pub(super) replayed: Replayed,
    pub(super) is_verified: bool,
}

/// Restores a heap and replays the journal from `start`.
pub(super) fn restore_heap(
    disk: &dyn StorageBackend,
    metadata: &Metadata,
    start: Start,
    options: &StoreOptions,
) -> Result<Restored, StoreError> {
    let mut tree = ChecksumTree::open(
        disk,
        metadata.heap,
        metadata.seed(),
        metadata.tree_root_hash,
    )?;
    let is_mapped = options.restore == Restore::Map;
    let is_verified = !is_mapped || !metadata.closed;
    let region = if is_mapped {
        map(disk, metadata, options)?
    } else {
        to_copy_into(metadata.payload_bytes, options)?
    };
    let is_live = matches!(options.memory_source, MemorySource::Attach(_));
    if is_verified {
        let take = |page: u64, bytes: &[u8]| {
            if !is_mapped && !is_live {
                // Lossless: within the region.
                region.write_at(page as usize * PAGE_BYTES, bytes)?;
            }
            Ok(())
        };
        heap::read_image(disk, metadata, &mut tree, take, |_| ())?;
    }
    let mut changed = PageSet::default();
    let replayed = journal::replay(disk, start, |body| {
        if is_live {
            changed.insert_range(pages_of(&(0..body.payload_bytes)));
            return Ok(());
        }
        apply(&region, body.payload_bytes, &body.changes, &mut changed)
    })?;
    Ok(Restored {
        region,
        tree,
        changed,
        replayed,
        is_verified,
    })
}
