//! The row of files that an array is: looked at, made longer, cut.
//!
//! After a crash, parts are there that a directory has noted, as long as their file has noted. So that the row has no
//! gap then, whatever was durable: a part is made only when the one before is durably full, and cut only when
//! those behind it are durably gone. This costs a sync wherever an array grows or is cut across the end of a part,
//! and nothing elsewhere.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::array_files::{ArrayFiles, Shape};
use super::disk::Array;
use super::group_disk::in_context;
use crate::mapping_cache::FlushMode;

impl ArrayFiles {
    /// Looks at the files: how many there are, how long, and whether they are a row.
    pub(super) fn look(&self, shape: &mut Shape) -> io::Result<()> {
        let found = parts_in(shape.group.root(), self.array)?;
        let in_row = (0..).zip(&found).take_while(|(place, part)| place == *part);
        shape.parts = in_row.count();
        shape.broken = None;
        let name = |part: usize| shape.group.root().join(self.array.part_name(part as u64));
        let missing = name(shape.parts);
        if found.is_empty() {
            shape.broken = Some(format!("{}: missing", missing.display()));
            let error = io::ErrorKind::NotFound.into();
            return Err(in_context(&missing, "open it", &error));
        }
        if shape.parts < found.len() {
            let missing = missing.display();
            shape.broken = Some(format!("{missing}: missing, where later parts are there"));
        }
        let mut len = 0;
        for part in 0..shape.parts {
            self.declare(shape, part)?;
            let present = shape.group.present_bytes(part)?;
            len += present.min(self.part_bytes);
            let is_last = part + 1 == found.len();
            if present > self.part_bytes || present < self.part_bytes && !is_last {
                let (path, must) = (shape.group.root(), self.part_bytes);
                let path = path.join(self.array.part_name(part as u64));
                let path = path.display();
                shape.broken = Some(format!("{path}: {present} bytes long, not {must}"));
                break;
            }
        }
        // What others have removed may come back as another file.
        for gone in shape.parts..shape.group.entry_count() {
            shape.group.abandon_file(gone)?;
        }
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn declare(&self, shape: &mut Shape, part: usize) -> io::Result<()> {
        if part == shape.group.entry_count() {
            let name = self.array.part_name(part as u64);
            shape.group.append_file(name, self.part_bytes)?;
        }
        Ok(())
    }

    /// Makes parts until there is one for the last byte before `end`.
    pub(super) fn add_parts_for(&self, shape: &mut Shape, end: u64) -> io::Result<()> {
        while self.start_of(shape.parts) < end {
            let last = shape.parts - 1;
            shape.group.set_file_len(last, self.part_bytes)?;
            self.len
                .store(self.start_of(shape.parts), Ordering::Release);
            let range = self.start_of(last)..self.start_of(shape.parts);
            self.refuse_failed()?;
            self.keep_failure(shape.group.flush(range, FlushMode::Sync))?;
            self.sync_entries(shape)?;
            self.add_part(shape)?;
        }
        Ok(())
    }

    pub(super) fn add_part(&self, shape: &mut Shape) -> io::Result<()> {
        let part = shape.parts;
        self.declare(shape, part)?;
        shape.group.create_file(part)?;
        shape.parts += 1;
        Ok(())
    }

    pub(super) fn remove_last(&self, shape: &mut Shape) -> io::Result<()> {
        let last = shape.parts - 1;
        shape.group.remove_file(last)?;
        shape.parts = last;
        self.len.fetch_min(self.start_of(last), Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn sync_entries(&self, shape: &Shape) -> io::Result<()> {
        self.keep_failure(shape.group.sync_directories())
    }
}

/// The parts of an array that a directory has, by number.
pub(super) fn parts_in(dir: &Path, array: Array) -> io::Result<Vec<u64>> {
    let files = files_in(dir)?;
    let mut parts: Vec<_> = files
        .filter_map(|file| {
            file.map(|(of, part)| (of == array).then_some(part))
                .transpose()
        })
        .collect::<io::Result<_>>()?;
    parts.sort_unstable();
    Ok(parts)
}

/// The parts of all arrays that a directory has. Other files are passed over.
pub(super) fn files_in(
    dir: &Path,
) -> io::Result<impl Iterator<Item = io::Result<(Array, u64)>> + use<>> {
    let listed = |error: io::Error| in_context(dir, "list the directory", &error);
    let entries = fs::read_dir(dir).map_err(listed)?;
    let dir = dir.to_path_buf();
    Ok(entries.filter_map(move |entry| match entry {
        Ok(entry) => Ok(entry.file_name().to_str().and_then(Array::of_file)).transpose(),
        Err(error) => Some(Err(in_context(&dir, "list the directory", &error))),
    }))
}
