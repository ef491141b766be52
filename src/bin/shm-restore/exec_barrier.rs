//! A new process that waits before execve(2) until this program has recorded its id.
//!
//! If this program is killed meanwhile, the process exits without executing the command.
//!
//! # Safety
//!
//! Between fork(2) and execve(2) the process calls only async-signal-safe functions (`getpid`,
//! `close`, `write`, `read`, signal-safety(7)), on descriptors that are open then. It does not
//! allocate.
#![expect(unsafe_code, reason = "work between fork and execve")]

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use flatspan::shm::PlacedFds;

use crate::failure::Failure;

const PROCEED: [u8; 1] = [1];

/// The descriptors of the process that waits. All are closed by execve(2).
#[derive(Clone, Copy)]
struct Descriptors {
    /// The process writes its process id here.
    number: RawFd,
    /// The process waits here for [`PROCEED`].
    proceed: RawFd,
    /// The write end of the second pipe. Its copy in the process would hide the exit of this
    /// program.
    parent: RawFd,
}

/// Starts the command. Before the command is executed, another thread calls `record` with the
/// id of the process. If `record` fails, the command is not executed.
pub(crate) fn spawn(
    placed: &PlacedFds,
    command: &mut Command,
    record: impl FnOnce(u32) -> Result<()> + Send,
) -> Result<Child, Failure> {
    let pipe = || io::pipe().context("cannot create a pipe");
    let (number_reader, number_writer) = pipe()?;
    let (proceed_reader, proceed_writer) = pipe()?;
    let descriptors = Descriptors {
        number: number_writer.as_raw_fd(),
        proceed: proceed_reader.as_raw_fd(),
        parent: proceed_writer.as_raw_fd(),
    };
    // SAFETY: see the module documentation; the descriptors stay open until the process has
    // started.
    unsafe {
        command.pre_exec(move || wait(descriptors));
    }
    thread::scope(|scope| {
        let recorder = thread::Builder::new()
            .name("exec-barrier".to_owned())
            .spawn_scoped(scope, move || admit(number_reader, proceed_writer, record))
            .context("cannot start a thread")?;
        let spawned = placed.spawn(command);
        // If no process was created, the other thread now reads the end of the pipe.
        drop((number_writer, proceed_reader));
        let admitted = recorder
            .join()
            .unwrap_or_else(|_panic| Err(anyhow!("the thread that records the process panicked")));
        match (spawned, admitted) {
            (Ok(child), Ok(true)) => Ok(child),
            (Err(error), Ok(_)) => Err(error.into()),
            (spawned, admitted) => {
                if let Ok(mut child) = spawned {
                    drop(child.kill().and_then(|()| child.wait()));
                }
                let cause = admitted.err().unwrap_or_else(|| {
                    anyhow!("the process was killed before it executed the command")
                });
                Err(cause.context("cannot start the command").into())
            }
        }
    })
}

/// Returns whether the process may execute the command; `false` if it does not exist (any more).
fn admit(
    mut number: PipeReader,
    mut proceed: PipeWriter,
    record: impl FnOnce(u32) -> Result<()>,
) -> Result<bool> {
    let mut pid = [0; 4];
    if number.read_exact(&mut pid).is_err() {
        return Ok(false);
    }
    record(u32::from_ne_bytes(pid))?;
    Ok(proceed.write_all(&PROCEED).is_ok())
}

/// Runs in the process that becomes the command.
fn wait(descriptors: Descriptors) -> io::Result<()> {
    // SAFETY: getpid has no arguments and cannot fail.
    let number = unsafe { libc::getpid() }.to_ne_bytes();
    // SAFETY: a descriptor of this process, which nothing uses later.
    unsafe { libc::close(descriptors.parent) };
    // SAFETY: `number` has that length and is borrowed for the call.
    let written = unsafe { libc::write(descriptors.number, number.as_ptr().cast(), number.len()) };
    // An empty pipe takes 4 bytes at once.
    if written != number.len().cast_signed() {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let mut answer = [0; PROCEED.len()];
    loop {
        // SAFETY: `answer` has that length and is borrowed for the call.
        let read = unsafe {
            libc::read(
                descriptors.proceed,
                answer.as_mut_ptr().cast(),
                answer.len(),
            )
        };
        match read {
            1 => return Ok(()),
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
