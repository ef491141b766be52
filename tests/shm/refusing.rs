//! Requests that `shm-restore` refuses, and the store after the refusal.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::client;
use crate::freeze_mode::{start, wait_until};
use crate::programs::{clean, expect};
use crate::states::{directory, newest, shell, shm_restore};
use crate::support::need::{Need, need};
use crate::support::user;

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = directory.read_dir().expect("a directory").flatten();
    let named = |entry: fs::DirEntry| {
        let name = entry.file_name().display().to_string();
        (name, fs::read(entry.path()).expect("a file"))
    };
    entries.map(named).collect()
}

#[test]
fn a_failed_exec_leaves_the_store_unchanged() {
    let directory = directory();
    let store = directory.path().join("store");
    let plain = directory.path().join("plain");
    fs::write(&plain, "no program").expect("a file");
    let plain = plain.display().to_string();
    let cases = [
        (127, "nowhere-to-be-found"),
        (127, "/nowhere/at/all"),
        (127, ""),
        (126, &plain),
        (126, "/"),
    ];
    for (code, command) in cases {
        expect(code, shm_restore(&[], &store).arg(command));
        assert!(!store.exists(), "{command}");
    }
    expect(0, &mut shell(&[], &store, &client::words("fill 7 8192")));
    let before = contents(&store);
    for (code, command) in cases {
        expect(code, shm_restore(&[], &store).arg(command));
        assert!(contents(&store) == before, "{command}");
    }
    // Errors that only the kernel detects.
    let script = directory.path().join("script");
    fs::write(&script, "#!/nowhere/interpreter\n").expect("a file");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, executable).expect("chmod");
    expect(127, shm_restore(&[], &store).arg(&script));
    assert_eq!(newest(&store), [7; 8192]);
    expect(0, &mut shell(&[], &store, "true"));
    assert_eq!(newest(&store), [7; 8192]);
}

#[test]
fn a_regular_file_at_the_store_path_is_not_changed() {
    let directory = directory();
    let raw = directory.path().join("raw");
    fs::write(&raw, "a state").expect("a file");
    let said = expect(125, &mut shell(&[], &raw, "echo it ran"));
    assert!(
        said.contains("flatspan import") && !said.contains("it ran"),
        "{said}"
    );
    assert_eq!(fs::read(&raw).expect("the file exists"), b"a state");
    let other = directory.path().join("other");
    fs::create_dir(&other).expect("a directory");
    fs::write(other.join("file"), "something").expect("a file");
    let before = contents(&other);
    let said = expect(125, &mut shell(&[], &other, "echo it ran"));
    assert!(
        said.contains("not a store") && !said.contains("it ran"),
        "{said}"
    );
    assert_eq!(contents(&other), before);
}

#[test]
fn a_second_host_on_one_store_is_refused() {
    let directory = directory();
    let (store, run) = (directory.path().join("store"), directory.path().join("run"));
    fs::write(&run, "").expect("a file");
    let wait = format!(
        "touch {0}.ready; while [ -e {0} ]; do sleep 0.02; done",
        run.display()
    );
    let mut first = start(&mut shell(&[], &store, &wait));
    wait_until("the first", || run.with_extension("ready").exists());
    for how in ["exit", "freeze", "queue"] {
        let how = format!("--mode={how}");
        let said = expect(125, &mut shell(&[&how], &store, "echo it ran"));
        let holder = format!("process {}", first.0.id());
        assert!(
            said.contains("in use") && said.contains(&holder) && !said.contains("it ran"),
            "{said}"
        );
    }
    fs::remove_file(&run).expect("the process ends");
    assert!(first.0.wait().expect("the program ends").success());
    expect(0, &mut shell(&[], &store, "true"));
}

#[test]
fn conflicting_options_are_refused() {
    let directory = directory();
    let store = directory.path().join("store");
    for options in [
        &["--mode=queue", "--on-crash=accept"][..],
        &["--mode=never"],
        &["--part-size=12"],
        &["--fd-name="],
    ] {
        expect(125, &mut shell(options, &store, "exit 3"));
    }
    assert!(!store.exists());
}

/// The children of other users' processes are not visible then.
#[test]
fn i27_a_proc_with_hidepid_is_named_in_the_error() {
    if !["unshare", "setpriv", "mount"]
        .iter()
        .all(|tool| need(Need::Tools, tool))
        || !user::is_root()
    {
        return;
    }
    let directory = directory();
    let (open, program) = (
        directory.path().join("open"),
        directory.path().join("program"),
    );
    fs::create_dir(&open).expect("a directory");
    for directory in [directory.path(), &open] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).expect("a mode");
    }
    // The build directory may be inaccessible to other users.
    fs::copy(env!("CARGO_BIN_EXE_shm-restore"), &program).expect("a copy");
    let on = |hidepid: u32| {
        let script = format!(
            "mount -t proc -o hidepid={hidepid} proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups \
             {} --mode=freeze --interval=0.05 {} sh -c 'printf x >/proc/self/fd/3; sleep 0.3'",
            program.display(),
            open.join(format!("store-{hidepid}")).display()
        );
        let mut command = clean("unshare");
        command.args(["-m", "sh", "-c", &script]);
        command
    };
    let said = expect(125, &mut on(1));
    assert!(said.contains("hidepid") && said.contains("/proc"), "{said}");
    expect(0, &mut on(2));
}
