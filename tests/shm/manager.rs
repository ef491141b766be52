//! A replacement of a service manager: it reads a service's messages, keeps its descriptors, and
//! passes them to the next start.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{self, Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

use crate::inherited_fds::{InheritedFds, TIMEOUT, path_of};
use crate::support;

pub(crate) struct Manager {
    socket: UnixDatagram,
    /// The address for `NOTIFY_SOCKET`.
    pub(crate) address: String,
    /// All messages of the service, one per element.
    pub(crate) heard: Vec<String>,
    kept: Vec<(String, OwnedFd)>,
    _directory: TempDir,
}

impl Manager {
    pub(crate) fn on_a_path() -> Self {
        let directory = support::temp_dir();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self::new(socket, path.display().to_string(), directory)
    }

    pub(crate) fn on_an_abstract_name() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("flatspan-test-{}-{number}", process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        Self::new(socket, format!("@{name}"), support::temp_dir())
    }

    fn new(socket: UnixDatagram, address: String, directory: TempDir) -> Self {
        let timeout = Some(Duration::from_millis(20));
        socket.set_read_timeout(timeout).expect("a timeout");
        Self {
            socket,
            address,
            heard: Vec::new(),
            kept: Vec::new(),
            _directory: directory,
        }
    }

    /// The descriptors kept under this name.
    pub(crate) fn kept(&self, name: &str) -> Vec<BorrowedFd<'_>> {
        let of_name = self.kept.iter().filter(|(kept, _)| kept == name);
        of_name.map(|(_, fd)| fd.as_fd()).collect()
    }

    /// Starts the service with the kept descriptors.
    pub(crate) fn start(&self, program: &Path, args: &[&str]) -> Child {
        let left = InheritedFds::files(self.kept.iter().map(|(_, fd)| path_of(fd)));
        let names: Vec<&str> = self.kept.iter().map(|(name, _)| name.as_str()).collect();
        let left = if names.is_empty() {
            left
        } else {
            left.named(&names.join(":")).with_own_pid()
        };
        left.env("NOTIFY_SOCKET", &self.address)
            .command(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the service starts")
    }

    /// Reads messages until the service has ended by itself.
    pub(crate) fn serve(&mut self, mut service: Child) -> Output {
        let end = Instant::now() + TIMEOUT;
        while service.try_wait().expect("its status").is_none() {
            if Instant::now() > end {
                service.kill().ok();
                panic!("the service does not end; received {:?}", self.heard);
            }
            self.hear();
        }
        while self.hear() {}
        service
            .wait_with_output()
            .expect("the output of the program")
    }

    /// Starts the service and waits for its end.
    pub(crate) fn run(&mut self, program: &Path, args: &[&str]) -> Output {
        let service = self.start(program, args);
        self.serve(service)
    }

    /// Reads messages until a condition holds.
    pub(crate) fn hear_until(&mut self, mut is_so: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + TIMEOUT;
        while !is_so(self) {
            assert!(
                Instant::now() < end,
                "the condition is not met; received {:?}",
                self.heard
            );
            self.hear();
        }
    }

    /// One message, if one is available.
    pub(crate) fn hear(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            flags,
        );
        let Ok(received) = received else {
            return false;
        };
        let mut fds: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let text = String::from_utf8(bytes[..received.bytes].to_vec()).expect("UTF-8");
        self.act(&text, fds);
        self.heard.push(text);
        true
    }

    fn act(&mut self, text: &str, fds: Vec<OwnedFd>) {
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
        let says = |line| text.lines().any(|said| said == line);
        if says("FDSTORE=1") {
            let name = name.unwrap_or("stored");
            self.kept
                .extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
        } else if says("FDSTOREREMOVE=1") {
            self.kept.retain(|(kept, _)| Some(kept.as_str()) != name);
        }
        // Descriptors that are not kept are closed: BARRIER=1 waits for that.
    }
}

/// A process that is killed when the test fails.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // The process may be gone.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Sets the address of the manager in the environment of a command.
pub(crate) fn set_notify_socket(command: &mut Command, manager: &Manager) {
    command.env("NOTIFY_SOCKET", &manager.address);
}
