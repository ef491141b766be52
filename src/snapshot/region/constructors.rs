//! Constructors of regions of each kind.

use std::fs::File;
use std::ops::Range;

use super::error::RegionError;
use super::memory::{Backing, Region, Shape};
use super::options::{
    FilePart, PrivateFilePart, RegionOptions, check_page_size, check_part, whole_pages,
};
use crate::sys::address_space::{AddressReservation, Sharing};
use crate::sys::{fallocate, memfd, statx};

impl Region {
    /// Creates a region of zeros in private memory of this process.
    ///
    /// # Errors
    ///
    /// These errors apply to all constructors.
    ///
    /// - [`RegionError::InvalidOption`] if an option or `len` is invalid.
    /// - [`RegionError::OutOfMemory`] or [`RegionError::TooManyMappings`] if the memory cannot be
    ///   mapped.
    /// - [`RegionError::AddressInUse`] if something is mapped at the fixed address.
    /// - [`RegionError::UnsupportedPageSize`] if the system does not use pages of 4096 bytes.
    pub fn new_anonymous(len: usize, options: RegionOptions) -> Result<Self, RegionError> {
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

    /// Creates a region of zeros in a new memfd with the shrink seal, which [`as_fd`](Self::as_fd)
    /// returns.
    ///
    /// # Errors
    ///
    /// - Any error of [`new_anonymous`](Self::new_anonymous).
    /// - [`RegionError::Io`] if the memfd cannot be created or sealed.
    pub fn new_memfd(len: usize, options: RegionOptions) -> Result<Self, RegionError> {
        let (len, memory) = prepare(len, options)?;
        let file = memfd::create("flatspan-region").map_err(RegionError::io("create a memfd"))?;
        let long = RegionError::io("extend the memfd");
        file.set_len(len as u64).map_err(long)?;
        memfd::seal_shrink(&file).map_err(RegionError::io("add the shrink seal to the memfd"))?;
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

    /// Creates a region of files that are mapped next to each other. Stores change the files.
    ///
    /// Each file must be open for reading and writing. It is extended to the length of its part,
    /// with preallocated storage if the filesystem supports that. The region keeps one descriptor
    /// per file.
    ///
    /// Preallocation does not help on copy-on-write filesystems: a store may still raise SIGBUS if
    /// the disk is full (invariant I35 of docs/invariants.md).
    ///
    /// # Errors
    ///
    /// Files that were extended before the error keep their length.
    ///
    /// - Any error of [`new_anonymous`](Self::new_anonymous).
    /// - [`RegionError::FileTooLong`] if a file is longer than its part.
    /// - [`RegionError::StorageFull`] if the filesystem is full.
    /// - [`RegionError::NotMappable`] if a file cannot be mapped.
    pub fn map_files(parts: Vec<FilePart>, options: RegionOptions) -> Result<Self, RegionError> {
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

    /// Creates a region over file ranges that are mapped privately next to each other, followed by
    /// zeros.
    ///
    /// Stores never change the files: a page that is stored to becomes private memory of this
    /// process. The call returns at once, whatever the length.
    ///
    /// Until a page is stored to, it shows the content of the file. So the files must not be
    /// truncated. They may only be written where the region has private pages, or with the bytes
    /// that the region has at that place.
    ///
    /// # Errors
    ///
    /// - Any error of [`new_anonymous`](Self::new_anonymous).
    /// - [`RegionError::InvalidOption`] for `len` if the parts are longer than the region.
    /// - [`RegionError::FileTooShort`] if a file ends before its range.
    /// - [`RegionError::NotMappable`] if a file cannot be mapped.
    pub fn map_private_files(
        parts: Vec<PrivateFilePart>,
        len: usize,
        options: RegionOptions,
    ) -> Result<Self, RegionError> {
        let (len, memory) = prepare(len, options)?;
        let mut start = 0_usize;
        let mut file_ranges = Vec::with_capacity(parts.len());
        for (part, at) in parts.iter().enumerate() {
            check_part(part, at.offset, at.bytes)?;
            let end = start.saturating_add(at.bytes);
            if end > len {
                let reason = format!("{len} bytes are less than the total length of the parts");
                return Err(RegionError::option("len", reason));
            }
            check_length(part, at)?;
            memory
                .map_file(start..end, &at.file, at.offset, Sharing::Private)
                .map_err(|source| RegionError::of_part(part, at.bytes, source))?;
            file_ranges.push(start..end);
            start = end;
        }
        map_zeros(&memory, start..len)?;
        let probe = parts
            .into_iter()
            .next()
            .map(|part| (part.file, part.offset));
        let shape = Shape {
            file_ranges,
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

/// Checks the length and reserves addresses. Returns the length in whole pages.
pub(super) fn prepare(
    len: usize,
    options: RegionOptions,
) -> Result<(usize, AddressReservation), RegionError> {
    check_page_size()?;
    let len = whole_pages(len)?;
    Ok((len, options.reserve(len)?))
}

pub(super) fn finish(
    memory: AddressReservation,
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

/// Requests huge pages. Kernels and kinds of memory without them refuse, which is ignored.
pub(super) fn prefer_huge_pages(memory: &AddressReservation, range: Range<usize>) {
    drop(memory.prefer_huge_pages(range));
}

pub(super) fn map_zeros(
    memory: &AddressReservation,
    range: Range<usize>,
) -> Result<(), RegionError> {
    let bytes = range.len();
    memory
        .map_zeros(range, true)
        .map_err(|source| RegionError::of_mapping(bytes, source))
}

pub(super) fn map_shared(
    memory: &AddressReservation,
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

/// Extends a file to the end of `range`, with preallocated storage. The file must not be longer
/// than `longest_bytes`: bytes that the region gains later must be zero.
pub(super) fn lengthen(
    part: usize,
    file: &File,
    range: Range<usize>,
    longest_bytes: usize,
) -> Result<(), RegionError> {
    let ask = RegionError::io("read the length of a file");
    let present = statx::len(file).map_err(ask)?;
    if present > longest_bytes as u64 {
        return Err(RegionError::FileTooLong {
            part,
            expected_bytes: longest_bytes as u64,
            actual_bytes: present,
        });
    }
    let (start, end) = (range.start as u64, range.end as u64);
    let full = |source| RegionError::of_storage(part, end, source);
    match fallocate::preallocate(file, start, end - start) {
        Err(error) if !fallocate::is_unsupported(&error) => return Err(full(error)),
        _ => {}
    }
    if present < end {
        file.set_len(end).map_err(full)?;
    }
    Ok(())
}

/// Fails if the file ends before its range: a private mapping past the end would raise SIGBUS.
fn check_length(part: usize, at: &PrivateFilePart) -> Result<(), RegionError> {
    let ask = RegionError::io("read the length of a file");
    let present_bytes = statx::len(&at.file).map_err(ask)?;
    let needed_bytes = at.offset.saturating_add(at.bytes as u64);
    if present_bytes >= needed_bytes {
        return Ok(());
    }
    Err(RegionError::FileTooShort {
        part,
        required_bytes: needed_bytes,
        actual_bytes: present_bytes,
    })
}
