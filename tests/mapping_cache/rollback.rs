//! [I37] The rollback after a failure never undoes a change of another thread or process.

use std::{
    path::Path,
    process::{Child as Process, Command},
    thread,
    time::Duration,
};

use flatspan::mapping_cache::{Access, MappingError, Preallocation};

use crate::{
    fixture::{WINDOW, assert_reads, cache, file_with, len_of, pattern, writable, writer},
    support::{
        child::{self, Child},
        filesystem::{Kind, SmallFs},
        temp_dir,
    },
};

/// Another process that extends a file after a moment.
fn grower(directory: &Path, name: &str, bytes: u64) -> Process {
    Command::new("sh")
        .args(["-c", "sleep 0.4; truncate -s \"$1\" \"$0\""])
        .arg(directory.join(name))
        .arg(bytes.to_string())
        .spawn()
        .expect("a shell")
}

/// Runs the calling test again as a child process, with an error injected into a slow system call.
#[track_caller]
fn with_slow_failure(test: &str, call: &str) {
    let spec = format!("{call}:error=ENOSPC:delay_enter=1200000:when=1");
    if let Some(done) = Child::new(test).inject(&spec).run() {
        done.assert_passed();
    }
}

#[test]
fn i37_failed_preallocation_keeps_the_growth_of_another_process() {
    let name = "rollback::i37_failed_preallocation_keeps_the_growth_of_another_process";
    if !child::is_me(name) {
        return with_slow_failure(name, "fallocate");
    }
    let directory = temp_dir();
    let cache = cache(8);
    let file = writer(&cache, directory.path(), "a", 4 * WINDOW);
    file.create_if_missing().expect("created");
    let mut other = grower(directory.path(), "a", 12_345);
    let refused = file.pin(2, Access::ReadWrite);
    assert!(
        matches!(refused, Err(MappingError::StorageFull { .. })),
        "{refused:?}"
    );
    other.wait().expect("the other process");
    assert_eq!(len_of(directory.path(), "a"), 12_345);
    drop(
        file.pin(2, Access::ReadWrite)
            .expect("the second call succeeds"),
    );
}

#[test]
fn i37_a_failed_write_keeps_the_growth_of_another_process() {
    let name = "rollback::i37_a_failed_write_keeps_the_growth_of_another_process";
    if !child::is_me(name) {
        return with_slow_failure(name, "pwrite64");
    }
    let directory = temp_dir();
    let cache = cache(8);
    let file = writer(&cache, directory.path(), "a", 4 * WINDOW);
    file.create_if_missing().expect("created");
    let mut other = grower(directory.path(), "a", 4096);
    let refused = file.write_at(2 * WINDOW as u64, &[1; 100]);
    assert!(
        matches!(refused, Err(MappingError::StorageFull { .. })),
        "{refused:?}"
    );
    other.wait().expect("the other process");
    assert_eq!(len_of(directory.path(), "a"), 4096);
}

#[test]
fn i37_failed_preallocation_keeps_the_growth_of_another_thread() {
    let name = "rollback::i37_failed_preallocation_keeps_the_growth_of_another_thread";
    if !child::is_me(name) {
        return with_slow_failure(name, "fallocate");
    }
    let directory = temp_dir();
    let cache = cache(8);
    let failing = writer(&cache, directory.path(), "a", 4 * WINDOW);
    let growing = writer(&cache, directory.path(), "a", 4 * WINDOW);
    failing.create_if_missing().expect("created");
    thread::scope(|scope| {
        let slow = scope.spawn(|| failing.pin(3, Access::ReadWrite).err());
        thread::sleep(Duration::from_millis(300));
        growing.write_at(0, &pattern(1, 0, 9000)).expect("a write");
        let refused = slow.join().expect("the thread");
        assert!(
            matches!(refused, Some(MappingError::StorageFull { .. })),
            "{refused:?}"
        );
    });
    assert_eq!(len_of(directory.path(), "a"), 9000);
    assert_reads(&growing, 1, 0, 9000);
}

#[test]
fn i37_concurrent_growth_on_a_full_disk_loses_no_acknowledged_bytes() {
    for kind in Kind::ALL {
        let Some(fs) = SmallFs::new(kind, 64 << 20) else {
            continue;
        };
        let cache = cache(64);
        fs.fill_leaving(3 << 20);
        let share = 2 << 20;
        thread::scope(|scope| {
            for number in 0..4u64 {
                let (cache, fs) = (&cache, &fs);
                scope.spawn(move || {
                    let options = writable().preallocation(if number == 0 {
                        Preallocation::Full
                    } else {
                        Preallocation::Window
                    });
                    let file = file_with(cache, fs.path(), "a", 4 * share, options);
                    let first = number * share as u64;
                    let mut full = false;
                    for at in (first..first + share as u64).step_by(WINDOW) {
                        match file.write_at(at, &pattern(4, at, WINDOW)) {
                            // Acknowledged bytes exist, whichever other thread fails meanwhile.
                            Ok(()) => assert_reads(&file, 4, at, WINDOW),
                            Err(MappingError::StorageFull { .. }) => full = true,
                            Err(error) => panic!("{kind:?}: {error}"),
                        }
                    }
                    assert!(full || number != 0, "{kind:?}: 8 MiB in 3 MiB");
                });
            }
        });
        fs.unfill();
    }
}
