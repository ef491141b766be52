//! The exact length of an imported file: `STORE/content-length` (docs/cli.md, "flatspan import").
//!
//! A region has whole pages, so the length is not in the heaps. The file has one line, a decimal
//! number of bytes. It is written before the store gets its name, and never changed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

const FILE_NAME: &str = "content-length";
const PAGE_BYTES: u64 = 4096;

/// The number of bytes of a state that `export` writes.
pub(crate) struct ExportLength {
    region_bytes: u64,
    content_bytes: Option<u64>,
}

impl ExportLength {
    /// The recorded length applies only while the region has as many pages as when it was imported.
    pub(crate) fn new(content_bytes: Option<u64>, region_bytes: u64) -> Self {
        let fits = |bytes: &u64| bytes.checked_next_multiple_of(PAGE_BYTES) == Some(region_bytes);
        Self {
            region_bytes,
            content_bytes: content_bytes.filter(fits),
        }
    }

    /// Drops the recorded length if these bytes of the state have data after it: a program has
    /// changed the store since the import, and truncation would lose that data.
    pub(crate) fn observe(&mut self, offset: u64, bytes: &[u8]) {
        let Some(content_bytes) = self.content_bytes else {
            return;
        };
        let kept = usize::try_from(content_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let rest = bytes.get(kept..).unwrap_or_default();
        if rest.iter().any(|byte| *byte != 0) {
            self.content_bytes = None;
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.content_bytes.unwrap_or(self.region_bytes)
    }
}

/// Writes the record into the directory of a store that has no name yet, durably.
pub(crate) fn write(store: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create_new(store.join(FILE_NAME))?;
    writeln!(file, "{bytes}")?;
    file.sync_all()?;
    File::open(store)?.sync_all()
}

/// Returns the recorded length, or `None` if the store was not made by `flatspan import`.
pub(crate) fn read(store: &Path) -> Result<Option<u64>> {
    let path = store.join(FILE_NAME);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let bytes = text.strip_suffix('\n').and_then(|line| line.parse().ok());
    let bytes = bytes.with_context(|| {
        format!(
            "{} does not contain a number of bytes; remove it to export whole pages",
            path.display()
        )
    })?;
    Ok(Some(bytes))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_length_applies_only_if_nothing_is_lost() {
        let exact = |bytes| ExportLength::new(Some(bytes), 8192);
        assert_eq!(exact(5000).bytes(), 5000);
        assert_eq!(exact(8192).bytes(), 8192);
        for other in [0, 4096, 8193, u64::MAX] {
            assert_eq!(exact(other).bytes(), 8192, "another number of pages");
        }
        assert_eq!(ExportLength::new(None, 8192).bytes(), 8192);
        let mut length = exact(5000);
        length.observe(0, &[1; 5000]);
        length.observe(4096, &[0; 4096]);
        assert_eq!(length.bytes(), 5000);
        length.observe(8000, &[0, 1]);
        assert_eq!(length.bytes(), 8192);
    }
}
