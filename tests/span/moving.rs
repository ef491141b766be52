//! Moving all files of a group to another root.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use flatspan::{
    mapping_cache::{Access, CopyMethod},
    span::{Group, GroupError},
};
use tempfile::TempDir;

use crate::{
    content::{COPY_PATHS, noise, put, small_cache, tree},
    support::{
        self,
        filesystem::{Kind, SmallFs},
    },
};

const NAMES: [&str; 4] = ["a", "d/b", "d/e/c", "missing/m"];
const FILE_BYTES: usize = 10_000;

/// Roots `old` and `new`. Three files are in `old`; a fourth one is missing.
struct Scene {
    directory: TempDir,
    group: Group,
}

impl Scene {
    fn new(copy_path: CopyMethod) -> Self {
        let directory = support::temp_dir();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        fs::create_dir(&old).expect("mkdir");
        fs::create_dir(&new).expect("mkdir");
        let cache = small_cache(16, copy_path);
        let mut builder = Group::builder(&old).cache(&cache).access(Access::ReadWrite);
        builder = builder.create(true).padding(7);
        for name in NAMES {
            builder = builder.file(name, FILE_BYTES as u64);
        }
        let group = builder
            .file("d/b", FILE_BYTES as u64)
            .open()
            .expect("a group");
        group.write_all_at(7, &content()).expect("a write");
        Self { directory, group }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    #[track_caller]
    fn assert_at(&self, root: &Path) {
        assert_eq!(self.group.root(), root);
        let mut buf = vec![0; 3 * FILE_BYTES];
        self.group.read_exact_at(7, &mut buf).expect("three files");
        assert!(buf == content());
        let mut again = vec![0; FILE_BYTES];
        let twin = 7 + 4 * FILE_BYTES as u64;
        self.group
            .read_exact_at(twin, &mut again)
            .expect("the repeated path");
        assert!(again == content()[FILE_BYTES..2 * FILE_BYTES]);
        for (name, bytes) in NAMES[..3].iter().zip(content().chunks(FILE_BYTES)) {
            assert!(fs::read(root.join(name)).expect("read") == bytes, "{name}");
        }
        assert_eq!(tree(root), ["a", "d", "d/b", "d/e", "d/e/c"]);
        // Writes go to the new place, also to the missing file.
        let third = 7 + 3 * FILE_BYTES as u64;
        self.group.write_all_at(third, b"made").expect("a write");
        assert_eq!(fs::read(root.join(NAMES[3])).expect("read")[..4], *b"made");
        self.group.sync_all().expect("sync_all");
    }
}

fn content() -> Vec<u8> {
    noise(1, 3 * FILE_BYTES)
}

#[test]
fn on_one_filesystem_files_are_renamed_and_empty_directories_removed() {
    for copy_path in COPY_PATHS {
        let mut scene = Scene::new(copy_path);
        let (old, new) = (scene.path("old"), scene.path("new"));
        let inode = old.join("a").metadata().expect("metadata").ino();
        scene.group.move_files_to(&new).expect("move_to");
        assert_eq!(new.join("a").metadata().expect("metadata").ino(), inode);
        assert!(tree(&old).is_empty(), "the root itself stays");
        scene.assert_at(&new);
    }
}

#[test]
fn to_another_filesystem_files_are_copied_and_removed() {
    for copy_path in COPY_PATHS {
        let Some(fs) = SmallFs::new(Kind::Tmpfs, 4 << 20) else {
            return;
        };
        let mut scene = Scene::new(copy_path);
        let new = fs.path().join("root");
        fs::create_dir(&new).expect("mkdir");
        scene.group.move_files_to(&new).expect("move_to");
        assert!(tree(&scene.path("old")).is_empty());
        scene.assert_at(&new);
    }
}

#[test]
fn directories_with_other_files_stay() {
    let mut scene = Scene::new(CopyMethod::Auto);
    put(&scene.path("old/d/other"), b"not of the group");
    scene
        .group
        .move_files_to(scene.path("new"))
        .expect("move_to");
    assert_eq!(tree(&scene.path("old")), ["d", "d/other"]);
    scene.assert_at(&scene.path("new"));
}

#[track_caller]
fn assert_exists(result: Result<(), GroupError>, name: &Path) {
    let error = result.expect_err("another file exists at the target");
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{error:?}");
    assert!(
        error.to_string().contains(name.to_str().expect("UTF-8")),
        "{error}"
    );
}

#[test]
fn an_existing_target_leaves_all_files_in_place() {
    for copy_path in COPY_PATHS {
        for name in &NAMES[..3] {
            let mut scene = Scene::new(copy_path);
            let (old, new) = (scene.path("old"), scene.path("new"));
            put(&new.join(name), b"in the way");
            assert_exists(scene.group.move_files_to(&new), &old.join(name));
            assert_eq!(fs::read(new.join(name)).expect("read"), b"in the way");
            let files = tree(&new)
                .into_iter()
                .filter(|path| new.join(path).is_file());
            assert_eq!(files.collect::<Vec<_>>(), [*name], "no other file is left");
            scene.assert_at(&old);
        }
    }
}

#[test]
fn an_existing_target_on_another_filesystem_leaves_all_files_in_place() {
    for name in &NAMES[..3] {
        let Some(fs) = SmallFs::new(Kind::Tmpfs, 4 << 20) else {
            return;
        };
        let mut scene = Scene::new(CopyMethod::Auto);
        put(&fs.path().join(name), b"in the way");
        let old = scene.path("old");
        assert_exists(scene.group.move_files_to(fs.path()), &old.join(name));
        let files = tree(fs.path())
            .into_iter()
            .filter(|path| fs.path().join(path).is_file());
        assert_eq!(files.collect::<Vec<_>>(), [*name]);
        scene.assert_at(&old);
    }
}

#[test]
fn a_full_target_changes_nothing() {
    let Some(fs) = SmallFs::new(Kind::Tmpfs, 64 << 10) else {
        return;
    };
    let mut scene = Scene::new(CopyMethod::Auto);
    fs.fill_leaving(16 << 10);
    let error = scene
        .group
        .move_files_to(fs.path())
        .expect_err("no space is left");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error:?}");
    let files = tree(fs.path())
        .into_iter()
        .filter(|path| fs.path().join(path).is_file());
    assert_eq!(files.collect::<Vec<_>>(), [".filler"]);
    scene.assert_at(&scene.path("old"));
}

