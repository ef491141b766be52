//! Stopping programs by `Freezer` [I27].

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::AssertUnwindSafe;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flatspan::shm::{FreezeError, Freezer, Memfd};
use rustix::process::{Pid, Signal, kill_process};

use crate::client;
use crate::freeze_mode::wait_until;
use crate::inherited_fds::{InheritedFds, path_of};
use crate::manager::Killed;
use crate::states::directory;
use crate::support::child;

/// A program that counts in the first page of a memfd.
struct Counting {
    memory: Memfd,
    process: Killed,
    _directory: tempfile::TempDir,
}

impl Counting {
    fn start() -> Self {
        Self::start_as("rows 0")
    }

    fn start_as(act: &str) -> Self {
        let directory = directory();
        let run = directory.path().join("run");
        fs::write(&run, "").expect("a file");
        let memory = Memfd::create("counted", 0).expect("a memfd");
        let act = client::words(&format!("{act} {}", run.display()));
        let mut command = InheritedFds::files([path_of(&memory)])
            .named("SHM_SHARED_FD")
            .command("sh");
        let process = command.args(["-c", &format!("exec {act}")]).spawn();
        let counting = Self {
            memory,
            process: Killed(process.expect("the program starts")),
            _directory: directory,
        };
        counting.assert_running();
        counting
    }

    fn count(&self) -> u64 {
        let map = self.memory.map(0..4096);
        map.map_or(0, |map| map.load(0).expect("a word"))
    }

    #[track_caller]
    fn assert_running(&self) {
        let before = self.count();
        wait_until("the program continues", || self.count() > before);
    }

    #[track_caller]
    fn assert_stopped(&self) {
        let before = self.count();
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(self.count(), before, "the frozen program continues");
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).expect("a signal");
    }

    /// The state letter of the kernel.
    fn state(&self) -> char {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the file exists");
        let state = stat.rsplit_once(") ").expect("a name").1.chars().next();
        state.expect("a letter")
    }
}

#[test]
fn i27_frozen_processes_pause_and_then_continue() {
    let counting = Counting::start();
    for _ in 0..20 {
        let frozen = Freezer::for_process(counting.pid())
            .freeze()
            .expect("the processes are frozen");
        // The main thread of the harness, and the test's thread.
        assert!(frozen.thread_count() >= 1);
        counting.assert_stopped();
        drop(frozen);
        counting.assert_running();
    }
}

#[test]
fn i27_signals_during_a_freeze_are_delivered_afterwards() {
    let mut counting = Counting::start();
    let frozen = Freezer::for_process(counting.pid())
        .freeze()
        .expect("the processes are frozen");
    counting.send(Signal::TERM);
    counting.assert_stopped();
    drop(frozen);
    let status = counting.process.0.wait().expect("the program ends");
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(15)
    );
}

/// Also signals that a process is about to send when it is stopped.
#[test]
fn i27_every_signal_is_delivered_under_repeated_freezes() {
    let (mut program, _directory, run) = running("raise");
    for _ in 0..300 {
        let _frozen = Freezer::for_process(program.0.id())
            .freeze()
            .expect("the processes are frozen");
    }
    fs::remove_file(&run).expect("the process ends");
    assert!(
        program.0.wait().expect("the program ends").success(),
        "a signal was lost"
    );
}

/// A test program that works as long as a given file exists.
fn running(act: &str) -> (Killed, tempfile::TempDir, std::path::PathBuf) {
    let directory = directory();
    let run = directory.path().join("run");
    fs::write(&run, "").expect("a file");
    let act = client::words(&format!("{act} {}", run.display()));
    let mut program = Command::new("sh");
    let program = program
        .args(["-c", &format!("exec {act}")])
        .stdout(Stdio::null());
    (
        Killed(program.spawn().expect("the program starts")),
        directory,
        run,
    )
}

#[test]
fn i27_a_process_stopped_by_a_signal_stays_stopped() {
    let counting = Counting::start();
    counting.send(Signal::STOP);
    wait_until("stopped", || counting.state() == 'T');
    let frozen = Freezer::for_process(counting.pid())
        .freeze()
        .expect("the processes are frozen");
    assert_eq!(counting.state(), 't');
    drop(frozen);
    wait_until("stopped again", || counting.state() == 'T');
    counting.assert_stopped();
    counting.send(Signal::CONT);
    counting.assert_running();
}

