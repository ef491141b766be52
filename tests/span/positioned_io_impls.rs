//! The group through the traits of `positioned-io`, used by code that knows only these traits.

use std::{fs, io};

use flatspan::{
    mapping_cache::{Access, CopyMethod},
    span::Group,
};
use positioned_io::{Cursor, ReadAt, Size, SizeCursor, Slice, WriteAt};

use crate::{
    content::{noise, put, small_cache},
    support,
};

const BYTES: usize = 10_000;

fn group(root: &std::path::Path, access: Access) -> Group {
    put(&root.join("a"), &noise(1, 3000));
    put(&root.join("b"), &noise(2, 7000));
    let cache = small_cache(2, CopyMethod::Auto);
    let builder = Group::builder(root).cache(&cache).access(access);
    builder
        .existing_file("a")
        .existing_file("b")
        .open()
        .expect("a group")
}

fn read_all<R: ReadAt + Size>(from: R) -> io::Result<Vec<u8>> {
    let len = from.size()?.expect("a size");
    let mut all = vec![0; usize::try_from(len).expect("it fits")];
    from.read_exact_at(0, &mut all)?;
    Ok(all)
}

fn write_everywhere<W: WriteAt>(mut to: W, bytes: &[u8]) -> io::Result<()> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    to.write_all_at(first.len() as u64, second)?;
    to.write_all_at(0, first)?;
    to.flush()
}

#[test]
fn generic_code_reads_a_group() {
    let directory = support::temp_dir();
    let group = group(directory.path(), Access::ReadOnly);
    let expected = [noise(1, 3000), noise(2, 7000)].concat();
    assert!(read_all(&group).expect("all bytes") == expected);
    assert!(read_all(Box::new(group)).expect("all bytes") == expected);
}

#[test]
fn generic_code_writes_a_group_shared_or_owned() {
    let directory = support::temp_dir();
    let mut group = group(directory.path(), Access::ReadWrite);
    write_everywhere(&group, &noise(3, BYTES)).expect("shared");
    assert!(read_all(&group).expect("all bytes") == noise(3, BYTES));
    assert_eq!(group.stats().dirty_files, 0, "flushed");
    write_everywhere(&mut group, &noise(4, BYTES)).expect("exclusively");
    write_everywhere(group, &noise(5, BYTES)).expect("owned");
    assert!(fs::read(directory.path().join("a")).expect("read") == noise(5, BYTES)[..3000]);
    assert!(fs::read(directory.path().join("b")).expect("read") == noise(5, BYTES)[3000..]);
}

#[test]
fn adapters_of_the_crate_work_on_a_group() {
    use io::{Read as _, Seek as _, SeekFrom, Write as _};
    let directory = support::temp_dir();
    let group = group(directory.path(), Access::ReadWrite);
    let expected = [noise(1, 3000), noise(2, 7000)].concat();
    let slice = Slice::new(&group, 2990, Some(20));
    let mut buf = [0; 20];
    slice
        .read_exact_at(0, &mut buf)
        .expect("a range across the files");
    assert!(buf[..] == expected[2990..3010]);
    let mut cursor = Cursor::new_pos(&group, 2999);
    cursor.write_all(b"xy").expect("a range across the files");
    let mut sized = SizeCursor::new(&group);
    sized.seek(SeekFrom::End(-7001)).expect("seek");
    let mut two = [0; 2];
    sized.read_exact(&mut two).expect("two bytes");
    assert_eq!(&two, b"xy");
}

#[test]
fn the_end_of_the_group_is_reported_as_in_std_io() {
    let directory = support::temp_dir();
    let group = group(directory.path(), Access::ReadWrite);
    assert_eq!(
        ReadAt::read_at(&group, BYTES as u64, &mut [0]).expect("the process ends"),
        0
    );
    let short = ReadAt::read_exact_at(&group, BYTES as u64 - 1, &mut [0; 2]).unwrap_err();
    assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(
        WriteAt::write_at(&mut &group, BYTES as u64 - 1, b"xy").expect("one byte"),
        1
    );
    assert!(WriteAt::write_all_at(&mut &group, BYTES as u64 - 1, b"xy").is_err());
    assert_eq!(Size::size(&group).expect("a size"), Some(BYTES as u64));
}
