//! The built example, servers that run it, and a client that sends raw messages.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{cleaner, example, memory};

pub(crate) const GET: u8 = 1;
pub(crate) const PUT: u8 = 2;
pub(crate) const SYNC: u8 = 3;

pub(crate) const DONE: u8 = 0;
pub(crate) const MALFORMED: u8 = 1;
pub(crate) const RANGE: u8 = 2;
pub(crate) const BUSY: u8 = 3;
pub(crate) const FILE: u8 = 4;
pub(crate) const FULL: u8 = 5;

/// Time limit of every operation except a whole load.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program, ready for arguments.
pub(crate) fn copyd() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    Command::new(PROGRAM.get_or_init(|| example::find_or_build("copyd")))
}

/// Runs the program and expects an exit code. Returns its output as JSON.
pub(crate) fn expect(code: i32, args: &[&str]) -> Value {
    let output = copyd().args(args).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    json(&output)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object on standard output")
}

/// A group on disk: a directory, the length of its files and their number.
pub(crate) struct Files<'a> {
    pub(crate) root: &'a Path,
    pub(crate) bytes: u64,
    pub(crate) count: u64,
}

impl Files<'_> {
    pub(crate) fn len(&self) -> u64 {
        self.bytes * self.count
    }

    pub(crate) fn args(&self) -> Vec<String> {
        let root = self
            .root
            .to_str()
            .expect("the directory is valid UTF-8")
            .to_owned();
        let (bytes, count) = (self.bytes.to_string(), self.count.to_string());
        let pairs = [("--root", root), ("--file-size", bytes), ("--files", count)];
        let words = pairs.map(|(name, value)| [name.to_owned(), value]);
        words.into_iter().flatten().collect()
    }

    /// Runs `check --json` with the expected exit code.
    pub(crate) fn check(&self, code: i32, seed: &str) -> Value {
        let args = self.args();
        let mut words = vec!["check", "--json", "--seed", seed];
        words.extend(args.iter().map(String::as_str));
        expect(code, &words)
    }
}

/// `copyd serve`, killed on drop.
pub(crate) struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(files: &Files, more: &[&str]) -> Self {
        let mut process = copyd()
            .args(["serve", "--json", "--listen", "127.0.0.1:0"])
            .args(files.args())
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut address = String::new();
        stdout.read_line(&mut address).expect("standard output");
        Self {
            process,
            stdout,
            address: address.trim_end().to_owned(),
        }
    }

    pub(crate) fn connect(&self) -> Peer {
        let stream = TcpStream::connect(&self.address).expect("a connection");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Peer(stream)
    }

    /// The peak of resident memory, mapped files included.
    pub(crate) fn peak_rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        memory::in_bytes(&status.expect("a process"), "VmHWM").expect("VmHWM")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("a signal");
    }

    /// Waits for the end. Returns the exit status and the last line of output.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        assert!(
            cleaner::wait(&mut self.process, PATIENCE),
            "the server does not end"
        );
        let mut last = String::new();
        self.stdout.read_to_string(&mut last).expect("its output");
        (self.process.wait().expect("a child"), last)
    }

    /// Ends the server by a signal, which must succeed. Returns the statistics of the cache.
    pub(crate) fn end(self) -> Value {
        self.signal(Signal::TERM);
        let (status, last) = self.wait();
        assert_eq!(status.code(), Some(0), "{last}");
        serde_json::from_str(&last).expect("one JSON object")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// A client that can send any bytes.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    /// Sends the head of a request.
    pub(crate) fn head(&mut self, op: u8, offset: u64, len: u32) {
        let mut head = vec![op];
        head.extend(offset.to_le_bytes());
        head.extend(len.to_le_bytes());
        self.send(&head);
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server listens");
    }

    pub(crate) fn reply(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).expect("a reply");
        let [status, len @ ..] = head;
        let len = u32::from_le_bytes(len);
        assert!(len <= 16 << 10, "a reply of {len} bytes");
        let mut bytes = vec![0; len as usize];
        self.0.read_exact(&mut bytes).expect("a complete reply");
        (status, bytes)
    }

    pub(crate) fn get(&mut self, offset: u64, len: u32) -> (u8, Vec<u8>) {
        self.head(GET, offset, len);
        self.reply()
    }

    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) -> (u8, Vec<u8>) {
        self.head(PUT, offset, u32::try_from(bytes.len()).expect("a block"));
        self.send(bytes);
        self.reply()
    }

    /// Asserts that the server has ended the connection.
    pub(crate) fn assert_ended(mut self) {
        // The connection is reset if the server left bytes unread.
        assert!(matches!(self.0.read(&mut [0]), Ok(0) | Err(_)));
    }
}
