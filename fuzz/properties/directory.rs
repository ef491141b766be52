//! Everything that a reader does, on a directory of arbitrary files: answers and errors, and all it hands out within the length
//! that it tells.
//!
//! Included by the fuzz target and by `tests/format`, each of which has `store_files` at its root.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use flatspan::snapshot::{Image, SnapshotError, StoreReader};

use crate::store_files::{PART_BYTES, store_files};

/// Panics if `data` breaks the property; whether there was a state to read. The files are made in `directory`, and removed before.
pub(crate) fn check(directory: &Path, data: &[u8]) -> bool {
    let files = store_files(data);
    let _nothing_there = fs::remove_dir_all(directory);
    fs::create_dir(directory).expect("a folder");
    for (array, bytes) in &files.arrays {
        // Of no bytes there is a first part too.
        let parts = bytes.len().div_ceil(PART_BYTES as usize).max(1);
        for part in 0..parts {
            let start = part * PART_BYTES as usize;
            let end = bytes.len().min(start + PART_BYTES as usize);
            let path = directory.join(array.part_name(part as u64));
            fs::write(path, &bytes[start..end]).expect("a part");
        }
    }
    let found = read(directory);
    let memory = found.as_ref().ok().map(Vec::as_slice);
    assert!(
        files.may_give(memory),
        "a state that never was: {:?}",
        found.as_ref().err()
    );
    memory.is_some()
}

/// The newest state, after all else was looked at.
fn read(directory: &Path) -> Result<Vec<u8>, SnapshotError> {
    let reader = StoreReader::open(directory)?;
    let survey = reader.survey()?;
    let verified = reader.verify(|_| ControlFlow::Continue(()));
    let newest = reader.newest().and_then(|image| bytes(&image));
    if let Ok(Some(image)) = reader.second_chance() {
        let _may_be_damaged = bytes(&image);
    }
    if verified.is_ok_and(|verified| verified.is_good()) {
        assert!(
            newest.is_ok(),
            "good, and not readable: {newest:?}, {survey:?}"
        );
    }
    newest
}

fn bytes(image: &Image) -> Result<Vec<u8>, SnapshotError> {
    let len = image.len();
    let mut found = vec![0; len.min(1 << 24) as usize];
    image.read(|offset, bytes| {
        let end = offset.checked_add(bytes.len() as u64);
        assert!(end.is_some_and(|end| end <= len), "{offset} of {len}");
        if let Some(place) = found.get_mut(offset as usize..offset as usize + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        Ok::<_, SnapshotError>(())
    })?;
    let parts = image.parts().into_iter();
    let in_parts: u64 = parts.map(|part| part.range.end - part.range.start).sum();
    assert_eq!(in_parts, image.metadata().payload_bytes);
    Ok(found)
}
