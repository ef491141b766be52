//! Regions of every kind, and stores into them.
#![expect(unsafe_code, reason = "stores and loads through the region's pointer")]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
};

use flatspan::snapshot::{
    FilePart, PrivateFilePart, Region, RegionKind, RegionOptions, TrackerError, WpAsyncTracker,
};

use crate::support::need::{Need, need, skip};

pub(crate) const PAGE: usize = 4096;

pub(crate) const KINDS: [RegionKind; 4] = [
    RegionKind::Anonymous,
    RegionKind::Memfd,
    RegionKind::Files,
    RegionKind::PrivateFiles,
];

pub(crate) fn reserving(pages: usize) -> RegionOptions {
    RegionOptions::default().reserve_bytes(pages * PAGE)
}

/// Creates a file that is open for reading and writing.
pub(crate) fn new_file(directory: &Path, name: &str) -> File {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(directory.join(name))
        .expect("a file")
}

/// Returns the byte that the files of a restored region hold at an offset: never zero.
pub(crate) fn file_byte(offset: usize) -> u8 {
    (offset / PAGE % 250 + 1) as u8
}

/// Returns a region of `pages` pages (at least 8, a multiple of 4) and its initial content.
///
/// The files are two, of which the first has a quarter of the pages. A restored region has a
/// quarter of its pages after its two files.
pub(crate) fn region(
    kind: RegionKind,
    directory: &Path,
    pages: usize,
    options: RegionOptions,
) -> Region {
    let (len, quarter) = (pages * PAGE, pages / 4 * PAGE);
    match kind {
        RegionKind::Anonymous => Region::new_anonymous(len, options),
        RegionKind::Memfd => Region::new_memfd(len, options),
        RegionKind::Files => {
            let part = |name, bytes| FilePart {
                file: new_file(directory, name),
                bytes,
            };
            Region::map_files(vec![part("a", quarter), part("b", len - quarter)], options)
        }
        RegionKind::PrivateFiles => {
            let first = restored_part(directory, "a", 0, quarter, 0);
            let second = restored_part(directory, "b", quarter, 2 * quarter, 3 * PAGE);
            Region::map_private_files(vec![first, second], len, options)
        }
        kind => panic!("no fixture for a region of kind {kind}"),
    }
    .expect("a region")
}

fn restored_part(
    directory: &Path,
    name: &str,
    start: usize,
    bytes: usize,
    offset: usize,
) -> PrivateFilePart {
    let file = new_file(directory, name);
    let content: Vec<u8> = (start..start + bytes).map(file_byte).collect();
    file.write_all_at(&content, offset as u64).expect("write");
    let file = File::open(directory.join(name)).expect("to read");
    PrivateFilePart {
        file,
        offset: offset as u64,
        bytes,
    }
}

/// Returns the initial content of a region made by [`region`].
pub(crate) fn content(kind: RegionKind, pages: usize) -> Vec<u8> {
    let mut content = vec![0; pages * PAGE];
    if kind == RegionKind::PrivateFiles {
        let over_files = 3 * (pages / 4) * PAGE;
        (0..over_files).for_each(|at| content[at] = file_byte(at));
    }
    content
}

/// Returns the bytes of all files in a directory.
pub(crate) fn all_files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read(entry.path()).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

fn byte(region: &Region, offset: usize) -> &AtomicU8 {
    assert!(offset < region.len());
    // SAFETY: the byte is inside the region.
    let address = unsafe { region.as_ptr().as_ptr().add(offset) };
    // SAFETY: the region is borrowed and not shrunk meanwhile. All accesses to its bytes are atomic
    // or made by the kernel.
    unsafe { AtomicU8::from_ptr(address) }
}

/// Stores a byte by an instruction.
pub(crate) fn store(region: &Region, offset: usize, value: u8) {
    byte(region, offset).store(value, Ordering::Relaxed);
}

/// Loads a byte by an instruction.
pub(crate) fn load(region: &Region, offset: usize) -> u8 {
    byte(region, offset).load(Ordering::Relaxed)
}

/// Returns all bytes, copied by the kernel.
pub(crate) fn bytes(region: &Region) -> Vec<u8> {
    let mut bytes = vec![0; region.len()];
    region
        .read_at(0, &mut bytes)
        .expect("complete range is read");
    bytes
}

/// Returns the tracker, or `None` after a visible skip if this machine lacks it.
#[track_caller]
pub(crate) fn wp_async() -> Option<WpAsyncTracker> {
    if !need(Need::Uffd, "") {
        return None;
    }
    match WpAsyncTracker::new() {
        Ok(tracker) => Some(tracker),
        Err(TrackerError::Unavailable { source, .. }) => {
            skip(
                Need::Uffd,
                &format!("userfaultfd does not support it: {source}"),
            );
            None
        }
        Err(error) => panic!("{error}"),
    }
}
