//! Copies out of and into a file: the safe API.
//!
//! Two methods are coherent with each other: the kernel copies through a pinned window, or by
//! positioned I/O on a descriptor. A copy through a window that reaches a bad page is finished by
//! positioned I/O, which returns the exact error.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::io::{preadv, pwritev};

use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::file::{CachedFile, FileState, WriteGuard};
use crate::mapping_cache::options::{Access, CopyMethod};
use crate::mapping_cache::pinning::Pin;
use crate::mapping_cache::range_lock::Sharing;
use crate::mapping_cache::window::Step;
use crate::sys::{statx, sync_file_range};

impl CachedFile {
    /// Reads bytes at `offset` into `buf`. Returns how many bytes were read, which are fewer than
    /// `buf` holds if the file ends before. After some bytes were read, an error is left for the
    /// call that starts at its offset.
    ///
    /// Waits for copies that write the range: a copy is entirely before or after another.
    ///
    /// # Errors
    ///
    /// - [`MappingError::RangeLocked`] if a span for writing holds part of the range.
    /// - [`MappingError::Io`] if reading fails.
    /// - Any other error of opening the file.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, MappingError> {
        self.check_offset(offset, buf.len() as u64)?;
        let _lock = self.lock_for_copy(offset..offset + buf.len() as u64, Sharing::Shared)?;
        self.read_locked(offset, buf)
    }

    /// Does the same as [`read_at`](Self::read_at) for a caller that has locked the range.
    pub(crate) fn read_locked(&self, offset: u64, buf: &mut [u8]) -> Result<usize, MappingError> {
        self.check_offset(offset, buf.len() as u64)?;
        if let Some(file) = self.descriptor_for_reading()? {
            return self.read_from(&file, offset, &mut [IoSliceMut::new(buf)]);
        }
        let mut done = 0;
        while done < buf.len() {
            let windows = self.resources.windows;
            let step = windows.step(offset + done as u64, buf.len() - done);
            match self.read_step(step, &mut buf[done..done + step.len]) {
                Ok(copied) => {
                    done += copied;
                    if copied < step.len {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Does the same as [`read_locked`](Self::read_locked) for several buffers, in order.
    pub(crate) fn read_vectored_locked(
        &self,
        offset: u64,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<usize, MappingError> {
        let len: u64 = bufs.iter().map(|buf| buf.len() as u64).sum();
        self.check_offset(offset, len)?;
        if let Some(file) = self.descriptor_for_reading()? {
            return self.read_from(&file, offset, bufs);
        }
        let mut done = 0;
        for buf in bufs {
            match self.read_locked(offset + done as u64, buf) {
                Ok(copied) => {
                    done += copied;
                    if copied < buf.len() {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes all of `buf` at `offset`, and extends the file if it ends before.
    ///
    /// Waits for other copies of the range.
    ///
    /// # Errors
    ///
    /// - [`MappingError::ReadOnly`] if the file is opened for reading only.
    /// - [`MappingError::StorageFull`] if the filesystem is full. The file keeps its length.
    /// - [`MappingError::FileTooShort`] if another process truncated the file.
    /// - [`MappingError::RangeLocked`] if a span holds part of the range.
    /// - Any other error of opening the file.
    pub fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), MappingError> {
        self.check_offset(offset, buf.len() as u64)?;
        let _lock = self.lock_for_copy(offset..offset + buf.len() as u64, Sharing::Exclusive)?;
        self.write_locked(offset, buf)
    }

    /// Does the same as [`write_at`](Self::write_at) for a caller that has locked the range.
    pub(crate) fn write_locked(&self, offset: u64, buf: &[u8]) -> Result<(), MappingError> {
        self.check_offset(offset, buf.len() as u64)?;
        if buf.is_empty() {
            return Ok(());
        }
        if !self.is_written_mapped(offset + buf.len() as u64) {
            return self.write_positioned(offset, &mut [IoSlice::new(buf)]);
        }
        let mut done = 0;
        while done < buf.len() {
            let windows = self.resources.windows;
            let step = windows.step(offset + done as u64, buf.len() - done);
            self.write_step(step, &buf[done..done + step.len])?;
            done += step.len;
        }
        Ok(())
    }

    /// Does the same as [`write_locked`](Self::write_locked) for several buffers, in order. `bufs`
    /// is used up.
    pub(crate) fn write_vectored_locked(
        &self,
        offset: u64,
        bufs: &mut [IoSlice<'_>],
    ) -> Result<(), MappingError> {
        let len: u64 = bufs.iter().map(|buf| buf.len() as u64).sum();
        self.check_offset(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        if !self.is_written_mapped(offset + len) {
            return self.write_positioned(offset, bufs);
        }
        let mut at = offset;
        for buf in bufs {
            self.write_locked(at, buf)?;
            at += buf.len() as u64;
        }
        Ok(())
    }

    /// Returns whether a write up to `end` uses mappings.
    ///
    /// A write that extends the file is undone if the filesystem is full. Only a positioned write
    /// can be undone: no other thread has seen a mapping of the new part.
    fn is_written_mapped(&self, end: u64) -> bool {
        self.resources.copy_path == CopyMethod::Mapped
            && self.may_map()
            && self
                .opened_state()
                .is_some_and(|state| end <= state.storage.known_bytes())
    }

    /// Reads bytes at `offset` from the page cache only (`RWF_NOWAIT` of `preadv2(2)`). Returns how
    /// many bytes were read, or `None` if the filesystem does not support it.
    ///
    /// # Errors
    ///
    /// Returns any error of opening the file.
    pub fn read_page_cache_at(
        &self,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, MappingError> {
        self.check_offset(offset, buf.len() as u64)?;
        let _lock = self.lock_for_copy(offset..offset + buf.len() as u64, Sharing::Shared)?;
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        match sync_file_range::read_cached(&file, buf, offset) {
            Ok(copied) => Ok(Some(copied)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(0)),
            Err(_) => Ok(None),
        }
    }

    /// Returns the descriptor to read from, or `None` to copy through windows. If a descriptor is
    /// open, positioned I/O is faster (docs/benchmarks.md).
    fn descriptor_for_reading(&self) -> Result<Option<Arc<File>>, MappingError> {
        Ok(match self.resources.copy_path {
            CopyMethod::Auto => self.open_descriptor(Access::ReadOnly),
            CopyMethod::Positioned => Some(self.descriptor(Access::ReadOnly)?.0),
            CopyMethod::Mapped => None,
        })
    }

    fn read_step(&self, step: Step, buf: &mut [u8]) -> Result<usize, MappingError> {
        let offset = self.resources.windows.start(step.window) + step.within as u64;
        match self.pin_for_reading(step)? {
            Some(pin) => self.read_mapped(&pin, step, offset, buf),
            None => self.read_positioned(offset, buf),
        }
    }

    /// Pins the window of a step, if the copy is to use a mapping.
    fn pin_for_reading(&self, step: Step) -> Result<Option<Pin<'_>>, MappingError> {
        let by_choice = self.resources.copy_path == CopyMethod::Mapped;
        if let Some(pin) = self.pin_if_mapped(step.window, step.end()) {
            return Ok(Some(pin));
        }
        if !(self.may_map() && (by_choice || self.is_worth_mapping(step.window)?)) {
            return Ok(None);
        }
        match self.pin_covering(step.window, step.end(), Access::ReadOnly) {
            Ok(pin) => Ok(Some(pin)),
            // Positioned I/O needs no mapping, and reads a short file up to its end.
            Err(
                MappingError::FileTooShort { .. }
                | MappingError::NotMappable { .. }
                | MappingError::WindowPinned { .. }
                | MappingError::BudgetExhausted { .. }
                | MappingError::TooManyMappings { .. },
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether to map a window whose file would be opened for each copy: if it is copied
    /// from repeatedly and its mapping evicts no other window.
    fn is_worth_mapping(&self, window: u64) -> Result<bool, MappingError> {
        let slots = self.slots_of(self.state()?, window);
        Ok(slots.is_ok_and(|slots| slots.count_cold_copy() > 0)
            && self
                .resources
                .budget
                .has_room(self.resources.windows.bytes() as u64))
    }

    fn may_map(&self) -> bool {
        self.declared_bytes >= self.resources.map_cutoff_bytes
            && self.opened_state().is_none_or(|state| state.is_mappable())
    }

    /// Copies through a window. If the file ends inside the last copied page, the rest of that page
    /// is zeros and not bad. So unless the next page is good, the length is queried after the copy.
    fn read_mapped(
        &self,
        pin: &Pin<'_>,
        step: Step,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, MappingError> {
        let copied = match pin.copy_out(step.within, buf) {
            // Queried after the copy, which may have read a page that was replaced before [I36].
            _ if pin.is_poisoned() => 0,
            Ok((_, true)) => return Ok(buf.len()),
            Ok((copied, false)) => copied,
            // A sandbox may filter the system call.
            Err(_) => 0,
        };
        if copied < buf.len() {
            let rest = self.read_positioned(offset + copied as u64, &mut buf[copied..])?;
            if rest > 0 {
                return Ok(copied + rest);
            }
        }
        let present = self.actual_bytes()?;
        // Lossless: at most `copied`.
        Ok(present.saturating_sub(offset).min(copied as u64) as usize)
    }

    fn read_positioned(&self, offset: u64, buf: &mut [u8]) -> Result<usize, MappingError> {
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        self.read_from(&file, offset, &mut [IoSliceMut::new(buf)])
    }

    fn read_from(
        &self,
        file: &File,
        offset: u64,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<usize, MappingError> {
        self.resources.counters.positioned_copies.add_one();
        let done = match read_some(file, offset, bufs) {
            (0, Err(error)) => return Err(self.io_error("read", error)),
            (done, _) => done,
        };
        if self.is_known_to_reach(offset + done as u64) {
            return Ok(done);
        }
        // A page that is truncated while the kernel copies it may be read as zeros. The length
        // after the copy decides.
        let present = statx::len(file).map_err(|e| self.io_error("query its length", e))?;
        // Lossless: at most `done`.
        Ok(present.saturating_sub(offset).min(done as u64) as usize)
    }

    /// Returns whether the file is at least this long without a query, since nothing else truncates
    /// it. The caller holds a range lock, so this process does not truncate it either.
    fn is_known_to_reach(&self, end: u64) -> bool {
        self.options.is_exclusive
            && self
                .opened()
                .is_some_and(|opened| end <= opened.storage.known_bytes())
    }

    fn write_step(&self, step: Step, buf: &[u8]) -> Result<(), MappingError> {
        let offset = self.resources.windows.start(step.window) + step.within as u64;
        let end = offset + buf.len() as u64;
        let pin = match self.pin_covering(step.window, step.end(), Access::ReadWrite) {
            Ok(pin) => pin,
            Err(
                MappingError::NotMappable { .. }
                | MappingError::WindowPinned { .. }
                | MappingError::BudgetExhausted { .. }
                | MappingError::TooManyMappings { .. },
            ) => return self.write_positioned(offset, &mut [IoSlice::new(buf)]),
            Err(error) => return Err(error),
        };
        let mut copied = pin.copy_in(step.within, buf).unwrap_or(0);
        if pin.is_poisoned() {
            // The data may be in a page that was replaced [I36].
            copied = 0;
        }
        if copied < buf.len() {
            let rest = &mut [IoSlice::new(&buf[copied..])];
            return self.write_positioned(offset + copied as u64, rest);
        }
        // Stores past the end of the file within its last page are discarded without SIGBUS
        // (mmap(2)). The file was truncated, or was declared longer after its last page was mapped.
        // The positioned write extends it or returns the error.
        if self.actual_bytes()? < end {
            return self.write_positioned(offset, &mut [IoSlice::new(buf)]);
        }
        Ok(())
    }

    fn write_positioned(&self, offset: u64, bufs: &mut [IoSlice<'_>]) -> Result<(), MappingError> {
        self.resources.counters.positioned_copies.add_one();
        let writing = self.begin_write()?;
        let WriteGuard { state, file } = &writing;
        let len: u64 = bufs.iter().map(|buf| buf.len() as u64).sum();
        let end = offset + len;
        if end <= state.storage.known_bytes() && self.is_preallocated(state) {
            if !self.is_known_to_reach(end) {
                let present = statx::len(file).map_err(|e| self.io_error("query its length", e))?;
                if present < end {
                    return Err(self.too_short_error(state.storage.known_bytes(), present));
                }
            }
            let (_, written) = write_some(file, offset, bufs);
            return written.map_err(|error| self.storage_error("write", len, error));
        }
        self.write_extending(state, file, offset, bufs)
    }

    /// Extends the file by a write, under the length lock. Undoes it if the filesystem is full.
    fn write_extending(
        &self,
        state: &FileState,
        file: &Arc<File>,
        offset: u64,
        bufs: &mut [IoSlice<'_>],
    ) -> Result<(), MappingError> {
        let len: u64 = bufs.iter().map(|buf| buf.len() as u64).sum();
        let _length = state.lock_length();
        let before = self.checked_len(state, file)?;
        self.preallocate_declared(state, file, before)?;
        let before = statx::len(file).map_err(|e| self.io_error("query its length", e))?;
        if let (written, Err(error)) = write_some(file, offset, bufs) {
            // Any other length was set by another process [I37].
            let ours = match written {
                0 => before,
                _ => before.max(offset + written as u64),
            };
            state.undo_growth(file, before, ours);
            return Err(self.storage_error("write", len, error));
        }
        if offset > before {
            state.storage.note_holes();
        }
        state.storage.note_len(offset + len);
        Ok(())
    }
}

/// Largest number of buffers of one system call (`IOV_MAX`).
const IO_SLICES_MAX: usize = 1024;

/// Writes until everything is written or an error occurs. Returns the number of written bytes.
fn write_some(file: &File, offset: u64, mut bufs: &mut [IoSlice<'_>]) -> (usize, io::Result<()>) {
    let mut done = 0;
    // Removes empty buffers.
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        let at = offset + done as u64;
        let batch = bufs.len().min(IO_SLICES_MAX);
        let written = match &*bufs {
            [only] => file.write_at(only, at),
            several => pwritev(file, &several[..batch], at).map_err(io::Error::from),
        };
        match written {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(copied) => {
                done += copied;
                IoSlice::advance_slices(&mut bufs, copied);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// Reads until everything is read, the file ends or an error occurs. Returns the number of read
/// bytes.
fn read_some(file: &File, offset: u64, mut bufs: &mut [IoSliceMut<'_>]) -> (usize, io::Result<()>) {
    let mut done = 0;
    // Removes empty buffers.
    IoSliceMut::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        let at = offset + done as u64;
        let batch = bufs.len().min(IO_SLICES_MAX);
        let read = match &mut *bufs {
            [only] => file.read_at(only, at),
            several => preadv(file, &mut several[..batch], at).map_err(io::Error::from),
        };
        match read {
            Ok(0) => break,
            Ok(copied) => {
                done += copied;
                IoSliceMut::advance_slices(&mut bufs, copied);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}
