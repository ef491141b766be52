//! Positioned reads and writes of a group with several buffers.

use std::io::{IoSlice, IoSliceMut};

use super::group::Group;
use super::layout::Extent;
use crate::span::error::GroupError;

impl Group {
    /// Reads bytes from `offset` into all buffers, one after the other (`preadv(2)`). The buffers
    /// are filled completely, from one range that is locked once.
    ///
    /// # Errors
    ///
    /// The errors of [`read_exact_at`](Self::read_exact_at). The content of the buffers is
    /// unspecified on error.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::IoSliceMut;
    ///
    /// use flatspan::span::Group;
    ///
    /// let group = Group::builder("/").padding(1000).open()?;
    /// let (mut head, mut body) = ([1; 4], [1; 100]);
    /// let mut bufs = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut body)];
    /// group.read_exact_vectored_at(10, &mut bufs)?;
    /// assert_eq!(head, [0; 4]);
    /// # Ok::<(), flatspan::span::GroupError>(())
    /// ```
    pub fn read_exact_vectored_at(
        &self,
        offset: u64,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<(), GroupError> {
        let range = self.range_at(offset, total_len(bufs.iter().map(|buf| buf.len()))?)?;
        let (_locks, _, error) = self.lock_for_reading(range.clone())?;
        if let Some(error) = error {
            return Err(error);
        }
        let mut rest: Vec<&mut [u8]> = bufs.iter_mut().rev().map(|buf| &mut **buf).collect();
        for extent in self.layout.extents(range)? {
            let mut parts = Vec::new();
            let mut left = extent.len;
            // The range is as long as the buffers.
            while left > 0
                && let Some(buf) = rest.pop()
            {
                // Lossless: at most the length of a buffer.
                let (part, more) = buf.split_at_mut(left.min(buf.len() as u64) as usize);
                left -= part.len() as u64;
                parts.push(IoSliceMut::new(part));
                if !more.is_empty() {
                    rest.push(more);
                }
            }
            self.read_exact_extent(extent, &mut parts)?;
        }
        Ok(())
    }

    /// Writes all buffers, one after the other, from `offset` on (`pwritev(2)`). The options of the
    /// group decide whether files are created, extended and preallocated.
    ///
    /// # Errors
    ///
    /// The errors of [`write_all_at`](Self::write_all_at).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::IoSlice;
    ///
    /// use flatspan::mapping_cache::Access;
    /// use flatspan::span::Group;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let root = directory.path();
    /// let builder = Group::builder(root).access(Access::ReadWrite).create(true);
    /// let group = builder.file("a", 3).file("b", 5).open()?;
    /// group.write_all_vectored_at(0, &[IoSlice::new(b"one"), IoSlice::new(b"two")])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_all_vectored_at(
        &self,
        offset: u64,
        bufs: &[IoSlice<'_>],
    ) -> Result<(), GroupError> {
        let range = self.range_at(offset, total_len(bufs.iter().map(|buf| buf.len()))?)?;
        let _locks = self.lock_for_writing(range.clone())?;
        let mut rest: Vec<&[u8]> = bufs.iter().rev().map(|buf| &**buf).collect();
        for extent in self.layout.extents(range)? {
            let mut parts = Vec::new();
            let mut left = extent.len;
            // The range is as long as the buffers.
            while left > 0
                && let Some(buf) = rest.pop()
            {
                // Lossless: at most the length of a buffer.
                let (part, more) = buf.split_at(left.min(buf.len() as u64) as usize);
                left -= part.len() as u64;
                parts.push(IoSlice::new(part));
                if !more.is_empty() {
                    rest.push(more);
                }
            }
            self.entries[extent.entry].write_vectored(extent, &mut parts)?;
        }
        Ok(())
    }

    /// Reads all of an extent that the caller has locked.
    fn read_exact_extent(
        &self,
        extent: Extent,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<(), GroupError> {
        let entry = &self.entries[extent.entry];
        let copied = entry.read_vectored(extent, bufs)? as u64;
        if copied == extent.len {
            return Ok(());
        }
        // The file ends, or the disk fails: a read that starts there returns the error.
        let rest = Extent {
            offset: extent.offset + copied,
            len: extent.len - copied,
            ..extent
        };
        match entry.read(rest, &mut [0]) {
            Err(error) => Err(error.into()),
            Ok(_) => Err(entry.too_short(extent)),
        }
    }
}

fn total_len(mut lens: impl Iterator<Item = usize>) -> Result<usize, GroupError> {
    let total = lens.try_fold(0_usize, usize::checked_add);
    total.ok_or_else(|| GroupError::InvalidArgument {
        argument: "bufs",
        reason: "the buffers together exceed the address space".to_owned(),
    })
}