#[test]
fn an_invalid_root_changes_nothing() {
    let mut scene = Scene::new(CopyMethod::Auto);
    put(&scene.path("file"), b"x");
    for root in ["absent", "file"] {
        let refused = scene.group.move_files_to(scene.path(root));
        assert!(refused.is_err(), "{root}: {refused:?}");
    }
    assert!(!scene.path("absent").exists());
    scene.assert_at(&scene.path("old"));
}

#[test]
fn a_group_with_paths_outside_its_root_is_not_moved() {
    let directory = support::temp_dir();
    put(&directory.path().join("a"), b"a");
    let builder = Group::builder(directory.path()).allow_outside_root(true);
    let mut group = builder.existing_file("a").open().expect("a group");
    let refused = group.move_files_to(directory.path().join("new"));
    assert!(matches!(
        refused,
        Err(GroupError::InvalidArgument {
            argument: "root",
            ..
        })
    ));
}

#[test]
fn holes_stay_holes_on_another_filesystem() {
    const LEN: u64 = 64 << 20;
    let Some(fs) = SmallFs::new(Kind::Tmpfs, 4 << 20) else {
        return;
    };
    let directory = support::temp_dir();
    let path = directory.path().join("a");
    put(&path, b"start");
    let file = fs::File::options().write(true).open(&path).expect("open");
    file.set_len(LEN).expect("set_len");
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", LEN - 3).expect("write");
    let mut group = Group::builder(directory.path())
        .existing_file("a")
        .open()
        .expect("a group");
    group
        .move_files_to(fs.path())
        .expect("it fits: most of it is a hole");
    let found = fs.path().join("a").metadata().expect("metadata");
    assert_eq!(found.len(), LEN);
    assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());
    let mut buf = [0; 4];
    group.read_exact_at(LEN - 4, &mut buf).expect("a read");
    assert_eq!(&buf, b"\0end");
}

