//! Regions of every kind, and stores into them.
#![expect(unsafe_code, reason = "stores and loads through the region's pointer")]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
};

use flatspan::snapshot::{
    FilePart, Region, RegionKind, RegionOptions, RestoredPart, TrackerError, WpAsync,
};

use crate::support::need::{Need, need, skip};

pub(crate) const PAGE: usize = 4096;

pub(crate) const KINDS: [RegionKind; 4] = [
    RegionKind::Anonymous,
    RegionKind::Memfd,
    RegionKind::Files,
    RegionKind::Restored,
];

pub(crate) fn reserving(pages: usize) -> RegionOptions {
    RegionOptions::default().reserve_bytes(pages * PAGE)
}

/// A new file for reading and writing.
pub(crate) fn new_file(folder: &Path, name: &str) -> File {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(folder.join(name))
        .expect("a file")
}

/// What the files beneath a restored region hold at a place: never zero.
pub(crate) fn beneath(offset: usize) -> u8 {
    (offset / PAGE % 250 + 1) as u8
}

/// A region of so many pages (8 at least, a multiple of 4) and its content at first. Files are two, of which the first
/// has a quarter; a restored one has a quarter of its pages behind its two files.
pub(crate) fn region(
    kind: RegionKind,
    folder: &Path,
    pages: usize,
    options: RegionOptions,
) -> Region {
    let (len, quarter) = (pages * PAGE, pages / 4 * PAGE);
    match kind {
        RegionKind::Anonymous => Region::anonymous(len, options),
        RegionKind::Memfd => Region::memfd(len, options),
        RegionKind::Files => {
            let part = |name, bytes| FilePart {
                file: new_file(folder, name),
                bytes,
            };
            Region::files(vec![part("a", quarter), part("b", len - quarter)], options)
        }
        RegionKind::Restored => {
            let first = restored_part(folder, "a", 0, quarter, 0);
            let second = restored_part(folder, "b", quarter, 2 * quarter, 3 * PAGE);
            Region::restored(vec![first, second], len, options)
        }
        kind => panic!("no fixture for a region of kind {kind}"),
    }
    .expect("a region")
}

fn restored_part(
    folder: &Path,
    name: &str,
    start: usize,
    bytes: usize,
    offset: usize,
) -> RestoredPart {
    let file = new_file(folder, name);
    let content: Vec<u8> = (start..start + bytes).map(beneath).collect();
    file.write_all_at(&content, offset as u64).expect("write");
    let file = File::open(folder.join(name)).expect("to read");
    RestoredPart {
        file,
        offset: offset as u64,
        bytes,
    }
}

/// What a region made by [`region`] holds at first.
pub(crate) fn content(kind: RegionKind, pages: usize) -> Vec<u8> {
    let mut content = vec![0; pages * PAGE];
    if kind == RegionKind::Restored {
        let over_files = 3 * (pages / 4) * PAGE;
        (0..over_files).for_each(|at| content[at] = beneath(at));
    }
    content
}

/// The bytes of all files in a folder.
pub(crate) fn all_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
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
    // SAFETY: inside the region, which is borrowed, and which nobody shrinks meanwhile; everybody who uses its bytes here
    // does so by atomics or by the kernel.
    unsafe { AtomicU8::from_ptr(region.as_ptr().as_ptr().add(offset)) }
}

/// A store by an instruction.
pub(crate) fn store(region: &Region, offset: usize, value: u8) {
    byte(region, offset).store(value, Ordering::Relaxed);
}

/// A load by an instruction.
pub(crate) fn load(region: &Region, offset: usize) -> u8 {
    byte(region, offset).load(Ordering::Relaxed)
}

/// All bytes, copied by the kernel.
pub(crate) fn bytes(region: &Region) -> Vec<u8> {
    let mut bytes = vec![0; region.len()];
    region.copy_out(0, &mut bytes).expect("all of it");
    bytes
}

/// The tracker, or a visible skip where this machine lacks it.
#[track_caller]
pub(crate) fn wp_async() -> Option<WpAsync> {
    if !need(Need::Uffd, "") {
        return None;
    }
    match WpAsync::new() {
        Ok(tracker) => Some(tracker),
        Err(TrackerError::Unavailable { source, .. }) => {
            skip(Need::Uffd, &format!("userfaultfd cannot do it: {source}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}
