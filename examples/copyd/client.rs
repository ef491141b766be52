//! The client's end of a connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::protocol::{MESSAGE_BYTES_MAX, Op, REPLY_HEAD_BYTES, Request, Status};

/// Longer than a put waits in the server.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The pause between two attempts at a busy range, and the number of attempts.
const BUSY_PAUSE: Duration = Duration::from_millis(2);
const ATTEMPTS: u64 = 5000;

/// Blocks are sent in parts, so that a killed client may leave half of one.
const PART_BYTES: usize = 4 << 10;

pub(crate) struct Client {
    stream: TcpStream,
    /// Requests that were repeated because the range was busy.
    pub(crate) busy: u64,
}

impl Client {
    pub(crate) fn connect(server: &str) -> Result<Self> {
        let stream =
            TcpStream::connect(server).with_context(|| format!("cannot connect to {server}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Self { stream, busy: 0 })
    }

    pub(crate) fn get(&mut self, offset: u64, len: u32) -> Result<Vec<u8>> {
        let bytes = self.request(Op::Get, offset, len, &[])?;
        ensure!(
            bytes.len() == len as usize,
            "the reply has {} bytes for a get of {len} at {offset}",
            bytes.len()
        );
        Ok(bytes)
    }

    pub(crate) fn put(&mut self, offset: u64, block: &[u8]) -> Result<()> {
        let len = u32::try_from(block.len()).context("the block is too long")?;
        self.request(Op::Put, offset, len, block).map(drop)
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        self.request(Op::Sync, 0, 0, &[]).map(drop)
    }

    /// Sends a request until the range is not busy.
    fn request(&mut self, op: Op, offset: u64, len: u32, payload: &[u8]) -> Result<Vec<u8>> {
        let head = Request {
            op: op as u8,
            offset,
            len,
        }
        .encode();
        for _ in 0..ATTEMPTS {
            self.stream
                .write_all(&head)
                .context("cannot send a request")?;
            for part in payload.chunks(PART_BYTES) {
                self.stream.write_all(part).context("cannot send a block")?;
            }
            match self.reply().context("cannot receive a reply")? {
                (Status::Done, bytes) => return Ok(bytes),
                (Status::Busy, _) => {
                    self.busy += 1;
                    thread::sleep(BUSY_PAUSE);
                }
                (status, text) => {
                    let text = String::from_utf8_lossy(&text);
                    bail!("{op:?} of {len} bytes at {offset}: {status:?}: {text}");
                }
            }
        }
        bail!("{op:?} of {len} bytes at {offset}: still busy after {ATTEMPTS} attempts")
    }

    fn reply(&mut self) -> Result<(Status, Vec<u8>)> {
        let mut head = [0; REPLY_HEAD_BYTES];
        self.stream.read_exact(&mut head)?;
        let [status, len @ ..] = head;
        let status =
            Status::of(status).with_context(|| format!("unknown status {status} in a reply"))?;
        let len = u32::from_le_bytes(len);
        ensure!(
            len <= MESSAGE_BYTES_MAX,
            "a reply of {len} bytes exceeds the limit"
        );
        let mut bytes = vec![0; len as usize];
        self.stream.read_exact(&mut bytes)?;
        Ok((status, bytes))
    }
}
