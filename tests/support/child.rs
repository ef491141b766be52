//! Runs one test of this binary in a separate process, for a test that needs limits or injected
//! errors, measures its process, or dies.
//!
//! ```text
//! #[test]
//! fn many_files() {
//!     if child::is_me("many_files") {
//!         return body();
//!     }
//!     let limits = Limits { nofile: Some(64), ..Limits::default() };
//!     let Some(done) = child::in_child("many_files", &[], limits) else { return };
//!     done.assert_passed();
//! }
//! ```

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io::{Read as _, Seek as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

pub(crate) use super::limits::Limits;
use super::{
    cleaner,
    limits::MemoryGroup,
    need::{Need, need, program, skip},
    skips,
};

/// Variable that holds the name of the child's test.
pub(crate) const NAME_VARIABLE: &str = "FLATSPAN_CHILD";

/// Returns whether this process is the child that runs `test` (its full path in the target).
pub(crate) fn is_me(test: &str) -> bool {
    env::var_os(NAME_VARIABLE).is_some_and(|name| name == test)
}

/// Runs one test in a child under limits. Returns `None` if the test was skipped.
#[track_caller]
pub(crate) fn in_child(test: &str, env: &[(&str, &str)], limits: Limits) -> Option<Finished> {
    Child::new(test).envs(env).limits(limits).run()
}

/// Runs one test in a child, with errors injected into its system calls by strace.
///
/// Each of `specs` has the form `fallocate:error=ENOSPC:when=1`. strace counts calls per thread.
#[track_caller]
pub(crate) fn with_injection(test: &str, specs: &[&str], env: &[(&str, &str)]) -> Option<Finished> {
    let child = specs
        .iter()
        .fold(Child::new(test), |child, spec| child.inject(spec));
    child.envs(env).run()
}

/// Builder of a child process.
#[derive(Debug)]
pub(crate) struct Child {
    test: String,
    env: Vec<(OsString, OsString)>,
    limits: Limits,
    injections: Vec<String>,
    timeout: Duration,
}

impl Child {
    /// Creates the builder of a child that runs `test` (its full path in the target).
    pub(crate) fn new(test: &str) -> Self {
        Self {
            test: test.to_owned(),
            env: Vec::new(),
            limits: Limits::default(),
            injections: Vec::new(),
            timeout: Duration::from_secs(120),
        }
    }

    /// Sets an environment variable of the child.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    fn envs(self, env: &[(&str, &str)]) -> Self {
        env.iter()
            .fold(self, |child, (name, value)| child.env(name, value))
    }

    /// Sets the limits of the child.
    pub(crate) fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Injects an error, in the syntax of strace's `inject=`.
    pub(crate) fn inject(mut self, spec: &str) -> Self {
        self.injections.push(spec.to_owned());
        self
    }

    /// Sets the time after which the child is killed. Defaults to two minutes.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the child to its end, or records a skip.
    #[track_caller]
    pub(crate) fn run(self) -> Option<Finished> {
        if !self.limits.is_none() && !need(Need::Tools, "prlimit") {
            return None;
        }
        if !self.injections.is_empty() && !need(Need::Tools, "strace") {
            return None;
        }
        let group = match self.limits.cgroup_memory_bytes.map(MemoryGroup::new) {
            None => None,
            Some(Ok(group)) => Some(group),
            Some(Err(why)) => {
                skip(Need::Tools, &format!("no control group for memory: {why}"));
                return None;
            }
        };
        let mut words = group.as_ref().map(MemoryGroup::prefix).unwrap_or_default();
        words.extend(self.limits.prefix());
        words.extend(self.strace());
        words.push(env::current_exe().expect("this binary").into());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["--exact", &self.test, "--nocapture", "--test-threads=1"])
            .env(NAME_VARIABLE, &self.test)
            .env(skips::LIST_VARIABLE, skips::list_path())
            .envs(self.env);
        Some(finish(command, self.timeout))
    }

    fn strace(&self) -> Vec<OsString> {
        if self.injections.is_empty() {
            return Vec::new();
        }
        let strace = program("strace").expect("limit was set");
        let mut words: Vec<OsString> = vec![strace.into()];
        words.extend(["-f", "-qq", "-o", "/dev/null"].map(OsString::from));
        for spec in &self.injections {
            words.push("-e".into());
            words.push(format!("inject={spec}").into());
        }
        // Calls that are not traced run at full speed: a seccomp filter stops only the traced ones.
        let calls: Vec<&str> = self
            .injections
            .iter()
            .filter_map(|spec| spec.split(':').next())
            .collect();
        words.extend(["--seccomp-bpf".into(), "-e".into()]);
        words.push(format!("trace={}", calls.join(",")).into());
        words
    }
}

/// Result of a child.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Whether the child was killed because it exceeded its timeout.
    pub(crate) timed_out: bool,
}

impl Finished {
    /// Asserts that exactly one test ran, and passed.
    #[track_caller]
    pub(crate) fn assert_passed(&self) {
        assert!(
            self.status.success() && !self.timed_out,
            "the child failed: {self}"
        );
        assert_eq!(self.tests_passed(), 1, "expected exactly one test: {self}");
    }

    /// Returns the signal that ended the child.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Returns the number of tests that passed.
    pub(crate) fn tests_passed(&self) -> usize {
        self.stdout
            .lines()
            .filter_map(|line| {
                line.split_once("test result: ok. ")?
                    .1
                    .split_once(" passed")
            })
            .filter_map(|(count, _)| count.parse::<usize>().ok())
            .sum()
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = if self.timed_out {
            ", killed after the timeout"
        } else {
            ""
        };
        writeln!(f, "{}{late}", self.status)?;
        writeln!(
            f,
            "--- its stdout\n{}--- its stderr\n{}",
            self.stdout, self.stderr
        )
    }
}

/// Runs a command in a new process group until it ends or the timeout expires.
///
/// Output goes to files, because a grandchild that keeps a pipe open would block the reader.
pub(crate) fn finish(mut command: Command, timeout: Duration) -> Finished {
    let mut stdout = tempfile::tempfile().expect("a file");
    let mut stderr = tempfile::tempfile().expect("a file");
    let mut process = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().expect("dup"))
        .stderr(stderr.try_clone().expect("dup"))
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let timed_out = !cleaner::wait(&mut process, timeout);
    if timed_out {
        let _ = kill_process_group(Pid::from_child(&process), Signal::KILL);
    }
    Finished {
        status: process.wait().expect("the child's status"),
        stdout: read_all(&mut stdout),
        stderr: read_all(&mut stderr),
        timed_out,
    }
}

fn read_all(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("seek");
    file.read_to_end(&mut bytes).expect("read");
    String::from_utf8_lossy(&bytes).into_owned()
}
