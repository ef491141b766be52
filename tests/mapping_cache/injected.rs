//! Errors injected into single system calls: interruptions are retried, filtered calls have a
//! fallback.

use std::{os::unix::fs::symlink, path::Path};

use flatspan::mapping_cache::{
    Access, CopyMethod, MappingError, Preallocation, PreallocationStatus,
};

use crate::{
    fixture::{
        PAGE, WINDOW, assert_reads, copying, file_with, len_of, pattern, place, put, reader,
        writable, writer,
    },
    support::{child, temp_dir},
};

/// The dynamic loader also calls pread64 a few times and does not retry.
const AFTER_LOADING: u32 = 20;

/// Runs the calling test again as a child process with these injections.
#[track_caller]
fn with(test: &str, specs: &[&str]) {
    if let Some(done) = child::with_injection(test, specs, &[]) {
        done.assert_passed();
    }
}

/// Creates, extends, maps, reads, writes and syncs a file by every method.
fn exercise(directory: &Path) {
    for path in [CopyMethod::Auto, CopyMethod::Mapped, CopyMethod::Positioned] {
        for preallocation in [
            Preallocation::Full,
            Preallocation::Window,
            Preallocation::Sparse,
        ] {
            let cache = copying(path);
            let name = format!("{path:?}/{preallocation:?}");
            let options = writable().preallocation(preallocation);
            let mut file = file_with(&cache, directory, &name, 3 * WINDOW, options);
            file.write_at(0, &pattern(1, 0, WINDOW)).expect("a write");
            let pin = file.pin(2, Access::ReadWrite).expect("a pin");
            let data = pattern(1, 2 * WINDOW as u64, WINDOW);
            let stored = pin.write_at(0, &data).unwrap_or(0);
            drop(pin);
            file.write_at((2 * WINDOW + stored) as u64, &data[stored..])
                .expect("a write");
            file.write_at(WINDOW as u64, &pattern(1, WINDOW as u64, WINDOW))
                .expect("a write");
            file.sync().expect("a sync");
            assert_reads(&file, 1, 0, 3 * WINDOW);
            file.close().expect("released");
            assert_reads(&file, 1, 0, 3 * WINDOW);
            drop(file.pin(1, Access::ReadOnly).expect("a pin"));
            assert_eq!(len_of(directory, &name), 3 * WINDOW as u64);
        }
    }
}

#[test]
fn interrupted_calls_are_retried() {
    let name = "injected::interrupted_calls_are_retried";
    if !child::is_me(name) {
        // Every second call of each kind: the first call always, its retry never.
        let calls = ["pwrite64", "fallocate", "fdatasync", "ftruncate"];
        let mut specs = calls
            .map(|call| format!("{call}:error=EINTR:when=1+2"))
            .to_vec();
        specs.push(format!("pread64:error=EINTR:when={AFTER_LOADING}+2"));
        return with(name, &specs.iter().map(String::as_str).collect::<Vec<_>>());
    }
    exercise(temp_dir().path());
}

#[test]
fn interrupted_opening_is_retried() {
    let name = "injected::interrupted_opening_is_retried";
    if !child::is_me(name) {
        return with(name, &["openat2:error=EINTR:when=1+2"]);
    }
    exercise(temp_dir().path());
}

#[test]
fn without_openat2_symlinks_are_still_refused() {
    let name = "injected::without_openat2_symlinks_are_still_refused";
    if !child::is_me(name) {
        for error in ["ENOSYS", "EPERM"] {
            with(name, &[&format!("openat2:error={error}")]);
        }
        return;
    }
    let directory = temp_dir();
    exercise(directory.path());
    put(directory.path(), "target", 1, PAGE);
    symlink("target", directory.path().join("link")).expect("a symlink");
    std::fs::create_dir(directory.path().join("real")).expect("mkdir");
    put(&directory.path().join("real"), "a", 1, PAGE);
    symlink("real", directory.path().join("through")).expect("a symlink");
    let cache = copying(CopyMethod::Auto);
    for name in ["link", "through/a"] {
        let file = writer(&cache, directory.path(), name, PAGE);
        let refused = [
            file.read_at(0, &mut [0; 8]).err(),
            file.pin(0, Access::ReadOnly).err(),
            file.write_at(0, b"x").err(),
        ];
        for refused in refused {
            let refused = refused.expect("the path contains a symlink");
            let kind = refused.kind();
            assert!(
                matches!(&refused, MappingError::NotRegularFile { .. })
                    || kind == std::io::ErrorKind::NotADirectory,
                "{name}: {refused:?}"
            );
        }
    }
    let missing = reader(&cache, directory.path(), "none/a", PAGE).read_at(0, &mut [0; 8]);
    assert!(matches!(missing, Err(MappingError::NotFound { .. })));
}

