//! Messages of errors: what failed, what helps, and no internal representation.

use std::{error::Error as _, io::ErrorKind};

use flatspan::{
    mapping_cache::Access,
    span::{Group, GroupError, Pieces},
};

#[test]
fn creating_without_write_access_names_the_options() {
    let refused = Group::builder("/tmp").create(true).open();
    let message = refused.expect_err("contradicting options").to_string();
    assert!(message.contains("access(Access::ReadWrite)"), "{message}");
    assert!(message.contains("create(false)"), "{message}");
}

#[test]
fn ranges_are_displayed_as_they_were_given() {
    let group = Group::builder("/").padding(10).open().expect("a group");
    let message = |result: Result<(), GroupError>| result.expect_err("out of bounds").to_string();
    assert_eq!(
        message(group.span(4..20).map(drop)),
        "range 4..20 is out of bounds (length 10 bytes)"
    );
    assert_eq!(
        message(group.span(11..).map(drop)),
        "range 11.. is out of bounds (length 10 bytes)"
    );
    assert_eq!(
        message(group.read_exact_at(u64::MAX, &mut [0; 2])),
        "range 18446744073709551615 + 2 is out of bounds (length 10 bytes)"
    );
}

#[test]
fn no_message_contains_its_source() {
    let group = Group::builder("/").padding(10).open().expect("a group");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    drop(theirs);
    let span = group.span(..).expect("free");
    let broken = span.write_all_to(&ours).expect_err("a closed peer");
    let source = broken.source().expect("the system's error").to_string();
    assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
    assert_eq!(broken.to_string(), "transfer ended after 0 bytes");
    assert!(!broken.to_string().contains(&source));
}

#[test]
fn kinds_match_the_conditions() {
    let group = Group::builder("/").padding(10).open().expect("a group");
    let kind = |result: Result<(), GroupError>| result.expect_err("refused").kind();
    assert_eq!(
        kind(group.write_at(10, &[1]).map(drop)),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(
        kind(group.write_all_at(0, &[1])),
        ErrorKind::PermissionDenied
    );
    assert_eq!(
        kind(Pieces::new(&group, 0).map(drop)),
        ErrorKind::InvalidInput
    );
    assert_eq!(kind(group.actual_bytes(0).map(drop)), ErrorKind::NotFound);
    let missing = Group::builder("/nonexistent")
        .access(Access::ReadOnly)
        .existing_file("file")
        .open();
    assert_eq!(missing.expect_err("no file").kind(), ErrorKind::NotFound);
}
