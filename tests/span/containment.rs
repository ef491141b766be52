//! Paths stay below the root unless the caller allows otherwise.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
};

use flatspan::{
    mapping_cache::{Access, MappingError},
    span::{Group, GroupBuilder, GroupError},
};
use tempfile::TempDir;

use crate::{
    content::{noise, put, tree},
    support,
};

/// A root, and beside it a directory and a file that must not be reached.
struct Scene {
    directory: TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = support::temp_dir();
        put(&directory.path().join("outside/secret"), b"secret");
        put(&directory.path().join("root/inside/file"), b"inside");
        Self { directory }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn builder(&self) -> GroupBuilder {
        let builder = Group::builder(self.path("root"));
        builder.access(Access::ReadWrite).create(true)
    }

    /// Asserts that reads, writes and syncs are refused and that nothing outside the root changes.
    #[track_caller]
    fn assert_refused_at_use(&self, path: &str) {
        let before = tree(&self.path("outside"));
        let group = self.builder().file(path, 6).open().expect("a group");
        for refused in [
            group.read_exact_at(0, &mut [0; 6]),
            group.write_all_at(0, b"public"),
            group.prefetch(..),
            group.is_resident(..).map(drop),
        ] {
            let Err(GroupError::File(error)) = &refused else {
                panic!("{path}: {refused:?}");
            };
            assert!(
                matches!(
                    error,
                    MappingError::OutsideRoot { .. } | MappingError::NotRegularFile { .. }
                ) || error.kind() == std::io::ErrorKind::NotADirectory,
                "{path}: {error:?}"
            );
        }
        assert!(self.builder().existing_file(path).open().is_err(), "{path}");
        assert_eq!(tree(&self.path("outside")), before);
        assert_eq!(
            fs::read(self.path("outside/secret")).expect("read"),
            b"secret"
        );
    }
}

#[test]
fn paths_outside_the_root_are_refused_at_once() {
    let scene = Scene::new();
    let absolute = scene.path("outside/secret");
    for path in [
        "..",
        "../outside/secret",
        "inside/../../outside/secret",
        "inside/../inside/file",
        "inside/..",
        "",
        ".",
        "/",
        absolute.to_str().expect("UTF-8"),
    ] {
        for builder in [
            scene.builder().file(path, 6),
            scene.builder().file_range(path, 0..6),
            scene.builder().existing_file(path),
            scene.builder().file(path, 0),
        ] {
            let refused = builder.open();
            assert!(
                matches!(&refused, Err(GroupError::File(MappingError::OutsideRoot { path: named }))
                    if named == Path::new(path)),
                "{path:?}: {refused:?}"
            );
        }
        let mut group = scene.builder().open().expect("a group");
        assert!(group.append_file(path, 1).is_err(), "{path:?}");
        assert_eq!(group.entry_count(), 0);
    }
}

#[test]
fn names_that_resemble_outside_paths_are_allowed() {
    let scene = Scene::new();
    for path in [
        "...",
        "..file",
        "a/.hidden",
        "./b",
        "a/./c",
        "a//d",
        "-",
        "~",
        "back\\slash",
    ] {
        let group = scene.builder().file(path, 3).open().expect(path);
        group.write_all_at(0, b"abc").expect(path);
        assert_eq!(fs::read(scene.path("root").join(path)).expect(path), b"abc");
    }
}

#[test]
fn a_symlink_on_the_path_is_refused() {
    let scene = Scene::new();
    symlink("../outside", scene.path("root/relative")).expect("symlink");
    symlink(scene.path("outside"), scene.path("root/absolute")).expect("symlink");
    symlink("inside", scene.path("root/harmless")).expect("symlink");
    for path in [
        "relative/secret",
        "absolute/secret",
        "harmless/file",
        "relative/new",
    ] {
        scene.assert_refused_at_use(path);
    }
    assert_eq!(
        fs::read(scene.path("root/inside/file")).expect("read"),
        b"inside"
    );
}

#[test]
fn a_symlink_at_the_end_is_refused() {
    let scene = Scene::new();
    symlink("../outside/secret", scene.path("root/relative")).expect("symlink");
    symlink(scene.path("outside/secret"), scene.path("root/absolute")).expect("symlink");
    symlink("../outside/new", scene.path("root/dangling")).expect("symlink");
    symlink("loop", scene.path("root/loop")).expect("symlink");
    for path in ["relative", "absolute", "dangling", "loop"] {
        scene.assert_refused_at_use(path);
        assert!(scene.builder().file(path, 0).open().is_err(), "{path}");
    }
}

#[test]
fn a_symlink_created_later_is_refused() {
    let scene = Scene::new();
    let group = scene
        .builder()
        .file("inside/file", 6)
        .open()
        .expect("a group");
    fs::rename(scene.path("root/inside"), scene.path("root/moved")).expect("rename");
    put(&scene.path("outside/file"), b"secret");
    symlink("../outside", scene.path("root/inside")).expect("symlink");
    assert!(group.read_exact_at(0, &mut [0; 6]).is_err());
    assert!(group.write_all_at(0, b"public").is_err());
    assert_eq!(
        fs::read(scene.path("outside/file")).expect("read"),
        b"secret"
    );
}

#[test]
fn a_root_that_is_a_symlink_is_the_callers_choice() {
    let scene = Scene::new();
    symlink("root", scene.path("link")).expect("symlink");
    let builder = Group::builder(scene.path("link")).file("inside/file", 6);
    let group = builder.open().expect("a group");
    let mut buf = [0; 6];
    group
        .read_exact_at(0, &mut buf)
        .expect("through the root's link");
    assert_eq!(&buf, b"inside");
}

#[test]
fn outside_paths_work_where_allowed() {
    let scene = Scene::new();
    symlink("../outside", scene.path("root/link")).expect("symlink");
    let absolute = scene.path("outside/new/absolute");
    let group = scene
        .builder()
        .allow_outside_root(true)
        .file("../outside/secret", 6)
        .file("link/secret", 6)
        .file("link/new/linked", 6)
        .file(&absolute, 6)
        .file("inside/../inside/file", 6)
        .open()
        .expect("a group");
    let mut buf = [0; 12];
    group
        .read_exact_at(0, &mut buf)
        .expect("the same entry twice");
    assert_eq!(&buf, b"secretsecret");
    let content: Vec<u8> = noise(1, 30);
    group.write_all_at(0, &content).expect("all bytes");
    assert_eq!(
        fs::read(scene.path("outside/secret")).expect("read"),
        &content[6..12]
    );
    assert_eq!(
        fs::read(scene.path("outside/new/linked")).expect("read"),
        &content[12..18]
    );
    assert_eq!(fs::read(absolute).expect("read"), &content[18..24]);
    assert_eq!(
        fs::read(scene.path("root/inside/file")).expect("read"),
        &content[24..]
    );
}

#[test]
fn special_files_are_refused_without_waiting() {
    let scene = Scene::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scene.path("root/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("mkfifo");
    let _socket = UnixListener::bind(scene.path("root/socket")).expect("a socket");
    fs::create_dir(scene.path("root/directory")).expect("mkdir");
    for path in ["fifo", "socket", "directory"] {
        let group = scene.builder().file(path, 6).open().expect("a group");
        for refused in [
            group.read_exact_at(0, &mut [0]),
            group.write_all_at(0, b"x"),
        ] {
            assert!(
                matches!(&refused, Err(GroupError::File(MappingError::NotRegularFile { path: named, .. }))
                    if *named == scene.path("root").join(path)),
                "{path}: {refused:?}"
            );
        }
    }
}