#[test]
fn a_traced_process_is_refused_by_name_and_continues() {
    let counting = Counting::start();
    let frozen = Freezer::for_process(counting.pid())
        .freeze()
        .expect("the processes are frozen");
    let refused = Freezer::for_process(counting.pid())
        .freeze()
        .expect_err("traced");
    let FreezeError::PermissionDenied { pid, tracer, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(pid, counting.pid());
    assert!(tracer.is_some_and(|tracer| tracer > 0));
    drop(frozen);
    counting.assert_running();
}

#[test]
fn an_ended_process_does_not_prevent_a_freeze() {
    let mut ended = Killed(Command::new("true").spawn().expect("a program"));
    wait_until("the process ends", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", ended.0.id()));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    });
    let frozen = Freezer::for_process(ended.0.id())
        .freeze()
        .expect("no process to freeze");
    assert_eq!(frozen.thread_count(), 0);
    drop(frozen);
    assert!(
        ended.0.wait().expect("its status").success(),
        "the process is left for its parent to reap"
    );
    let frozen = Freezer::for_process(ended.0.id())
        .freeze()
        .expect("no process is left");
    assert_eq!(frozen.thread_count(), 0);
}

/// A parent in `vfork` cannot be stopped while its child is frozen.
#[test]
fn programs_that_fork_continuously_are_frozen() {
    let (mut program, _directory, run) = running("start");
    for _ in 0..100 {
        let _frozen = Freezer::for_process(program.0.id())
            .freeze()
            .expect("the processes are frozen");
    }
    fs::remove_file(&run).expect("the process ends");
    assert!(program.0.wait().expect("the program ends").success());
}

/// The threads of a process, each with the kernel's state letter.
fn threads_of(pid: u32) -> Vec<(String, char)> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let state = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        Some((thread.file_name().display().to_string(), state))
    };
    threads.flatten().filter_map(state).collect()
}

/// An `execve` waits for the other threads of its process, and their tracer has to reap them.
#[test]
fn programs_that_exec_from_threads_are_frozen() {
    let (mut program, _directory, run) = running("exec");
    for _ in 0..300 {
        let _frozen = Freezer::for_process(program.0.id())
            .freeze()
            .expect("the processes are frozen");
        // A thread that was new when the others were listed has started more threads, or has become
        // another program with the thread id of a frozen one.
        for (thread, state) in threads_of(program.0.id()) {
            assert!(
                ['t', 'Z', 'X'].contains(&state),
                "{thread} is not stopped ({state})"
            );
        }
    }
    fs::remove_file(&run).expect("the process ends");
    assert!(program.0.wait().expect("the program ends").success());
}

const CHAIN: &str = "freezing::i27_no_process_escapes_between_two_forks";

/// Each process of a chain starts the next one and exits.
#[test]
fn i27_no_process_escapes_between_two_forks() {
    if !child::is_me(CHAIN) {
        let done = child::in_child(CHAIN, &[], child::Limits::default());
        return done.expect("an empty range needs nothing").assert_passed();
    }
    flatspan::shm::process::adopt_orphans().expect("the orphans are reparented to this process");
    let directory = directory();
    let log = directory.path().join("log");
    fs::write(&log, "").expect("a file");
    let script = directory.path().join("script");
    let next = format!(
        "if [ -e {0} ]; then echo x >> {0}; sleep 0.01; sh \"$0\" & fi",
        log.display()
    );
    fs::write(&script, next).expect("a file");
    for _ in 0..3 {
        let shell = Command::new("sh").arg(&script).spawn();
        // Reaped with the others.
        let _number = shell.expect("a shell").id();
    }
    let length = || fs::metadata(&log).expect("the log").len();
    let mut stood = 0;
    for _ in 0..100 {
        let before = length();
        wait_until("the program continues", || length() > before);
        let freezer = Freezer::for_descendants().timeout(Duration::from_millis(500));
        // A chain that is faster than the search for its processes is not stopped, and the error
        // reports this.
        match freezer.freeze() {
            Ok(_frozen) => {
                let frozen = length();
                std::thread::sleep(Duration::from_millis(30));
                assert_eq!(length(), frozen, "a process continues");
                stood += 1;
            }
            Err(error) => assert!(matches!(error, FreezeError::Timeout { .. }), "{error}"),
        }
        flatspan::shm::process::reap_orphans(0).expect("reaped");
    }
    assert!(stood > 0, "the process is never stopped");
    fs::remove_file(&log).expect("the process ends");
    let no_process = || {
        Freezer::for_descendants()
            .freeze()
            .expect("no process is left")
            .thread_count()
            == 0
    };
    wait_until("all processes end", no_process);
}

const HOLDER: &str = "freezing::i27_a_killed_host_leaves_no_process_stopped";
const VICTIM: &str = "FLATSPAN_TEST_VICTIM";

