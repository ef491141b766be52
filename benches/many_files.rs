//! Costs that must not grow with the number of files: creating, writing, moving; and padding.

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use flatspan::mapping_cache::Access;
use flatspan::span::{Entry, Group};
use support::{compare, name};
use tempfile::TempDir;

const ROUNDS: usize = 5;

fn directory() -> TempDir {
    TempDir::with_prefix("flatspan-bench-").expect("a temporary directory")
}

fn writable(root: &Path, files: usize, bytes: u64) -> Group {
    Group::builder(root)
        .access(Access::ReadWrite)
        .create(true)
        .entries((0..files).map(|file| Entry::file(name(file), bytes)))
        .open()
        .expect("a group")
}

fn create_empty(files: usize) {
    let ours = || {
        let root = directory();
        drop(writable(root.path(), files, 0));
    };
    let theirs = || {
        let root = directory();
        for file in 0..files {
            File::create(root.path().join(name(file))).expect("a file");
        }
    };
    let what = format!("open a group of {files} empty files, created; File::create");
    compare(&what, ROUNDS, ours, theirs);
}

fn write_small(files: usize, bytes: u64) {
    let content = vec![7; usize::try_from(bytes).expect("a length") * files];
    let ours = || {
        let root = directory();
        let group = writable(root.path(), files, bytes);
        for (at, block) in (0..).step_by(16 << 10).zip(content.chunks(16 << 10)) {
            group.write_all_at(at, block).expect("a write");
        }
        group.sync_all().expect("a sync");
    };
    let theirs = || {
        let root = directory();
        for (file, block) in content.chunks(bytes as usize).enumerate() {
            let mut file = File::create(root.path().join(name(file))).expect("a file");
            file.write_all(block).expect("a write");
            file.sync_data().expect("a sync");
        }
    };
    let what = format!("write and sync {files} files of {bytes} bytes; write, fdatasync each");
    compare(&what, 3, ours, theirs);
}

fn move_all(files: usize) {
    let source = directory();
    let (one, two) = (source.path().join("one"), source.path().join("two"));
    for root in [&one, &two] {
        fs::create_dir(root).expect("a directory");
    }
    for file in 0..files {
        fs::write(one.join(name(file)), b"content").expect("a file");
    }
    let mut group = Some(writable(&one, files, 7));
    let mut roots = [one.clone(), two.clone()];
    let plain = directory();
    let mut plain_roots = ["one", "two"].map(|root| plain.path().join(root));
    for root in &plain_roots {
        fs::create_dir(root).expect("a directory");
    }
    for file in 0..files {
        fs::write(plain_roots[0].join(name(file)), b"content").expect("a file");
    }
    let ours = || {
        let moved = group.as_mut().expect("a group");
        moved.move_files_to(&roots[1]).expect("a move");
        roots.swap(0, 1);
    };
    let theirs = || {
        for file in (0..files).map(name) {
            fs::rename(plain_roots[0].join(&file), plain_roots[1].join(&file)).expect("a rename");
        }
        plain_roots.swap(0, 1);
    };
    compare(&format!("move {files} files; rename"), ROUNDS, ours, theirs);
}

#[cfg(feature = "bytes")]
fn padding_to_bytes() {
    let padding = Group::builder("/").padding(4 << 30).open();
    let group = std::sync::Arc::new(padding.expect("a group"));
    let ours = || {
        let span = group.owned_span(..).expect("a span");
        drop(span.into_bytes());
    };
    compare("4 GiB of padding to bytes", ROUNDS, ours, || {});
}

fn many_files(_: &mut Criterion) {
    create_empty(2000);
    write_small(3005, 1000);
    move_all(4000);
    #[cfg(feature = "bytes")]
    padding_to_bytes();
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = many_files
}
criterion_main!(benches);
