//! A command that runs nothing before it is known.
//!
//! The process that becomes the command waits, before it does, until this program has noted its number. Killed meanwhile, this
//! program leaves a process that ends without having become anything.
//!
//! # Safety
//!
//! Between `fork` and `execve` only functions are called that signal handlers may call (`getpid`, `close`, `write`, `read`), on
//! descriptors that are open then, and nothing is allocated.
#![expect(unsafe_code, reason = "work between fork and execve")]

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use flatspan::shm::Placed;

use crate::failure::Outcome;

const OPEN: [u8; 1] = [1];

/// The descriptors of the process that waits. All close when it becomes the command.
#[derive(Clone, Copy)]
struct Ends {
    number: RawFd,
    answer: RawFd,
    /// Of this program: a copy in the process that waits would hide its end.
    own: RawFd,
}

/// Starts the command. Before it runs, `note` is told the number of its process, on another thread; where that fails, it never
/// runs.
pub(crate) fn spawn(
    placed: &Placed,
    command: &mut Command,
    note: impl FnOnce(u32) -> Result<()> + Send,
) -> Outcome<Child> {
    let pipe = || io::pipe().context("cannot make a pipe");
    let (heard, number) = pipe()?;
    let (answer, own) = pipe()?;
    let ends = Ends {
        number: number.as_raw_fd(),
        answer: answer.as_raw_fd(),
        own: own.as_raw_fd(),
    };
    // SAFETY: see the module documentation; the descriptors live until the process was started.
    unsafe {
        command.pre_exec(move || wait(ends));
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("gate".to_owned());
        let attending = thread
            .spawn_scoped(scope, move || attend(heard, own, note))
            .context("cannot start a thread")?;
        let started = placed.spawn(command);
        // Where there was no process, nobody else has it.
        drop((number, answer));
        let noted = attending
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread that notes the command has ended")));
        match (started, noted) {
            (Ok(child), Ok(true)) => Ok(child),
            (Err(error), Ok(_)) => Err(error.into()),
            (started, noted) => {
                // Somebody has killed it there.
                if let Ok(mut child) = started {
                    let _ended = child.kill().and_then(|()| child.wait());
                }
                let why = noted.err().unwrap_or_else(|| anyhow!("it was killed"));
                Err(why.context("cannot start the command").into())
            }
        }
    })
}

/// True where the process goes on; false where it was gone, or never there.
fn attend(
    mut heard: PipeReader,
    mut own: PipeWriter,
    note: impl FnOnce(u32) -> Result<()>,
) -> Result<bool> {
    let mut number = [0; 4];
    if heard.read_exact(&mut number).is_err() {
        return Ok(false);
    }
    note(u32::from_ne_bytes(number))?;
    Ok(own.write_all(&OPEN).is_ok())
}

/// In the process that becomes the command.
fn wait(ends: Ends) -> io::Result<()> {
    // SAFETY: without arguments, and it cannot fail.
    let number = unsafe { libc::getpid() }.to_ne_bytes();
    // SAFETY: a number of this process, which is used no more.
    unsafe { libc::close(ends.own) };
    // SAFETY: `number` has so many bytes, borrowed for the call. So few go into an empty pipe at once.
    let said = unsafe { libc::write(ends.number, number.as_ptr().cast(), number.len()) };
    if said != number.len().cast_signed() {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let mut answer = [0; OPEN.len()];
    loop {
        // SAFETY: `answer` has so many bytes, borrowed for the call.
        let heard = unsafe { libc::read(ends.answer, answer.as_mut_ptr().cast(), answer.len()) };
        match heard {
            1 => return Ok(()),
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