#[test]
fn without_process_vm_calls_copies_use_positioned_io() {
    let name = "injected::without_process_vm_calls_copies_use_positioned_io";
    if !child::is_me(name) {
        let calls = ["process_vm_readv", "process_vm_writev"];
        let specs = calls.map(|call| format!("{call}:error=EPERM"));
        return with(name, &specs.each_ref().map(String::as_str));
    }
    exercise(temp_dir().path());
}

#[test]
fn without_fallocate_windows_are_sparse() {
    let name = "injected::without_fallocate_windows_are_sparse";
    if !child::is_me(name) {
        for error in ["ENOSYS", "EOPNOTSUPP"] {
            with(name, &[&format!("fallocate:error={error}")]);
        }
        return;
    }
    let directory = temp_dir();
    exercise(directory.path());
    let cache = copying(CopyMethod::Auto);
    let file = writer(&cache, directory.path(), "a", WINDOW);
    drop(file.pin(0, Access::ReadWrite).expect("a pin"));
    assert_eq!(
        file.preallocation_status(),
        PreallocationStatus::Unsupported
    );
}

#[test]
fn without_renameat2_no_file_is_replaced() {
    let name = "injected::without_renameat2_no_file_is_replaced";
    if !child::is_me(name) {
        return with(name, &["renameat2:error=EINVAL"]);
    }
    let directory = temp_dir();
    let cache = copying(CopyMethod::Auto);
    put(directory.path(), "a", 1, WINDOW);
    put(directory.path(), "b", 2, WINDOW);
    let mut file = writer(&cache, directory.path(), "a", WINDOW);
    let refused = file.rename_to(place(directory.path(), "b"));
    assert_eq!(
        refused.expect_err("the number is in use").kind(),
        std::io::ErrorKind::AlreadyExists
    );
    assert!(file.rename_to(place(directory.path(), "c")).expect("moved"));
    assert_reads(&file, 1, 0, WINDOW);
    assert_eq!(
        std::fs::read(directory.path().join("b")).expect("b"),
        pattern(2, 0, WINDOW)
    );
}

#[test]
fn an_exhausted_quota_is_reported_as_a_full_disk() {
    let name = "injected::an_exhausted_quota_is_reported_as_a_full_disk";
    if !child::is_me(name) {
        return with(name, &["fallocate:error=EDQUOT", "pwrite64:error=EDQUOT"]);
    }
    let directory = temp_dir();
    let cache = copying(CopyMethod::Positioned);
    let file = writer(&cache, directory.path(), "a", WINDOW);
    let refused = [
        file.pin(0, Access::ReadWrite).err(),
        file.write_at(0, b"x").err(),
    ];
    for refused in refused {
        assert!(
            matches!(refused, Some(MappingError::StorageFull { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(len_of(directory.path(), "a"), 0);
}

#[test]
fn an_io_error_is_reported_by_the_copy() {
    let name = "injected::an_io_error_is_reported_by_the_copy";
    if !child::is_me(name) {
        let pread = format!("pread64:error=EIO:when={AFTER_LOADING}+");
        return with(name, &[&pread, "pwrite64:error=EIO"]);
    }
    let directory = temp_dir();
    let cache = copying(CopyMethod::Positioned);
    put(directory.path(), "a", 1, WINDOW);
    let file = writer(&cache, directory.path(), "a", WINDOW);
    let failed = [
        (0..=AFTER_LOADING).find_map(|_| file.read_at(0, &mut [0; 8]).err()),
        file.write_at(0, b"x").err(),
        file.write_at(2 * WINDOW as u64, b"x").err(),
    ];
    for failed in failed {
        assert!(
            matches!(&failed, Some(MappingError::Io { path, source, .. })
                if path.ends_with("a") && source.raw_os_error() == Some(libc::EIO)),
            "{failed:?}"
        );
    }
}
