//! Copies out of and into a file: the safe door.
//!
//! Two ways that are coherent with each other: through a pinned window, copied by the kernel, or by
//! positioned I/O on a descriptor. A copy through a window that meets a bad page is finished by
//! positioned I/O, which says exactly what is wrong: the file ended, the disk is full, the disk failed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::claims::Sharing;
use super::entry::FileEntry;
use super::error::MappingError;
use super::file::{CachedFile, Writing};
use super::options::{Access, CopyPath};
use super::pin::Pin;
use super::window::Step;
use crate::sys::{statx, sync_file_range};

impl CachedFile {
    /// Copies bytes out of the file, as many as `buf` holds or the file has from `offset` on; returns
    /// how many. An error after some bytes is left for the call that begins where it happened.
    ///
    /// # Errors
    ///
    /// Those of opening the file; [`MappingError::Io`] when reading fails; [`MappingError::Busy`] beside a
    /// span for writing. Other copies are waited for: a copy is all before or all after another.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, MappingError> {
        self.check_offset(offset, buf.len())?;
        let _claim = self.claim_for_copy(offset, buf.len(), Sharing::Shared)?;
        self.read_claimed(offset, buf)
    }

    /// As [`read_at`](Self::read_at), for who has a claim.
    pub(crate) fn read_claimed(&self, offset: u64, buf: &mut [u8]) -> Result<usize, MappingError> {
        self.check_offset(offset, buf.len())?;
        if let Some(file) = self.descriptor_for_reading()? {
            return self.read_from(&file, offset, buf);
        }
        let mut done = 0;
        while done < buf.len() {
            let step = self
                .core
                .windows
                .step(offset + done as u64, buf.len() - done);
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

    /// Copies bytes into the file, making it longer where it ends before its declared length.
    ///
    /// # Errors
    ///
    /// [`MappingError::ReadOnly`]; [`MappingError::StorageFull`], with the length of the file as
    /// before; [`MappingError::ShortFile`] when somebody has cut the file; those of opening it;
    /// [`MappingError::Busy`] beside a span. Other copies are waited for.
    pub fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), MappingError> {
        self.check_offset(offset, buf.len())?;
        let _claim = self.claim_for_copy(offset, buf.len(), Sharing::Exclusive)?;
        self.write_claimed(offset, buf)
    }

    /// As [`write_at`](Self::write_at), for who has a claim.
    pub(crate) fn write_claimed(&self, offset: u64, buf: &[u8]) -> Result<(), MappingError> {
        self.check_offset(offset, buf.len())?;
        if buf.is_empty() {
            return Ok(());
        }
        let end = offset + buf.len() as u64;
        // What makes a file longer is undone when there is no room for all of it: only positioned
        // writes can be, as nobody else has seen a mapping of the new part.
        let inside = |entry: &Arc<FileEntry>| end <= entry.known_bytes();
        if self.core.copy_path != CopyPath::Mapped
            || !self.may_map()
            || !self.opened_entry().is_some_and(inside)
        {
            return self.write_positioned(offset, buf);
        }
        let mut done = 0;
        while done < buf.len() {
            let step = self
                .core
                .windows
                .step(offset + done as u64, buf.len() - done);
            self.write_step(step, &buf[done..done + step.len])?;
            done += step.len;
        }
        Ok(())
    }

    /// Reads what the page cache has of `buf` without asking the disk; `None` where the filesystem
    /// cannot tell.
    ///
    /// # Errors
    ///
    /// Those of opening the file.
    pub fn read_cached_at(
        &self,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, MappingError> {
        self.check_offset(offset, buf.len())?;
        let _claim = self.claim_for_copy(offset, buf.len(), Sharing::Shared)?;
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        match sync_file_range::read_cached(&file, buf, offset) {
            Ok(copied) => Ok(Some(copied)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(0)),
            Err(_) => Ok(None),
        }
    }

    /// The descriptor to read from, if the copy is not to go through windows. With one at hand,
    /// positioned I/O is faster: see docs/benchmarks.md.
    fn descriptor_for_reading(&self) -> Result<Option<Arc<File>>, MappingError> {
        Ok(match self.core.copy_path {
            CopyPath::Auto => self.descriptor_at_hand(Access::ReadOnly),
            CopyPath::Positioned => Some(self.descriptor(Access::ReadOnly)?.0),
            CopyPath::Mapped => None,
        })
    }

    fn read_step(&self, step: Step, buf: &mut [u8]) -> Result<usize, MappingError> {
        let offset = self.core.windows.start(step.window) + step.within as u64;
        match self.pin_for_reading(step)? {
            Some(pin) => self.read_mapped(&pin, step, offset, buf),
            None => self.read_positioned(offset, buf),
        }
    }

    /// The window of a step, if the copy should go through it.
    fn pin_for_reading(&self, step: Step) -> Result<Option<Pin<'_>>, MappingError> {
        let by_choice = self.core.copy_path == CopyPath::Mapped;
        if let Some(pin) = self.pin_if_mapped(step.window, step.end()) {
            return Ok(Some(pin));
        }
        if !(self.may_map() && (by_choice || self.is_worth_mapping(step.window)?)) {
            return Ok(None);
        }
        match self.pin_covering(step.window, step.end(), Access::ReadOnly) {
            Ok(pin) => Ok(Some(pin)),
            // Positioned I/O needs no mapping, and says how much of a short file is there.
            Err(
                MappingError::ShortFile { .. }
                | MappingError::Unmappable { .. }
                | MappingError::WindowPinned { .. }
                | MappingError::BudgetPinned { .. }
                | MappingError::MapLimit { .. },
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A window whose file would have to be opened for each copy is worth mapping when it is wanted
    /// again and costs no other window its place.
    fn is_worth_mapping(&self, window: u64) -> Result<bool, MappingError> {
        let slots = self.slots_of(self.entry()?, window);
        Ok(slots.is_ok_and(|slots| slots.count_cold_copy() > 0)
            && self.core.ledger.has_room(self.core.windows.bytes() as u64))
    }

    fn may_map(&self) -> bool {
        self.declared_bytes >= self.core.map_cutoff_bytes
            && self.opened_entry().is_none_or(|entry| entry.is_mappable())
    }

    /// Copies through a window. A file that ends inside the last page copied shows zeros there, not a
    /// bad page, so unless the next page is good the length has to be asked for (after the copy).
    fn read_mapped(
        &self,
        pin: &Pin<'_>,
        step: Step,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, MappingError> {
        let copied = match pin.copy_out(step.within, buf) {
            // Asked after the copy: what was replaced before may have been copied (hazard 36).
            _ if pin.is_poisoned() => 0,
            Ok((_, true)) => return Ok(buf.len()),
            Ok((copied, false)) => copied,
            // Filtered by a sandbox.
            Err(_) => 0,
        };
        if copied < buf.len() {
            let rest = self.read_positioned(offset + copied as u64, &mut buf[copied..])?;
            if rest > 0 {
                return Ok(copied + rest);
            }
        }
        let present = self.present_bytes()?;
        // Lossless: at most `copied`.
        Ok(present.saturating_sub(offset).min(copied as u64) as usize)
    }

    fn read_positioned(&self, offset: u64, buf: &mut [u8]) -> Result<usize, MappingError> {
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        self.read_from(&file, offset, buf)
    }

    fn read_from(&self, file: &File, offset: u64, buf: &mut [u8]) -> Result<usize, MappingError> {
        self.core.counters.positioned_copies.add_one();
        let mut done = 0;
        while done < buf.len() {
            match file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(copied) => done += copied,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(self.io("read it", error)),
            }
        }
        // A page that is cut while the kernel copies it may arrive as zeros: what counts is still there.
        let present = statx::len(file).map_err(|e| self.io("ask its length", e))?;
        // Lossless: at most `done`.
        Ok(present.saturating_sub(offset).min(done as u64) as usize)
    }

    fn write_step(&self, step: Step, buf: &[u8]) -> Result<(), MappingError> {
        let offset = self.core.windows.start(step.window) + step.within as u64;
        let end = offset + buf.len() as u64;
        let pin = match self.pin_covering(step.window, step.end(), Access::ReadWrite) {
            Ok(pin) => pin,
            Err(
                MappingError::Unmappable { .. }
                | MappingError::WindowPinned { .. }
                | MappingError::BudgetPinned { .. }
                | MappingError::MapLimit { .. },
            ) => return self.write_positioned(offset, buf),
            Err(error) => return Err(error),
        };
        let mut copied = pin.copy_in(step.within, buf).unwrap_or(0);
        if pin.is_poisoned() {
            // It may have gone into a page that was replaced (hazard 36).
            copied = 0;
        }
        if copied < buf.len() {
            return self.write_positioned(offset + copied as u64, &buf[copied..]);
        }
        // Stores behind the end of a file go nowhere, and no page of it is bad. Either it was cut, or
        // declared longer after its last page was mapped: the positioned write tells and does the rest.
        if self.present_bytes()? < end {
            return self.write_positioned(offset, buf);
        }
        Ok(())
    }

    fn write_positioned(&self, offset: u64, buf: &[u8]) -> Result<(), MappingError> {
        self.core.counters.positioned_copies.add_one();
        let writing = self.begin_write()?;
        let Writing { entry, file } = &writing;
        let end = offset + buf.len() as u64;
        if end <= entry.known_bytes() && self.is_reserved_whole(entry) {
            let present = statx::len(file).map_err(|e| self.io("ask its length", e))?;
            if present < end {
                return Err(self.short(entry.known_bytes(), present));
            }
            return write_all(file, offset, buf)
                .map_err(|error| self.room_error("write it", buf.len() as u64, error));
        }
        self.write_longer(entry, file, offset, buf)
    }

    /// A write that makes the file longer: under the length lock, and undone if there is no room.
    fn write_longer(
        &self,
        entry: &FileEntry,
        file: &Arc<File>,
        offset: u64,
        buf: &[u8],
    ) -> Result<(), MappingError> {
        let _length = entry.lock_length();
        let before = self.uncut_len(entry, file)?;
        self.reserve_whole(entry, file, before)?;
        let before = statx::len(file).map_err(|e| self.io("ask its length", e))?;
        if let (written, Err(error)) = write_some(file, offset, buf) {
            // Any other length is somebody else's (hazard 37).
            let ours = match written {
                0 => before,
                _ => before.max(offset + written as u64),
            };
            self.cut_back(entry, file, before, ours);
            return Err(self.room_error("write it", buf.len() as u64, error));
        }
        if offset > before {
            entry.note_holes();
        }
        entry.saw_len(offset + buf.len() as u64);
        Ok(())
    }

    /// Offsets of files are signed: nothing past 2^63 can be asked of the system.
    pub(super) fn check_offset(&self, offset: u64, len: usize) -> Result<(), MappingError> {
        let end = offset.checked_add(len as u64);
        if end.is_some_and(|end| i64::try_from(end).is_ok()) {
            return Ok(());
        }
        let path = self.path();
        Err(MappingError::Offset {
            path,
            offset,
            len: len as u64,
        })
    }
}

fn write_all(file: &File, offset: u64, buf: &[u8]) -> io::Result<()> {
    write_some(file, offset, buf).1
}

/// Writes as much as can be written; how much that was, and why it was not all.
fn write_some(file: &File, offset: u64, buf: &[u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while done < buf.len() {
        match file.write_at(&buf[done..], offset + done as u64) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(copied) => done += copied,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}
