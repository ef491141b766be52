//! The expected content of the files, and the mapping of the group's entries to them.

use std::{ops::Range, path::PathBuf};

/// A file of the model.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    /// The bytes up to the longest length that an entry declares, with zeros where nothing was
    /// written.
    pub(crate) bytes: Vec<u8>,
    /// The minimum length of the file; `None` while it cannot have been created.
    pub(crate) reach: Option<u64>,
}

/// An entry of the group.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The file, or `None` for padding.
    pub(crate) file: Option<usize>,
    pub(crate) path: PathBuf,
    /// The offset of the entry in its file.
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) is_range: bool,
}

/// A part of a range in one entry.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) entry: usize,
    /// File and range in it; `None` for padding.
    pub(crate) place: Option<(usize, Range<u64>)>,
    pub(crate) len: usize,
}

/// All files and entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) files: Vec<File>,
    pub(crate) entries: Vec<Entry>,
}

/// The result of one thread: its files, correct on its own share.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) files: Files,
    pub(crate) share: Range<u64>,
}

impl Files {
    pub(crate) fn len(&self) -> u64 {
        self.entries.iter().map(|entry| entry.len).sum()
    }

    /// The start of each entry, and the end of the last one.
    pub(crate) fn bounds(&self) -> Vec<u64> {
        let mut bounds = vec![0];
        for entry in &self.entries {
            bounds.push(bounds.last().expect("not empty") + entry.len);
        }
        bounds
    }

    pub(crate) fn parts(&self, range: &Range<u64>) -> Vec<Part> {
        let mut start = 0;
        let mut parts = Vec::new();
        for (number, entry) in self.entries.iter().enumerate() {
            let end = start + entry.len;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                let at = entry.start + from - start;
                parts.push(Part {
                    entry: number,
                    place: entry.file.map(|file| (file, at..at + to - from)),
                    len: (to - from) as usize,
                });
            }
            start = end;
        }
        parts
    }

    /// The bytes of a range, as if all files had their declared length.
    pub(crate) fn bytes(&self, range: &Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in self.parts(range) {
            match part.place {
                Some((file, at)) => {
                    let of_file = &self.files[file].bytes;
                    bytes.extend_from_slice(&of_file[at.start as usize..at.end as usize]);
                }
                None => bytes.resize(bytes.len() + part.len, 0),
            }
        }
        bytes
    }

    /// The number of bytes from the start of a range that certainly exist.
    pub(crate) fn certain(&self, range: &Range<u64>) -> usize {
        let mut certain = 0;
        for part in self.parts(range) {
            let there = match part.place {
                Some((file, at)) => {
                    let reach = self.files[file].reach.unwrap_or(0);
                    (reach.min(at.end).saturating_sub(at.start)) as usize
                }
                None => part.len,
            };
            certain += there;
            if there < part.len {
                break;
            }
        }
        certain
    }

    /// Writes up to the first padding that `bytes` would change. Returns the number of that entry.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Option<usize> {
        let mut done = 0;
        for part in self.parts(&(offset..offset + bytes.len() as u64)) {
            let new = &bytes[done..done + part.len];
            match part.place {
                Some((file, at)) => {
                    let file = &mut self.files[file];
                    file.bytes[at.start as usize..at.end as usize].copy_from_slice(new);
                    file.reach = Some(file.reach.unwrap_or(0).max(at.end));
                }
                None if new.iter().any(|byte| *byte != 0) => return Some(part.entry),
                None => {}
            }
            done += part.len;
        }
        None
    }

    /// Takes over the changes of a thread on its share.
    pub(crate) fn adopt(&mut self, outcome: &Outcome) {
        for part in self.parts(&outcome.share) {
            let Some((file, at)) = part.place else {
                continue;
            };
            let at = at.start as usize..at.end as usize;
            let theirs = &outcome.files.files[file];
            self.files[file].bytes[at.clone()].copy_from_slice(&theirs.bytes[at]);
        }
        for (ours, theirs) in self.files.iter_mut().zip(&outcome.files.files) {
            ours.reach = ours.reach.max(theirs.reach);
        }
    }
}
