//! Making regions of each kind.

use std::fs::File;
use std::ops::Range;

use super::error::RegionError;
use super::memory::{Backing, Region, Shape};
use super::options::{
    FilePart, RegionOptions, RestoredPart, check_page_size, check_part, whole_pages,
};
use crate::sys::address_space::{Reservation, Sharing};
use crate::sys::{fallocate, memfd, statx};

impl Region {
    /// Makes a region of memory that only this process has. It begins as zeros.
    ///
    /// # Errors
    ///
    /// An option that cannot work, by name; [`OutOfMemory`](RegionError::OutOfMemory),
    /// [`MapLimit`](RegionError::MapLimit), [`PageSize`](RegionError::PageSize). So with all kinds.
    pub fn anonymous(len: usize, options: RegionOptions) -> Result<Self, RegionError> {
        let (len, memory) = prepare(len, options)?;
        map_zeros(&memory, 0..len)?;
        Ok(finish(
            memory,
            len,
            Backing::Anonymous,
            Shape::default(),
            options,
        ))
    }

    /// Makes a region of a new memfd, which [`as_fd`](Self::as_fd) gives out, sealed against shrinking. It begins as
    /// zeros.
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous).
    pub fn memfd(len: usize, options: RegionOptions) -> Result<Self, RegionError> {
        let (len, memory) = prepare(len, options)?;
        let file = memfd::create("flatspan-region").map_err(RegionError::io("make a memfd"))?;
        let long = RegionError::io("make a memfd longer");
        file.set_len(len as u64).map_err(long)?;
        memfd::seal_shrink(&file).map_err(RegionError::io("seal a memfd"))?;
        if len > 0 {
            map_shared(&memory, 0..len, &file, 0, 0)?;
        }
        Ok(finish(
            memory,
            len,
            Backing::Memfd(file),
            Shape::default(),
            options,
        ))
    }

    /// Makes a region of files mapped side by side: stores go to the files. Each is made as long as its part, with
    /// storage for all of it where the filesystem can reserve; it must be opened for reading and writing. One
    /// descriptor a file is kept.
    ///
    /// On filesystems that copy on write a reservation is worth less: a store to a full disk may still raise SIGBUS
    /// (hazard 35).
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous), and [`LongFile`](RegionError::LongFile),
    /// [`StorageFull`](RegionError::StorageFull), [`Unmappable`](RegionError::Unmappable). Files that were made longer
    /// before stay so.
    pub fn files(parts: Vec<FilePart>, options: RegionOptions) -> Result<Self, RegionError> {
        let mut bytes = 0_usize;
        for (part, FilePart { bytes: more, .. }) in parts.iter().enumerate() {
            check_part(part, 0, *more)?;
            bytes = bytes.saturating_add(*more);
        }
        let (len, memory) = prepare(bytes, options)?;
        let mut start = 0;
        for (part, FilePart { file, bytes }) in parts.iter().enumerate() {
            lengthen(part, file, 0..*bytes, *bytes)?;
            map_shared(&memory, start..start + bytes, file, 0, part)?;
            start += bytes;
        }
        let shape = Shape {
            files: parts,
            ..Shape::default()
        };
        Ok(finish(memory, len, Backing::Files, shape, options))
    }

    /// Makes a region over ranges of files, side by side from its begin, that it never changes: a page that is stored to
    /// becomes this process's own, as behind the ranges all pages are, which begin as zeros. So it is there at once,
    /// however long it is.
    ///
    /// Until a page is stored to, it is what the file holds: the ranges may be written only with the bytes that the
    /// region has there anyway, or where it has pages of its own, and the files may not be cut (hazard 10).
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous); option `len` when the parts are longer, and
    /// [`ShortFile`](RegionError::ShortFile), [`Unmappable`](RegionError::Unmappable).
    pub fn restored(
        parts: Vec<RestoredPart>,
        len: usize,
        options: RegionOptions,
    ) -> Result<Self, RegionError> {
        let (len, memory) = prepare(len, options)?;
        let mut start = 0_usize;
        let mut beneath = Vec::with_capacity(parts.len());
        for (part, at) in parts.iter().enumerate() {
            check_part(part, at.offset, at.bytes)?;
            let end = start.saturating_add(at.bytes);
            if end > len {
                let reason = format!("{len} bytes are less than those of the parts");
                return Err(RegionError::option("len", reason));
            }
            check_there(part, at)?;
            memory
                .map_file(start..end, &at.file, at.offset, Sharing::Private)
                .map_err(|source| RegionError::of_part(part, at.bytes, source))?;
            beneath.push(start..end);
            start = end;
        }
        map_zeros(&memory, start..len)?;
        let probe = parts
            .into_iter()
            .next()
            .map(|part| (part.file, part.offset));
        let shape = Shape {
            beneath,
            ..Shape::default()
        };
        Ok(finish(
            memory,
            len,
            Backing::Restored(probe),
            shape,
            options,
        ))
    }
}

