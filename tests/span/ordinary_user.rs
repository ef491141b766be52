//! Checks that root would not notice, and a representative selection of the others, as an ordinary
//! user.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use flatspan::{
    mapping_cache::{Access, Advice, FlushMode, MappingError},
    span::{Group, GroupError, Pieces},
};

use crate::{
    content::{COPY_PATHS, noise, put, small_cache, tree},
    hashing::sha1,
    support::{self, user},
};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

#[track_caller]
fn assert_denied<T: std::fmt::Debug>(result: Result<T, GroupError>, path: &Path) {
    let error = result.expect_err("no permission");
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::PermissionDenied,
        "{error:?}"
    );
    assert!(
        matches!(&error, GroupError::File(MappingError::Io { path: named, .. }) if named == path)
    );
    assert!(
        error.to_string().contains(path.to_str().expect("UTF-8")),
        "{error}"
    );
}

#[test]
fn an_unreadable_file_is_named() {
    if user::is_root() {
        return;
    }
    let directory = support::temp_dir();
    let path = directory.path().join("b");
    for name in ["a", "b", "c"] {
        put(&directory.path().join(name), &noise(1, 1000));
    }
    chmod(&path, 0o000);
    for copy_path in COPY_PATHS {
        let cache = small_cache(4, copy_path);
        let builder = Group::builder(directory.path()).cache(&cache);
        let builder = builder.file("a", 1000).file("b", 1000);
        let group = builder.file("c", 1000).open().expect("a group");
        let mut buf = vec![0; 3000];
        assert_denied(group.read_exact_at(0, &mut buf), &path);
        assert_denied(group.read_at(1000, &mut buf), &path);
        assert_eq!(group.read_at(0, &mut buf).expect("all of a"), 1000);
        group
            .read_exact_at(2000, &mut buf[..1000])
            .expect("all of c");
        let pieces = Pieces::new(&group, 1000).expect("pieces");
        assert_denied(pieces.hash(1), &path);
        assert_eq!(pieces.hash(2).expect("c"), sha1(&noise(1, 1000)));
        assert_denied(group.prefetch(..), &path);
        #[cfg(feature = "rayon")]
        {
            use flatspan::span::{FileStatus, HashOptions};
            let expected = [sha1(&noise(1, 1000)); 3];
            let found = pieces
                .verify(&expected, &HashOptions::new())
                .expect("a result");
            assert!(matches!(found.files[1].status, FileStatus::Unreadable(_)));
            assert!(matches!(found.files[2].status, FileStatus::Ok));
        }
    }
    chmod(&path, 0o644);
}

#[test]
fn a_file_without_write_permission_can_be_read() {
    if user::is_root() {
        return;
    }
    let directory = support::temp_dir();
    let path = directory.path().join("a");
    put(&path, &noise(1, 1000));
    chmod(&path, 0o444);
    for copy_path in COPY_PATHS {
        let cache = small_cache(4, copy_path);
        let builder = Group::builder(directory.path())
            .cache(&cache)
            .access(Access::ReadWrite);
        let group = builder.existing_file("a").open().expect("a group");
        let mut buf = vec![0; 1000];
        group.read_exact_at(0, &mut buf).expect("a read");
        assert!(buf == noise(1, 1000));
        assert_denied(group.write_all_at(0, b"x"), &path);
        assert!(fs::read(&path).expect("read") == noise(1, 1000));
    }
}

#[test]
fn a_directory_without_write_permission_refuses_new_files() {
    if user::is_root() {
        return;
    }
    let directory = support::temp_dir();
    let locked = directory.path().join("locked");
    fs::create_dir(&locked).expect("mkdir");
    chmod(&locked, 0o555);
    let builder = || {
        Group::builder(&locked)
            .access(Access::ReadWrite)
            .create(true)
    };
    let group = builder().file("new", 5).open().expect("a group");
    assert_denied(group.write_all_at(0, b"hello"), &locked.join("new"));
    assert_denied(builder().file("empty", 0).open(), &locked.join("empty"));
    assert!(tree(&locked).is_empty());
}

#[test]
fn a_move_that_is_denied_changes_nothing() {
    if user::is_root() {
        return;
    }
    let directory = support::temp_dir();
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    put(&old.join("a"), &noise(1, 100));
    put(&old.join("locked/b"), &noise(2, 100));
    fs::create_dir(&new).expect("mkdir");
    chmod(&old.join("locked"), 0o555);
    let builder = Group::builder(&old).access(Access::ReadWrite);
    let mut group = builder
        .existing_file("a")
        .existing_file("locked/b")
        .open()
        .expect("a group");
    let refused = group
        .move_files_to(&new)
        .expect_err("the file must not move");
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(tree(&old), ["a", "locked", "locked/b"]);
    assert!(!tree(&new).iter().any(|path| new.join(path).is_file()));
    let mut buf = vec![0; 200];
    group.read_exact_at(0, &mut buf).expect("all bytes");
    chmod(&old.join("locked"), 0o755);
}

#[test]
fn everyday_work_needs_no_privilege() {
    for copy_path in COPY_PATHS {
        let directory = support::temp_dir();
        let cache = small_cache(8, copy_path);
        let builder = Group::builder(directory.path()).cache(&cache).create(true);
        let builder = builder.access(Access::ReadWrite).file("a/b", 50_000);
        let mut group = builder
            .padding(10)
            .file("c", 50_000)
            .open()
            .expect("a group");
        let mut content = noise(1, 100_010);
        content[50_000..50_010].fill(0);
        group.write_all_at(0, &content).expect("a write");
        group.advise(.., Advice::Sequential).expect("advise");
        group
            .advise(..4096, Advice::Lock)
            .expect("a page may be locked by anyone");
        group.advise(..4096, Advice::Unlock).expect("advise");
        group.flush(.., FlushMode::Sync).expect("flush");
        group.sync_all().expect("sync_all");
        group.evict(..).expect("evict");
        assert!(group.is_resident(..).expect("is_resident"));
        let mut buf = vec![0; 100_010];
        group.read_exact_at(0, &mut buf).expect("a read");
        assert!(buf == content);
        let pieces = Pieces::new(&group, 16_384).expect("pieces");
        for (piece, chunk) in content.chunks(16_384).enumerate() {
            assert_eq!(pieces.hash(piece).expect("a hash"), sha1(chunk));
        }
        group.close_file(0).expect("release_file");
        let new = directory.path().join("new");
        fs::create_dir(&new).expect("mkdir");
        group.move_files_to(&new).expect("move_to");
        assert_eq!(tree(directory.path()), ["new", "new/a", "new/a/b", "new/c"]);
    }
}
