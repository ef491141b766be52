//! The files that an image lies on, for who reads them by other means: hashed as pieces, sent by span, given to programs.

use std::ops::Range;
use std::path::PathBuf;

use super::image::Image;
use crate::snapshot::format::METADATA_BYTES;

/// A range of a file with a part of PAYLOAD.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapPart {
    /// The file, as seen from the [directory of the store](super::StoreReader::directory).
    pub path: PathBuf,
    /// Where in the file.
    pub range: Range<u64>,
}

impl Image {
    /// Where the heap has the memory, in order: one range of each file, without METADATA. All of them together are as long as the
    /// region was when the heap was written, holes included. What the journal has behind the heap is not in there
    /// ([`replayed_records`](Self::replayed_records), [`StoreReader::heap`](super::StoreReader::heap)).
    ///
    /// No checkpoint changes these bytes as long as the image lives, where the heap could be locked
    /// ([`check_unchanged`](Self::check_unchanged)). Nothing is verified by this: [`read`](Self::read) does it.
    ///
    /// ```no_run
    /// use flatspan::{snapshot::StoreReader, span::{Group, Pieces}};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reader = StoreReader::open("/var/lib/counter")?;
    /// let image = reader.newest()?;
    /// let builder = Group::builder(reader.directory());
    /// let parts = image.parts().into_iter();
    /// let builder = parts.fold(builder, |builder, part| builder.file_range(part.path, part.range));
    /// let group = builder.open()?;
    /// let first = Pieces::new(&group, 256 << 10)?.hash(0)?;
    /// // Before the hash is last_sequence to anybody.
    /// image.check_unchanged()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn parts(&self) -> Vec<HeapPart> {
        let (array, part_bytes) = (self.heap_lock.array(), self.metadata().part_bytes);
        let end = METADATA_BYTES + self.metadata().payload_bytes;
        let mut parts = Vec::new();
        let mut at = METADATA_BYTES;
        while at < end {
            let part = at / part_bytes;
            let part_start = part * part_bytes;
            let part_end = end.min(part_start.saturating_add(part_bytes));
            parts.push(HeapPart {
                path: PathBuf::from(array.part_name(part)),
                range: at - part_start..part_end - part_start,
            });
            at = part_end;
        }
        parts
    }
}