/// Checks and reserves. Gives the length in whole pages.
pub(super) fn prepare(
    len: usize,
    options: RegionOptions,
) -> Result<(usize, Reservation), RegionError> {
    check_page_size()?;
    let len = whole_pages(len)?;
    Ok((len, options.reserve(len)?))
}

pub(super) fn finish(
    memory: Reservation,
    len: usize,
    backing: Backing,
    shape: Shape,
    options: RegionOptions,
) -> Region {
    if options.huge_pages {
        prefer_huge_pages(&memory, 0..len);
    }
    Region::new(memory, len, backing, shape, options.huge_pages)
}

/// A wish: kernels and kinds of memory without huge pages refuse.
pub(super) fn prefer_huge_pages(memory: &Reservation, range: Range<usize>) {
    let _refused = memory.prefer_huge_pages(range);
}

pub(super) fn map_zeros(memory: &Reservation, range: Range<usize>) -> Result<(), RegionError> {
    let bytes = range.len();
    memory
        .map_zeros(range, true)
        .map_err(|source| RegionError::of_mapping(bytes, source))
}

pub(super) fn map_shared(
    memory: &Reservation,
    range: Range<usize>,
    file: &File,
    offset: usize,
    part: usize,
) -> Result<(), RegionError> {
    let bytes = range.len();
    memory
        .map_file(range, file, offset as u64, Sharing::Shared)
        .map_err(|source| RegionError::of_part(part, bytes, source))
}

/// Gives a file storage for a range up to its new end. It has no more than `longest_bytes` now: what it gets later must
/// be zeros, only at first may it hold a state.
pub(super) fn lengthen(
    part: usize,
    file: &File,
    range: Range<usize>,
    longest_bytes: usize,
) -> Result<(), RegionError> {
    let ask = RegionError::io("ask for the length of a file");
    let present = statx::len(file).map_err(ask)?;
    if present > longest_bytes as u64 {
        return Err(RegionError::LongFile {
            part,
            expected_bytes: longest_bytes as u64,
            present_bytes: present,
        });
    }
    let (start, end) = (range.start as u64, range.end as u64);
    let full = |source| RegionError::of_storage(part, end, source);
    match fallocate::reserve(file, start, end - start) {
        Err(error) if !fallocate::is_unsupported(&error) => return Err(full(error)),
        _ => {}
    }
    if present < end {
        file.set_len(end).map_err(full)?;
    }
    Ok(())
}

/// A private mapping behind the end of a file would raise SIGBUS.
fn check_there(part: usize, at: &RestoredPart) -> Result<(), RegionError> {
    let ask = RegionError::io("ask for the length of a file");
    let present_bytes = statx::len(&at.file).map_err(ask)?;
    let needed_bytes = at.offset.saturating_add(at.bytes as u64);
    if present_bytes >= needed_bytes {
        return Ok(());
    }
    Err(RegionError::ShortFile {
        part,
        needed_bytes,
        present_bytes,
    })
}
