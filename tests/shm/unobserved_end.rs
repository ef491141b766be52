//! Programs whose end no host observed, because the host was killed too [I26].

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::crashed::{BYTES, Kept, filled, whole};
use crate::freeze_mode::{descendants, kill_tree, start, wait_until};
use crate::manager::Killed;
use crate::programs::expect;
use crate::states::newest;

const HOW: [&str; 2] = ["--mode=exit", "--mode=freeze"];

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a number");
    // The process may be gone.
    kill_process(pid, signal).ok();
}

/// Fills the memfd, writes its number to a file, and waits for the rest of the test.
fn at_work(kept: &Kept, byte: u8) -> String {
    format!(
        "{}; echo $$ >{1}.new; mv {1}.new {1}; while [ -e {2} ]; do sleep 0.02; done",
        filled(byte),
        kept.directory.path().join("said").display(),
        kept.directory.path().display()
    )
}

/// Starts the host and waits until the program has filled the memfd. Returns the host and the
/// process id of the command.
fn started(kept: &Kept, options: &[&str], byte: u8) -> (Killed, u32) {
    let said = kept.directory.path().join("said");
    // No file exists at the first start.
    fs::remove_file(&said).ok();
    let host = start(&mut kept.run(options, &at_work(kept, byte)));
    wait_until("the program works", || said.exists());
    let pid = fs::read_to_string(said).expect("a number");
    (host, pid.trim().parse().expect("a number"))
}

/// A memfd with a good state in the store, after a kill of the whole process tree in the middle of
/// a change.
fn killed_tree(options: &[&str]) -> Kept {
    let kept = Kept::new();
    expect(0, &mut kept.run(&[], &filled(1)));
    let (mut host, _) = started(&kept, options, 2);
    kill_tree(&mut host.0);
    assert_eq!(kept.bytes()[..BYTES], [2; BYTES]);
    kept
}

#[test]
fn i26_a_kill_of_the_whole_tree_does_not_make_a_bad_state_the_newest() {
    for how in HOW {
        let options = [how, "--interval=1000"];
        let kept = killed_tree(&options);
        let said = expect(0, &mut kept.run(&options, "true"));
        assert!(said.contains("was not observed"), "{said}");
        assert_eq!(kept.bytes()[..BYTES], [1; BYTES], "{how}");
        assert_eq!(newest(&kept.store()), whole(1), "{how}");
        let saved = kept.saved();
        assert_eq!(saved.len(), 1, "{how}");
        assert_eq!(
            fs::read(&saved[0]).expect("the crash file")[..BYTES],
            [2; BYTES]
        );
        // Once only: from now on the memfd is live again.
        assert!(!kept.memory_state_path().exists());
        expect(0, &mut kept.run(&options, &filled(3)));
        expect(0, &mut kept.run(&options, "true"));
        assert_eq!(newest(&kept.store()), whole(3), "{how}");
        assert_eq!(kept.saved().len(), 1, "{how}");
    }
}

#[test]
fn i26_on_crash_applies_to_an_unobserved_end() {
    for how in HOW {
        let options = [how, "--interval=1000"];
        let kept = killed_tree(&options);
        let said = expect(125, &mut kept.once("--mode=exit"));
        assert!(said.contains("killed command"), "{said}");
        assert_eq!(
            kept.bytes()[..BYTES],
            [2; BYTES],
            "the memfd is not changed"
        );
        expect(0, &mut kept.run(&[how, "--on-crash=discard"], "true"));
        assert_eq!(newest(&kept.store()), whole(1), "{how}");
        assert!(kept.saved().is_empty(), "{how}");

        let kept = killed_tree(&options);
        let said = expect(0, &mut kept.run(&[how, "--on-crash=accept"], "true"));
        assert!(said.contains("is accepted"), "{said}");
        assert_eq!(newest(&kept.store()), whole(2), "{how}");
        // This decision is permanent.
        expect(0, &mut kept.run(&options, "true"));
        assert_eq!(newest(&kept.store()), whole(2), "{how}");
        assert!(
            kept.saved().is_empty() && !kept.memory_state_path().exists(),
            "{how}"
        );
    }
}

