//! Search for data and holes in a file.

use std::ops::Range;

use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::file::CachedFile;
use crate::mapping_cache::options::Access;
use crate::sys::{seek_data, statx};

impl CachedFile {
    /// Returns the first run of data at or after `offset` and before `end`, or `None` if only holes
    /// follow (`SEEK_DATA` of `lseek(2)`). Bytes past the end of the file count as data, so that
    /// reading them returns an error. So do holes that the filesystem cannot report.
    ///
    /// # Errors
    ///
    /// Returns any error of opening the file.
    pub fn next_data(&self, offset: u64, end: u64) -> Result<Option<Range<u64>>, MappingError> {
        if !self.state()?.storage.may_have_holes() {
            return Ok(Some(offset..end));
        }
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        // For the kernel, a hole follows the end of the file.
        let present =
            statx::len(&file).map_err(|source| self.io_error("query its length", source))?;
        if offset >= present {
            return Ok(Some(offset..end));
        }
        Ok(match seek_data::next_data(&file, offset) {
            Ok(Some(run)) if run.start >= end => None,
            Ok(Some(run)) => Some(run.start..run.end.min(end)),
            Ok(None) if present < end => Some(present..end),
            Ok(None) => None,
            Err(_) => Some(offset..end),
        })
    }
}
