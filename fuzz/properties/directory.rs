//! Every operation of the store reader on a directory of arbitrary files returns a result or an
//! error, and returned ranges are within the reported length.
//!
//! The fuzz target and `tests/format` include this file; both have `store_files` at their root.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use flatspan::snapshot::{Image, StoreError, StoreReader};

use crate::store_files::{PART_BYTES, store_files};

/// Returns whether the directory had a readable state. Panics if `data` breaks the property. The
/// files are created in `directory`, which is removed first.
pub(crate) fn check(directory: &Path, data: &[u8]) -> bool {
    let files = store_files(data);
    // It may not exist.
    drop(fs::remove_dir_all(directory));
    fs::create_dir(directory).expect("directory is created");
    for (array, bytes) in &files.arrays {
        // An empty file has a first part too.
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
        files.may_return(memory),
        "unexpected state: {:?}",
        found.as_ref().err()
    );
    memory.is_some()
}

/// Calls every function of the reader, and returns the newest state.
fn read(directory: &Path) -> Result<Vec<u8>, StoreError> {
    let reader = StoreReader::open(directory)?;
    let survey = reader.inspect()?;
    let verified = reader.verify(|_| ControlFlow::Continue(()));
    let newest = reader.newest().and_then(|image| bytes(&image));
    if let Ok(Some(image)) = reader.fallback() {
        // The image may be corrupt.
        drop(bytes(&image));
    }
    if verified.is_ok_and(|verified| verified.is_ok()) {
        assert!(
            newest.is_ok(),
            "verified but not readable: {newest:?}, {survey:?}"
        );
    }
    newest
}

fn bytes(image: &Image) -> Result<Vec<u8>, StoreError> {
    let len = image.len();
    let mut found = vec![0; len.min(1 << 24) as usize];
    image.for_each_data(|offset, bytes| {
        let end = offset.checked_add(bytes.len() as u64);
        assert!(end.is_some_and(|end| end <= len), "{offset} of {len}");
        if let Some(place) = found.get_mut(offset as usize..offset as usize + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        Ok::<_, StoreError>(())
    })?;
    let parts = image.payload_files().into_iter();
    let in_parts: u64 = parts.map(|part| part.range.end - part.range.start).sum();
    assert_eq!(in_parts, image.metadata().payload_bytes);
    Ok(found)
}