#[test]
fn accepting_and_queue_modes_record_no_memory_state() {
    for options in [&["--on-crash=accept"][..], &["--mode=queue"]] {
        let kept = Kept::new();
        let (mut host, _) = started(&kept, options, 2);
        assert!(!kept.memory_state_path().exists(), "{options:?}");
        kill_tree(&mut host.0);
    }
    let kept = killed_tree(&["--on-crash=accept"]);
    expect(0, &mut kept.run(&[], "true"));
    assert_eq!(newest(&kept.store()), whole(2));
}

/// An exit code is a regular end of the program, whatever its number. A command that did not run
/// has changed nothing.
#[test]
fn a_clean_end_clears_the_memory_state() {
    let kept = Kept::new();
    for how in HOW {
        for code in [0, 1, 200] {
            let script = format!(
                "test -s {} || exit 50; {}; exit {code}",
                kept.memory_state_path().display(),
                filled(1)
            );
            expect(code, &mut kept.run(&[how], &script));
            assert!(!kept.memory_state_path().exists(), "{how} {code}");
        }
    }
    let wrong = kept.directory.path().join("wrong");
    fs::write(&wrong, "#!/not/an/interpreter\n").expect("a file");
    fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a mode");
    let mut command =
        crate::inherited_fds::InheritedFds::files([crate::inherited_fds::path_of(&kept.memory)])
            .named("SHM_SHARED_FD")
            .command(env!("CARGO_BIN_EXE_shm-restore"));
    let said = expect(127, command.arg(kept.store()).arg(&wrong));
    assert!(said.contains("wrong"), "{said}");
    assert!(!kept.memory_state_path().exists());
    assert!(kept.saved().is_empty());
}

#[test]
fn a_command_that_cannot_be_recorded_never_runs() {
    let kept = Kept::new();
    expect(0, &mut kept.run(&[], &filled(1)));
    let new = kept.store().join("memory-state.new");
    fs::create_dir(&new).expect("a directory");
    let said = expect(125, &mut kept.run(&[], &filled(2)));
    assert!(said.contains("memory-state"), "{said}");
    assert_eq!(kept.bytes()[..BYTES], [1; BYTES], "the program has not run");
    fs::remove_dir(&new).expect("it is empty");
    expect(0, &mut kept.run(&[], "true"));
    assert!(kept.saved().is_empty());
}

/// The command is alive, so its memory is as valid as before, whichever host keeps it next.
#[test]
fn i26_the_memfd_of_a_running_command_is_live() {
    for how in HOW {
        let kept = Kept::new();
        expect(0, &mut kept.run(&[], &filled(1)));
        let (mut host, command) = started(&kept, &[how, "--interval=1000"], 2);
        host.0.kill().expect("only the client was killed");
        host.0.wait().expect("the program ends");
        expect(0, &mut kept.once("--mode=exit"));
        assert_eq!(newest(&kept.store()), whole(2), "{how}");
        // Beside another command, which is recorded too and ends well.
        let both = format!(
            "[ $(wc -w <{}) = 6 ] || exit 50; {}",
            kept.memory_state_path().display(),
            filled(3)
        );
        let said = expect(0, &mut kept.run(&[how], &both));
        assert!(!said.contains("was not observed"), "{said}");
        assert_eq!(newest(&kept.store()), whole(3), "{how}");
        assert!(kept.saved().is_empty());
        // While the first command still uses the memfd, nothing is restored into it when another
        // command is killed.
        expect(
            128 + 11,
            &mut kept.run(&[how], &format!("{}; kill -SEGV $$", filled(4))),
        );
        let said = expect(125, &mut kept.run(&[how], "true"));
        assert!(said.contains(&command.to_string()), "{said}");
        assert_eq!(
            kept.bytes()[..BYTES],
            [4; BYTES],
            "the memfd is not changed"
        );
        assert_eq!(kept.saved().len(), 1);
        signal(command, Signal::KILL);
        wait_until("the program ends", || !is_running(command));
        expect(0, &mut kept.run(&[how], "true"));
        assert_eq!(kept.bytes()[..BYTES], [3; BYTES], "{how}");
        assert!(!kept.memory_state_path().exists(), "{how}");
    }
}

