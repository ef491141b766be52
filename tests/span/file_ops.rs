//! Files of a group: created, resized, preallocated, with holes, copied from group to group.

use std::{fs, io::ErrorKind};

use flatspan::{
    mapping_cache::MappingError,
    span::{Group, GroupError},
};

use crate::{
    building::creating,
    content::{noise, put},
    support,
};

#[test]
fn lengths_are_set_up_to_the_declared_length() {
    let directory = support::temp_dir();
    put(&directory.path().join("ranged"), &noise(1, 100));
    let builder = creating(directory.path()).file("a", 5000).padding(9);
    let group = builder
        .file_range("ranged", 10..20)
        .open()
        .expect("a group");
    group.create_file(0).expect("created");
    assert_eq!(group.actual_bytes(0).expect("the request is sent"), 0);
    group.set_file_len(0, 5000).expect("set_file_len");
    assert_eq!(group.actual_bytes(0).expect("the request is sent"), 5000);
    assert!(matches!(
        group.set_file_len(0, 5001),
        Err(GroupError::InvalidArgument {
            argument: "bytes",
            ..
        })
    ));
    assert!(matches!(
        group.set_file_len(1, 1),
        Err(GroupError::NoSuchEntry { .. })
    ));
    assert!(matches!(
        group.set_file_len(2, 1),
        Err(GroupError::InvalidArgument { .. })
    ));
    assert!(matches!(
        group.create_file(3),
        Err(GroupError::NoSuchEntry { .. })
    ));
    let span = group.span(4000..4100).expect("a span");
    for bytes in [0, 4050, 4099] {
        let refused = group
            .set_file_len(0, bytes)
            .expect_err("the range is locked by a span");
        assert_eq!(refused.kind(), ErrorKind::ResourceBusy);
    }
    drop(span);
    group
        .set_file_len(0, 4050)
        .expect("the range is free again");
    assert_eq!(group.actual_bytes(0).expect("the request is sent"), 4050);
}

#[test]
fn a_range_is_discarded_across_files() {
    let directory = support::temp_dir();
    let builder = creating(directory.path()).file("a", 10_000).padding(100);
    let group = builder.file("b", 10_000).open().expect("a group");
    group.write_all_at(0, &noise(1, 10_000)).expect("a");
    group.write_all_at(10_100, &noise(2, 10_000)).expect("b");
    let span = group.span(10_100..10_101).expect("a span");
    assert!(matches!(
        group.discard(9000..11_000),
        Err(GroupError::File(MappingError::RangeLocked { .. }))
    ));
    drop(span);
    group.discard(9000..20_100 - 5).expect("discarded");
    let mut found = vec![1; 20_100];
    group.read_exact_at(0, &mut found).expect("a read");
    assert!(found[..9000] == noise(1, 10_000)[..9000]);
    assert!(found[9000..20_095].iter().all(|byte| *byte == 0));
    assert!(found[20_095..] == noise(2, 10_000)[9995..]);
    let data = group
        .next_data(12_288..)
        .expect("the request is sent")
        .expect("the last bytes");
    assert!(data.start > 10_100 + 4096 && data.end == 20_100, "{data:?}");
    assert_eq!(
        group
            .next_data(10_000..10_100)
            .expect("the request is sent"),
        None
    );
    assert!(group.next_data(1..20_101).is_err());
}

#[test]
fn a_range_is_copied_to_another_group_with_other_files() {
    let directory = support::temp_dir();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    fs::create_dir(&one).expect("mkdir");
    fs::create_dir(&two).expect("mkdir");
    let builder = creating(&one).file("a", 30_000).file("b", 20_000);
    let from = builder.open().expect("a group");
    from.write_all_at(0, &noise(1, 50_000)).expect("a write");
    let builder = creating(&two).file("c", 10_000).file("d", 1000);
    let to = builder.file("e", 60_000).open().expect("a group");
    to.write_all_at(0, &noise(2, 71_000)).expect("a write");
    from.clone_range(5..45_000, &to, 3000).expect("cloned");
    let mut found = vec![0; 71_000];
    to.read_exact_at(0, &mut found).expect("a read");
    let mut model = noise(2, 71_000);
    model[3000..3000 + 44_995].copy_from_slice(&noise(1, 50_000)[5..45_000]);
    assert!(found == model);
    assert!(matches!(
        from.clone_range(.., &to, 30_000),
        Err(GroupError::OutOfBounds { .. })
    ));
    let itself = from.clone_range(0..100, &from, 50);
    assert!(matches!(
        itself,
        Err(GroupError::InvalidArgument { argument: "at", .. })
    ));
    from.clone_range(0..100, &from, 200).expect("beside itself");
    let span = to.span(10_000..10_001).expect("a span");
    let busy = from
        .clone_range(0..100, &to, 9950)
        .expect_err("the range is locked by a span");
    assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
    drop(span);
    to.set_file_len(2, 100).expect("the file is truncated");
    let short = from
        .clone_range(0..101, &to, 11_000)
        .expect_err("the file ends before the range");
    assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_file_is_removed_and_its_entry_stays() {
    let directory = support::temp_dir();
    let builder = creating(directory.path()).file("a", 100).file("b", 100);
    let mut group = builder.open().expect("a group");
    group.write_all_at(0, &noise(1, 200)).expect("a write");
    group.remove_file(0).expect("removed");
    assert!(!directory.path().join("a").exists());
    group.sync_all().expect("the directory too");
    assert_eq!(group.len(), 200);
    let missing = group
        .read_exact_at(0, &mut [0])
        .expect_err("the file is missing");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(matches!(
        group.remove_file(7),
        Err(GroupError::NoSuchEntry { .. })
    ));
    group.write_all_at(0, b"anew").expect("a write");
    assert_eq!(fs::read(directory.path().join("a")).expect("read"), b"anew");
}

#[test]
fn a_copy_past_the_largest_offset_is_out_of_bounds() {
    let padding = |bytes| Group::builder("/").padding(bytes).open().expect("a group");
    let copied = padding(100).clone_range(0..10, &padding(u64::MAX), u64::MAX - 5);
    assert!(
        matches!(copied, Err(GroupError::OutOfBounds { .. })),
        "{copied:?}"
    );
}
