//! The length of a file and the storage behind it: making room, and giving it back when it fails.
//!
//! All changes of a file's length by this process happen under its length lock. Rolling back never
//! cuts below the length the file has at that moment: another process may have made it longer
//! (hazard 37).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::entry::FileEntry;
use super::error::{MappingError, is_storage_full};
use super::file::CachedFile;
use super::options::{Preallocation, Reservation, Unreservable};
use crate::sys::fallocate::{self, Promise};
use crate::sys::statx;

impl CachedFile {
    /// Makes a window fit for stores: the file reaches to the window's end or to its declared length,
    /// and its storage is reserved as the options say. Returns the length of the file.
    pub(super) fn make_storable(
        &self,
        entry: &FileEntry,
        file: &File,
        window: u64,
    ) -> Result<u64, MappingError> {
        let start = self.core.windows.start(window);
        let _length = entry.lock_length();
        let present = self.uncut_len(entry, file)?;
        let end = start
            .saturating_add(self.core.windows.bytes() as u64)
            .min(self.declared_bytes.max(present));
        if end <= start {
            return Err(self.short(start + 1, self.declared_bytes.max(present)));
        }
        match self.options.preallocation {
            Preallocation::Full => self.reserve_whole(entry, file, present)?,
            Preallocation::Window => self.reserve_storage(entry, file, start..end, present)?,
            Preallocation::Sparse => {}
        }
        self.extend(entry, file, present, end)
    }

    /// Reserves all of the declared length, once, and sets it. Under the length lock.
    pub(super) fn reserve_whole(
        &self,
        entry: &FileEntry,
        file: &File,
        present: u64,
    ) -> Result<(), MappingError> {
        if self.is_reserved_whole(entry) {
            return Ok(());
        }
        self.reserve_storage(entry, file, 0..self.declared_bytes, present)?;
        self.extend(entry, file, present, self.declared_bytes)?;
        entry
            .reserved_to
            .store(self.declared_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Has all been reserved that this handle wants reserved before the first write?
    pub(super) fn is_reserved_whole(&self, entry: &FileEntry) -> bool {
        self.options.preallocation != Preallocation::Full
            || entry.reserved_to.load(Ordering::Relaxed) >= self.declared_bytes
    }

    /// Length of a file that nobody has cut. Under the length lock.
    pub(super) fn uncut_len(&self, entry: &FileEntry, file: &File) -> Result<u64, MappingError> {
        let present = statx::len(file).map_err(|e| self.io("ask its length", e))?;
        let known = entry.known_bytes();
        if present < known {
            return Err(self.short(known, present));
        }
        entry.saw_len(present);
        Ok(present)
    }

    /// Gives back storage past the end that a failed reservation or write took; `before` is the length
    /// the file had then. Under the length lock.
    pub(super) fn cut_back(&self, entry: &FileEntry, file: &File, before: u64, ours: u64) {
        // What another process made of the file meanwhile stays.
        if statx::len(file).is_ok_and(|now| now == before || now == ours)
            // The failure that led here is what is reported; this one would only hide it.
            && file.set_len(before).is_ok()
        {
            entry.was_cut_to(before);
        }
    }

    pub(super) fn reserve_storage(
        &self,
        entry: &FileEntry,
        file: &File,
        range: Range<u64>,
        present: u64,
    ) -> Result<(), MappingError> {
        let len = range.end - range.start;
        match fallocate::reserve(file, range.start, len) {
            Ok(Promise::EveryWrite) => entry.note_reservation(Reservation::Reserved),
            Ok(Promise::FirstWrite) => entry.note_reservation(Reservation::FirstWriteOnly),
            Err(error) if fallocate::is_unsupported(&error) => {
                if self.options.unreservable == Unreservable::Fail {
                    let (path, operation) = (self.path(), "reserving storage (fallocate)");
                    return Err(MappingError::Unsupported { path, operation });
                }
                entry.note_reservation(Reservation::Unsupported);
            }
            Err(error) => {
                self.cut_back(entry, file, present, present);
                return Err(self.room_error("reserve storage for it", len, error));
            }
        }
        Ok(())
    }

    /// Makes the file `end` bytes long if it is shorter, and says how long it is then. It is never made
    /// shorter, whatever another process does meanwhile, where the filesystem has `fallocate`.
    fn extend(
        &self,
        entry: &FileEntry,
        file: &File,
        before: u64,
        end: u64,
    ) -> Result<u64, MappingError> {
        let ask = || statx::len(file).map_err(|error| self.io("ask its length", error));
        let present = ask()?;
        if present >= end {
            return Ok(present);
        }
        let mut extended = fallocate::extend(file, end);
        if extended.as_ref().is_err_and(fallocate::is_unsupported) {
            extended = file.set_len(end);
        }
        if let Err(error) = extended {
            self.cut_back(entry, file, before, before);
            return Err(self.room_error("make it longer", end - present, error));
        }
        entry.note_holes();
        let reached = ask()?;
        entry.saw_len(reached);
        Ok(reached)
    }

    pub(super) fn room_error(
        &self,
        operation: &'static str,
        needed_bytes: u64,
        error: io::Error,
    ) -> MappingError {
        if is_storage_full(&error) {
            self.storage_full(needed_bytes, error)
        } else {
            self.io(operation, error)
        }
    }
}