/// No host observed its end, although it may have been a regular one.
#[test]
fn i26_a_command_that_ended_without_its_host_is_not_trusted() {
    let kept = Kept::new();
    expect(0, &mut kept.run(&[], &filled(1)));
    let (mut host, command) = started(&kept, &[], 2);
    host.0.kill().expect("only the client was killed");
    host.0.wait().expect("the program ends");
    signal(command, Signal::TERM);
    wait_until("the program ends", || !is_running(command));
    expect(125, &mut kept.once("--mode=exit"));
    expect(0, &mut kept.run(&[], "true"));
    assert_eq!(newest(&kept.store()), whole(1));
    assert_eq!(kept.saved().len(), 1);
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Stores a byte at each of several positions, slowly.
fn change(byte: char, places: &[usize]) -> String {
    let places: Vec<String> = places.iter().map(usize::to_string).collect();
    format!(
        "for place in {}; do printf {byte} | dd of=/proc/self/fd/3 bs=1 seek=$place conv=notrunc 2>/dev/null; done",
        places.join(" ")
    )
}

/// Also the processes that the command starts at this moment, which are in its process group.
fn kill_all(host: &mut Killed) {
    signal(host.0.id(), Signal::STOP);
    let groups = descendants(host.0.id());
    host.0.kill().expect("a signal");
    host.0.wait().expect("the program ends");
    for group in groups {
        let group = Pid::from_raw(group.cast_signed()).expect("a number");
        // The group may have no process left.
        kill_process_group(group, Signal::KILL).ok();
    }
}

/// Whenever the whole tree is killed, the restored state is one with which a command has ended, and
/// no acknowledged state is lost.
#[test]
fn i26_kills_of_the_whole_tree_tear_no_state() {
    const ROUNDS: u64 = 60;
    let places = [0, 5000, 9000, 13_000, 20_000, 30_000];
    let kept = Kept::new();
    expect(0, &mut kept.run(&[], &change('A', &places)));
    let mut known = b'A';
    let mut came = [0; 3];
    for round in 0..ROUNDS {
        let byte = b'B' + u8::try_from(round % 20).expect("small");
        let mut command = kept.run(
            &[HOW[(round % 2) as usize], "--interval=1000"],
            &change(byte.into(), &places),
        );
        let mut host = Killed(
            command
                .stderr(Stdio::null())
                .spawn()
                .expect("the program starts"),
        );
        thread::sleep(Duration::from_micros(round * 7919 % 60_000));
        let acknowledged = host.0.try_wait().expect("its status").is_some();
        kill_all(&mut host);
        expect(0, &mut kept.run(&[], "true"));
        let state = newest(&kept.store());
        let found: Vec<u8> = places.iter().map(|place| state[*place]).collect();
        assert!(
            found.iter().all(|byte| *byte == found[0]),
            "torn: {found:?} in round {round}"
        );
        let is_new = found[0] == byte;
        assert!(
            is_new || (found[0] == known && !acknowledged),
            "{found:?} in round {round}"
        );
        came[usize::from(is_new) + usize::from(acknowledged)] += 1;
        known = found[0];
        for saved in kept.saved() {
            fs::remove_file(saved).expect("the crash file is removed");
        }
    }
    println!("{came:?}");
    assert!(
        came[0] > 0,
        "some processes were killed before their end: {came:?}"
    );
    assert!(!kept.memory_state_path().exists());
}
