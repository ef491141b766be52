//! Entries from iterators, and `Group::allows_slices`.

use std::fs;

use flatspan::span::{Entry, EntryKind, Group, GroupError};

use crate::{
    building::creating,
    content::{noise, put},
    support,
};

#[test]
fn entries_of_an_iterator_are_those_of_the_methods() {
    let directory = support::temp_dir();
    put(&directory.path().join("existing"), &noise(1, 70));
    let methods = creating(directory.path())
        .file("a/0", 10)
        .file("a/1", 11)
        .existing_file("existing")
        .file_range("existing", 5..25)
        .padding(30)
        .open()
        .expect("a group");
    let entries = creating(directory.path())
        .entries((0..2).map(|number| Entry::file(format!("a/{number}"), 10 + number)))
        .entries(vec![
            Entry::existing_file("existing"),
            Entry::file_range("existing", 5..25),
        ])
        .entries(Some(Entry::padding(30)))
        .entries([])
        .open()
        .expect("a group");
    assert_eq!(methods.layout(), entries.layout());
    assert_eq!(entries.len(), 10 + 11 + 70 + 20 + 30);
    for (one, other) in methods.entries().zip(entries.entries()) {
        assert_eq!(
            (one.path, one.range, one.kind),
            (other.path, other.range, other.kind)
        );
    }
    let kinds: Vec<_> = entries.entries().map(|entry| entry.kind).collect();
    let file = EntryKind::File;
    assert_eq!(
        kinds,
        [file, file, file, EntryKind::FileRange, EntryKind::Padding]
    );
    let mut ranged = [0; 20];
    entries.read_exact_at(91, &mut ranged).expect("a read");
    assert_eq!(ranged[..], noise(1, 70)[5..25]);
}

#[test]
fn an_error_names_the_entry_of_the_iterator() {
    let inverted = (0..5_u64).map(|entry| Entry::file_range("a", 10 * entry..30));
    let refused = Group::builder("/tmp").entries(inverted).open();
    assert!(
        matches!(refused, Err(GroupError::InvalidEntry { entry: 4, .. })),
        "{refused:?}"
    );
    let long = [Entry::padding(u64::MAX), Entry::padding(1)];
    let refused = Group::builder("/tmp").entries(long).open();
    assert!(matches!(
        refused,
        Err(GroupError::LengthOverflow { entry: 1 })
    ));
}

#[test]
fn slices_are_allowed_by_the_promise_only() {
    let directory = support::temp_dir();
    fs::write(directory.path().join("a"), b"abc").expect("a file");
    let builder = || Group::builder(directory.path()).existing_file("a");
    let group = builder().open().expect("a group");
    assert!(!group.allows_slices());
    #[expect(unsafe_code, reason = "the directory is this test's own")]
    // SAFETY: nothing else uses the directory.
    let group = unsafe { builder().assume_exclusive() }
        .open()
        .expect("a group");
    assert!(group.allows_slices());
    let span = group.span(..).expect("free");
    assert_eq!(span.as_slice(), Some(&b"abc"[..]));
}
