//! Programs that a shell starts with open descriptors. The numbers from 3 on of this process are
//! shared by all of its tests.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, process};

use crate::support::child::{self, Finished, NAME_VARIABLE};
use crate::support::skips;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Variables of the environment of the test run are not passed to the programs.
const VARIABLES: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

/// The directory through which other processes open the descriptors of this process.
pub(crate) fn path_of(fd: impl AsFd) -> PathBuf {
    format!("/proc/{}/fd/{}", process::id(), fd.as_fd().as_raw_fd()).into()
}

/// A program with these paths opened from 3 on, for reading and writing, and variables.
#[derive(Debug, Default)]
pub(crate) struct Left {
    files: Vec<PathBuf>,
    variables: Vec<(String, String)>,
    says_own_pid: bool,
}

impl Left {
    pub(crate) fn files<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Self {
        Self {
            files: files.into_iter().map(|file| file.as_ref().into()).collect(),
            ..Self::default()
        }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Announces all of the descriptors, with these names.
    pub(crate) fn named(self, names: &str) -> Self {
        let count = self.files.len().to_string();
        self.env("LISTEN_FDS", &count).env("LISTEN_FDNAMES", names)
    }

    /// `LISTEN_PID` is the process id of the program.
    pub(crate) fn with_own_pid(mut self) -> Self {
        self.says_own_pid = true;
        self
    }

    pub(crate) fn command(self, program: impl AsRef<Path>) -> Command {
        let mut script = String::new();
        if self.says_own_pid {
            script.push_str("LISTEN_PID=$$; export LISTEN_PID; ");
        }
        script.push_str("exec env --default-signal \"$@\"");
        for place in 0..self.files.len() {
            write!(script, " {}<>\"$LEFT{place}\"", place + 3).expect("a string accepts text");
        }
        // The environment of the test run may have other descriptors, and ignored signals (nohup,
        // background jobs of a script).
        for number in self.files.len() + 3..10 {
            write!(script, " {number}<&-").expect("a string accepts text");
        }
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(program.as_ref());
        for name in VARIABLES {
            command.env_remove(name);
        }
        for (place, file) in self.files.iter().enumerate() {
            command.env(format!("LEFT{place}"), file);
        }
        command.envs(self.variables);
        command
    }

    /// Runs a test of this binary in this way.
    pub(crate) fn run_test(self, test: &str) -> Finished {
        let mut command = self.command(env::current_exe().expect("this binary"));
        command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(NAME_VARIABLE, test)
            .env(skips::LIST_VARIABLE, skips::list_path());
        child::finish(command, PATIENCE)
    }
}