#[test]
#[expect(clippy::infinite_loop, reason = "the process is killed by the test")]
fn i27_a_killed_host_leaves_no_process_stopped() {
    if child::is_me(HOLDER) {
        let victim = std::env::var(VICTIM).expect("a number");
        let frozen = Freezer::for_process(victim.parse().expect("a number")).freeze();
        let _frozen = frozen.expect("the processes are frozen");
        println!("frozen");
        std::io::stdout().flush().expect("said");
        loop {
            std::thread::park();
        }
    }
    let counting = Counting::start();
    let mut holder = Command::new(std::env::current_exe().expect("this binary"));
    let holder = holder
        .args(["--exact", HOLDER, "--nocapture", "--test-threads=1"])
        .env(child::NAME_VARIABLE, HOLDER)
        .env(VICTIM, counting.pid().to_string())
        .stdout(Stdio::piped());
    let mut holder = Killed(holder.spawn().expect("the program starts"));
    let said = BufReader::new(holder.0.stdout.take().expect("a pipe"));
    let frozen = said
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("frozen"));
    assert!(frozen);
    counting.assert_stopped();
    assert_eq!(counting.state(), 't');
    holder.0.kill().expect("kill -9");
    holder.0.wait().expect("the program ends");
    counting.assert_running();
    let count = counting
        .memory
        .map_mut(0..4096)
        .expect("the mapping succeeds");
    assert!(count.words()[0].load(Ordering::Relaxed) > 0);
}

/// Standard signals do not queue, so the test waits for each one.
#[test]
fn i27_thousands_of_signals_arrive_under_continuous_freezes() {
    let counting = Counting::start_as("count");
    let map = counting.memory.map(0..4096).expect("the mapping succeeds");
    let heard = || map.load(1).expect("a word");
    // Before the handler exists, the signal would end the process.
    let handles = || {
        let status = fs::read_to_string(format!("/proc/{}/status", counting.pid()));
        let status = status.expect("the file exists");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.expect("a mask").trim(), 16).expect("a mask");
        caught >> (Signal::USR1.as_raw() - 1) & 1 == 1
    };
    wait_until("the handler exists", handles);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| {
            let mut stops = 0;
            while !is_over.load(Ordering::Relaxed) {
                drop(
                    Freezer::for_process(counting.pid())
                        .freeze()
                        .expect("the processes are frozen"),
                );
                stops += 1;
            }
            stops
        });
        let all = std::panic::catch_unwind(AssertUnwindSafe(|| {
            for round in 1..=2000 {
                counting.send(Signal::USR1);
                wait_until("the signal", || heard() == round);
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        assert!(stopping.join().expect("the program stops") > 0);
        all.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// A shell that stops itself after these words, and a pending signal that waits for it.
fn stopped_shell(words: &str, signal: Signal) -> Killed {
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", &format!("{words}; kill -STOP $$")]);
    let shell = Killed(shell.spawn().expect("a shell"));
    let stat = format!("/proc/{}/stat", shell.0.id());
    let is_stopped = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
    wait_until("stopped", is_stopped);
    kill_process(Pid::from_child(&shell.0), signal).expect("a signal");
    shell
}

/// The memory of the process may be inconsistent already. A fault that the process handles may be
/// repaired by it.
#[test]
fn i27_a_process_with_a_fatal_fault_is_not_frozen() {
    for signal in [Signal::SEGV, Signal::BUS, Signal::ABORT, Signal::ILL] {
        let mut shell = stopped_shell(":", signal);
        let freezer = Freezer::for_process(shell.0.id()).timeout(Duration::from_millis(100));
        let refused = || freezer.freeze().expect_err("the process is ending");
        // On a busy machine it may end before it could be stopped.
        let is_late = |error: &FreezeError| matches!(error, FreezeError::Timeout { .. });
        let mut refusals = std::iter::repeat_with(refused).take(100);
        let refused = refusals
            .find(|error| !is_late(error))
            .expect("the program stops");
        let own = shell.0.id();
        assert!(
            matches!(refused, FreezeError::FatalSignalPending { pid, .. } if pid == own),
            "{refused}"
        );
        kill_process(Pid::from_child(&shell.0), Signal::CONT).expect("a signal");
        let status = shell.0.wait().expect("the program ends");
        let signal = Some(signal.as_raw());
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            signal
        );
        assert_eq!(
            freezer.freeze().expect("no process is left").thread_count(),
            0
        );
    }
    // One process repairs the fault, and another one is affected by something else.
    for (words, signal) in [("trap : SEGV", Signal::SEGV), (":", Signal::TERM)] {
        let shell = stopped_shell(words, signal);
        drop(
            Freezer::for_process(shell.0.id())
                .freeze()
                .expect("the processes are frozen"),
        );
    }
}