#[test]
fn hard_links_and_other_spellings_of_a_path_move_too() {
    let directory = support::temp_dir();
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    put(&old.join("d/a"), &noise(1, 100));
    fs::hard_link(old.join("d/a"), old.join("link")).expect("link");
    fs::create_dir(&new).expect("mkdir");
    let builder = Group::builder(&old)
        .existing_file("d/a")
        .existing_file("./d/a");
    let mut group = builder
        .existing_file("link")
        .existing_file("d/./a")
        .open()
        .expect("a group");
    group.move_files_to(&new).expect("move_to");
    assert_eq!(tree(&new), ["d", "d/a", "link"]);
    assert!(tree(&old).is_empty());
    let mut buf = vec![0; 400];
    group.read_exact_at(0, &mut buf).expect("all bytes");
    assert!(buf == noise(1, 100).repeat(4));
}

#[test]
fn a_refused_move_beside_a_reader_leaves_the_files_in_place() {
    let directory = support::temp_dir();
    let roots = ["x", "y"].map(|name| directory.path().join(name));
    for root in &roots {
        fs::create_dir(root).expect("mkdir");
    }
    let cache = small_cache(4, CopyMethod::Auto);
    let open = |root: &Path| {
        let builder = Group::builder(root).cache(&cache);
        let builder = builder.access(Access::ReadWrite).create(true);
        builder
            .file("a", FILE_BYTES as u64)
            .open()
            .expect("a group")
    };
    let mut group = open(&roots[0]);
    group
        .write_all_at(0, &noise(1, FILE_BYTES))
        .expect("a write");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for root in &roots {
                    let reader = open(root);
                    for _ in 0..20 {
                        drop(reader.span(0..100));
                    }
                }
            }
        });
        for _ in 0..500 {
            let before = group.root().to_path_buf();
            let target = roots.iter().find(|root| **root != before).expect("two");
            let moved = group.move_files_to(target);
            let expected = if moved.is_ok() { target } else { &before };
            assert_eq!(group.root(), expected);
            assert!(expected.join("a").exists(), "{moved:?}");
        }
        ended.store(true, Ordering::Relaxed);
    });
    let mut found = vec![0; FILE_BYTES];
    group.read_exact_at(0, &mut found).expect("a read");
    assert!(found == noise(1, FILE_BYTES));
}

#[test]
fn spans_of_other_groups_do_not_keep_files_from_being_moved_and_moved_back() {
    let mut scene = Scene::new(CopyMethod::Auto);
    let (old, new) = (scene.path("old"), scene.path("new"));
    let links = scene.path("links");
    fs::create_dir(&links).expect("mkdir");
    fs::hard_link(old.join("a"), links.join("a")).expect("a link");
    let cache = small_cache(4, CopyMethod::Auto);
    let other = Group::builder(&links)
        .cache(&cache)
        .access(Access::ReadWrite)
        .file("a", FILE_BYTES as u64)
        .open()
        .expect("a group");
    let mut span = other.span_mut(..100).expect("the range is unlocked");
    // The last file cannot be moved, so the first one is moved back.
    put(&new.join("d/e/c"), b"in the way");
    scene
        .group
        .move_files_to(&new)
        .expect_err("the file exists");
    assert!(old.join("a").exists() && !new.join("a").exists());
    fs::remove_file(new.join("d/e/c")).expect("removed");
    scene.group.move_files_to(&new).expect("move_to");
    span.write_at(0, &content()[..100]).expect("a write");
    drop(span);
    scene.assert_at(&new);
}
