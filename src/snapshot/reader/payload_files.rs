//! Files of an image, for readers with their own I/O.

use std::ops::Range;
use std::path::PathBuf;

use super::image::Image;
use crate::snapshot::format::METADATA_BYTES;

/// Range of a file that holds a part of PAYLOAD.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PayloadFile {
    /// Path relative to the [directory of the store](super::StoreReader::directory).
    pub path: PathBuf,
    /// Byte range in the file.
    pub range: Range<u64>,
}

impl Image {
    /// Returns the file ranges that hold PAYLOAD, in order: one range per file, without METADATA.
    ///
    /// Together they are as long as the region was when the heap was written, including holes.
    /// Changes in the journal are not part of them: see
    /// [`replayed_records`](Self::replayed_records) and
    /// [`StoreReader::heap`](super::StoreReader::heap).
    ///
    /// If the heap could be locked, no checkpoint changes these bytes until the image is dropped
    /// ([`verify_unchanged`](Self::verify_unchanged)). Their checksums are not verified;
    /// [`for_each_data`](Self::for_each_data) verifies them.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use flatspan::snapshot::StoreReader;
    /// use flatspan::span::{Group, Pieces};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reader = StoreReader::open("/var/lib/counter")?;
    /// let image = reader.newest()?;
    /// let builder = Group::builder(reader.directory());
    /// let builder = image
    ///     .payload_files()
    ///     .into_iter()
    ///     .fold(builder, |builder, part| builder.file_range(part.path, part.range));
    /// let group = builder.open()?;
    /// let first = Pieces::new(&group, 256 << 10)?.hash(0)?;
    /// // Check before the hash is used.
    /// image.verify_unchanged()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn payload_files(&self) -> Vec<PayloadFile> {
        let (array, part_bytes) = (self.heap_lock.array(), self.metadata().part_bytes);
        let end = METADATA_BYTES + self.metadata().payload_bytes;
        let mut parts = Vec::new();
        let mut at = METADATA_BYTES;
        while at < end {
            let part = at / part_bytes;
            let part_start = part * part_bytes;
            let part_end = end.min(part_start.saturating_add(part_bytes));
            parts.push(PayloadFile {
                path: PathBuf::from(array.part_name(part)),
                range: at - part_start..part_end - part_start,
            });
            at = part_end;
        }
        parts
    }
}
