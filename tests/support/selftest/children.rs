//! Children run exactly the requested test under the requested limits; so does the ordinary user.

use std::{
    env, fs,
    fs::File,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use crate::support::{
    child::{self, Child, Limits},
    filesystem::{Kind, SmallFs},
    memory, temp_dir,
    user::{as_ordinary_user, is_root},
};

#[test]
fn limits_apply_to_the_child() {
    let name = "selftest::children::limits_apply_to_the_child";
    if child::is_me(name) {
        assert_eq!(env::var("GREETING").as_deref(), Ok("hello"));
        let opened: Vec<_> = (0..100)
            .map_while(|_| File::open("/dev/null").ok())
            .collect();
        assert!(opened.len() < 40, "{} descriptors", opened.len());
        return;
    }
    let limits = Limits {
        nofile: Some(40),
        ..Limits::default()
    };
    let Some(done) = child::in_child(name, &[("GREETING", "hello")], limits) else {
        return;
    };
    done.assert_passed();
}

#[test]
fn control_group_limits_memory() {
    let name = "selftest::children::control_group_limits_memory";
    if child::is_me(name) {
        let bytes = vec![1_u8; 256 << 20];
        assert!(memory::peak_rss() > 256 << 20, "{}", bytes.len());
        return;
    }
    let within = |bytes| Limits {
        cgroup_memory_bytes: Some(bytes),
        ..Limits::default()
    };
    let Some(done) = child::in_child(name, &[], within(64 << 20)) else {
        return;
    };
    assert_eq!(done.signal(), Some(libc::SIGKILL), "{done}");
    child::in_child(name, &[], within(1 << 30))
        .expect("a group as before")
        .assert_passed();
}

#[test]
fn strace_injects_errors() {
    let name = "selftest::children::strace_injects_errors";
    if child::is_me(name) {
        let directory = temp_dir();
        let file = File::create(directory.path().join("file")).expect("create");
        let allocate = || fallocate(&file, FallocateFlags::empty(), 0, 4096);
        assert_eq!(allocate(), Ok(()));
        assert_eq!(allocate(), Err(Errno::NOSPC));
        assert_eq!(allocate(), Ok(()));
        assert!(file.sync_all().is_err());
        return;
    }
    let specs = ["fallocate:error=ENOSPC:when=2", "fsync:error=EIO"];
    let Some(done) = child::with_injection(name, &specs, &[]) else {
        return;
    };
    done.assert_passed();
}

#[test]
fn hanging_child_is_killed() {
    let name = "selftest::children::hanging_child_is_killed";
    if child::is_me(name) {
        thread::sleep(Duration::from_secs(60));
    } else {
        let timeout = Duration::from_millis(300);
        let done = Child::new(name)
            .timeout(timeout)
            .run()
            .expect("child needs nothing of the machine");
        assert!(done.timed_out);
    }
}

#[test]
fn killed_test_leaves_no_mount() {
    let name = "selftest::children::killed_test_leaves_no_mount";
    if child::is_me(name) {
        let Some(fs) = SmallFs::new(Kind::Ext4, 0) else {
            return;
        };
        let mut told = File::create(env::var("TELL").expect("TELL")).expect("create");
        told.write_all(fs.path().as_os_str().as_encoded_bytes())
            .expect("write");
        thread::sleep(Duration::from_secs(60));
        return;
    }
    let directory = temp_dir();
    let told = directory.path().join("told");
    let done = Child::new(name)
        .env("TELL", &told)
        .timeout(Duration::from_secs(3))
        .run();
    let Ok(mount) = fs::read_to_string(told) else {
        return; // skipped in the child, which recorded it
    };
    assert!(done.expect("child needs nothing of the machine").timed_out);
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::exists(&mount).expect("stat") {
        assert!(Instant::now() < deadline, "{mount} is still mounted");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn measurements_are_of_this_process() {
    let status = "Name:\tx\nVmHWM:\t    1024 kB\nThreads:\t3\n";
    assert_eq!(memory::in_bytes(status, "VmHWM"), Some(1 << 20));
    assert_eq!(memory::in_bytes(status, "Threads"), None);
    assert!(memory::rss() <= memory::peak_rss());
    assert!(memory::descriptors() >= 3 && memory::mappings() > 10);
}

#[test]
fn root_runs_tests_as_an_ordinary_user() {
    as_ordinary_user("ordinary_user_test");
}

#[test]
fn ordinary_user_test_writes_only_to_permitted_directories() {
    if is_root() {
        return;
    }
    drop(temp_dir());
    assert!(File::create("/flatspan-test-forbidden").is_err());
}
