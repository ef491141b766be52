//! A place in a group that moves along: `Read`, `Write`, `Seek` and `BufRead`.

use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::ops::Deref;

use super::group::Group;

const BUFFER_BYTES: usize = 64 << 10;

/// Reads and writes a group in order. `G` is what leads to the group: `&Group`, `Arc<Group>`, ...
///
/// Reading through [`BufRead`] sees a copy that may be older than writes made elsewhere; seeking or
/// writing through the cursor drops it. Writing stops at the end of the group with `WriteZero`.
#[derive(Debug)]
pub struct Cursor<G> {
    group: G,
    position: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was read already.
    used: usize,
}

impl<G: Deref<Target = Group>> Cursor<G> {
    /// A cursor at the start of the group.
    pub fn new(group: G) -> Self {
        Self {
            group,
            position: 0,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// Where the next byte is read or written.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    fn drop_buffer(&mut self) {
        self.buffer.clear();
        self.used = 0;
    }
}

impl Group {
    /// A cursor at the start of the group.
    #[must_use]
    pub fn cursor(&self) -> Cursor<&Self> {
        Cursor::new(self)
    }
}

impl<G: Deref<Target = Group>> Read for Cursor<G> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() && buf.len() >= BUFFER_BYTES {
            let copied = self.group.read_at(self.position, buf)?;
            self.position += copied as u64;
            return Ok(copied);
        }
        let buffered = self.fill_buf()?;
        let len = buffered.len().min(buf.len());
        buf[..len].copy_from_slice(&buffered[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl<G: Deref<Target = Group>> BufRead for Cursor<G> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len() {
            self.used = 0;
            self.buffer.resize(BUFFER_BYTES, 0);
            let filled = self.group.read_at(self.position, &mut self.buffer);
            self.buffer.truncate(*filled.as_ref().unwrap_or(&0));
            filled?;
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, amount: usize) {
        let amount = amount.min(self.buffer.len() - self.used);
        self.used += amount;
        self.position += amount as u64;
    }
}

impl<G: Deref<Target = Group>> Write for Cursor<G> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.drop_buffer();
        if self.position >= self.group.len() {
            return Ok(0);
        }
        let copied = self.group.write_at(self.position, buf)?;
        self.position += copied as u64;
        Ok(copied)
    }

    /// Nothing is held back here; [`Group::sync_all`] makes writes durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<G: Deref<Target = Group>> Seek for Cursor<G> {
    /// Places behind the end are allowed, as for files; nothing can be read or written there.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.group.len().checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        let before_start = || io::Error::new(io::ErrorKind::InvalidInput, "seek before byte 0");
        self.position = position.ok_or_else(before_start)?;
        self.drop_buffer();
        Ok(self.position)
    }
}
