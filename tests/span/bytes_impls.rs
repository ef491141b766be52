//! Spans as the traits of the crate `bytes`.

use std::{fs, path::Path, sync::Arc, thread};

use bytes::{Buf as _, BufMut as _, Bytes};
use flatspan::{
    mapping_cache::{Access, MappingError},
    span::{Group, GroupError},
};

use crate::{
    content::{noise, small_cache},
    support,
};

const FILE_BYTES: usize = 10_000;

fn group(root: &Path) -> (Arc<Group>, Vec<u8>) {
    let content = noise(3, 2 * FILE_BYTES);
    fs::write(root.join("a"), &content[..FILE_BYTES]).expect("a file");
    fs::write(root.join("b"), &content[FILE_BYTES..]).expect("a file");
    let cache = small_cache(4, flatspan::mapping_cache::CopyMethod::Auto);
    let builder = Group::builder(root)
        .cache(&cache)
        .access(Access::ReadWrite)
        .file("a", FILE_BYTES as u64)
        .padding(100_000)
        .file("b", FILE_BYTES as u64);
    #[expect(unsafe_code, reason = "the directory is this test's own")]
    // SAFETY: no other code knows the directory.
    let builder = unsafe { builder.assume_exclusive() };
    let mut whole = content[..FILE_BYTES].to_vec();
    whole.resize(FILE_BYTES + 100_000, 0);
    whole.extend_from_slice(&content[FILE_BYTES..]);
    (Arc::new(builder.open().expect("a group")), whole)
}

#[test]
fn i34_bytes_keep_lock_and_pin_until_the_last_clone_is_dropped() {
    let directory = support::temp_dir();
    let (group, whole) = group(directory.path());
    let parts = group
        .owned_span(100..9_000)
        .expect("the range is free")
        .into_bytes();
    assert_eq!(parts.concat(), whole[100..9_000]);
    assert!(parts.len() > 1, "several windows");
    let last = parts[1].slice(10..20);
    drop(parts);
    let busy = |group: &Group| {
        let refused = group.span_mut(100..101);
        matches!(
            refused,
            Err(GroupError::File(MappingError::RangeLocked { .. }))
        )
    };
    assert!(busy(&group));
    assert!(group.stats().pinned_mappings > 0);
    // On any thread, and after every other handle is dropped.
    let watcher = Arc::downgrade(&group);
    let kept = thread::spawn(move || last)
        .join()
        .expect("the thread does not panic");
    assert!(busy(&group));
    drop(group);
    assert!(watcher.upgrade().is_some());
    drop(kept);
    assert!(watcher.upgrade().is_none());
}

#[test]
fn a_span_is_read_and_written_front_to_back() {
    let directory = support::temp_dir();
    let (group, whole) = group(directory.path());
    let span = group.span(..).expect("the range is free");
    let mut buf = span.buf();
    assert_eq!(buf.remaining(), whole.len());
    assert_eq!(
        buf.get_u32(),
        u32::from_be_bytes(whole[..4].try_into().expect("four"))
    );
    buf.advance(5_000);
    assert_eq!(
        buf.copy_to_bytes(buf.remaining()),
        Bytes::copy_from_slice(&whole[5_004..])
    );
    assert!(!buf.has_remaining());
    drop(span);

    let mut span = group
        .span_mut(3..FILE_BYTES as u64)
        .expect("the range is free");
    let mut buf = span.buf_mut();
    buf.put_bytes(9, 4_093);
    buf.put_u64(0x0102_0304_0506_0708);
    assert_eq!(buf.remaining_mut(), FILE_BYTES - 3 - 4_093 - 8);
    drop(span);
    let mut found = vec![0; 4_110];
    group.read_exact_at(0, &mut found).expect("all bytes exist");
    assert_eq!(found[..3], whole[..3]);
    assert!(found[3..4_096].iter().all(|byte| *byte == 9));
    assert_eq!(found[4_096..4_104], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(found[4_104..], whole[4_104..4_110]);
}

#[test]
fn padding_becomes_static_zeros() {
    let group = Group::builder("/").padding(4 << 30);
    #[expect(unsafe_code, reason = "the group has no file")]
    // SAFETY: the group has no file.
    let group = unsafe { group.assume_exclusive() };
    let group = Arc::new(group.open().expect("a group"));
    let parts = group.owned_span(..).expect("a span").into_bytes();
    let len: usize = parts.iter().map(Bytes::len).sum();
    assert_eq!(len, 4 << 30);
    assert!(!parts[0].is_unique(), "static bytes have no owner");
    assert!(parts[0].iter().all(|byte| *byte == 0));
}
