//! A journal record that is accepted equals the record that would be written for it, and is no
//! larger than its input.
//!
//! The fuzz target and `tests/format` include this file; both have the format as `crate::format`.
//! The input is a record. It is parsed unchanged, and with a header and a checksum that match its
//! body.

use crate::format::{Body, Change, RECORD_HEADER_BYTES, RecordHeader, RecordKind};

const JOURNAL_ID: u64 = 0x1234_5678_9abc_def1;

/// Returns whether some of the input was accepted. Panics if `data` breaks the property.
pub(crate) fn check(data: &[u8]) -> bool {
    if let Some((header, body)) = data.split_first_chunk::<RECORD_HEADER_BYTES>() {
        check_header(header, body);
        check_body(body);
    }
    check_body(data)
}

fn check_header(bytes: &[u8; RECORD_HEADER_BYTES], body: &[u8]) {
    let Some(header) = RecordHeader::parse(bytes) else {
        return;
    };
    assert!(header.body_bytes.is_multiple_of(8));
    if header.has_valid_checksum(JOURNAL_ID, body) {
        assert_eq!(header.body_bytes, body.len() as u64);
    }
}

fn check_body(bytes: &[u8]) -> bool {
    let Ok(body) = Body::parse(bytes) else {
        return false;
    };
    assert!(body.changes.len() <= bytes.len() / 16);
    for (offset, change) in &body.changes {
        let len = match change {
            Change::Bytes(bytes) => bytes.len() as u64,
            Change::Zeros(len) => *len,
        };
        let end = offset.checked_add(len);
        assert!(len > 0 && end.is_some_and(|end| end <= body.payload_bytes));
    }
    // A header cannot describe other lengths.
    if bytes.len().is_multiple_of(8) {
        assert_eq!(body.len(), bytes.len());
        check_written(&body, bytes);
    }
    true
}

/// Asserts that the body and its header are written as they were read.
fn check_written(body: &Body<'_>, bytes: &[u8]) {
    let header = RecordHeader {
        kind: RecordKind::Pages,
        last: bytes.len().is_multiple_of(16),
        body_bytes: 0,
        sequence: 3,
        generation: 2,
        floor: 1,
        durable: 2,
        chain: 99,
        checksum: 0,
    };
    let mut out = Vec::new();
    let checksum = header.append(JOURNAL_ID, Some(body), &mut out);
    let (start, rest) = out.split_first_chunk().expect("a header");
    assert!(rest == bytes, "{body:?}");
    let found = RecordHeader::parse(start).expect("a header");
    assert!(
        found.has_valid_checksum(JOURNAL_ID, rest)
            && !found.has_valid_checksum(JOURNAL_ID + 1, rest)
    );
    let expected = RecordHeader {
        body_bytes: bytes.len() as u64,
        checksum,
        ..header
    };
    assert_eq!(found, expected);
}
