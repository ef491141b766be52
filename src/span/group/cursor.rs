//! Sequential access to a group: `Read`, `BufRead`, `Write` and `Seek`.

use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::ops::Deref;

use super::group::Group;

const BUFFER_BYTES: usize = 64 << 10;

/// Position in a group for sequential reads and writes. `G` dereferences to the group, as `&Group`
/// and `Arc<Group>` do.
///
/// [`BufRead`] returns buffered bytes, which may be older than concurrent writes to the group.
/// Seeking and writing through the cursor discard the buffer. Writing stops at the end of the group
/// with [`WriteZero`](io::ErrorKind::WriteZero).
///
/// ```
/// use std::io::{Read as _, Seek as _, SeekFrom};
///
/// use flatspan::span::Group;
///
/// let group = Group::builder("/").padding(100).open()?;
/// let mut cursor = group.cursor();
/// cursor.seek(SeekFrom::End(-4))?;
/// let mut rest = Vec::new();
/// cursor.read_to_end(&mut rest)?;
/// assert_eq!(rest, [0; 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cursor<G> {
    group: G,
    position: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are consumed.
    used: usize,
}

impl<G: Deref<Target = Group>> Cursor<G> {
    /// Creates a cursor at the start of the group.
    #[must_use]
    pub fn new(group: G) -> Self {
        Self {
            group,
            position: 0,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// Returns the offset of the next byte to be read or written.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    fn discard_buffer(&mut self) {
        self.buffer.clear();
        self.used = 0;
    }
}

impl Group {
    /// Creates a cursor at the start of the group.
    #[must_use]
    pub fn cursor(&self) -> Cursor<&Self> {
        Cursor::new(self)
    }
}

/// The position `to` of a seek in a group of `len` bytes.
pub(super) fn seek_position(len: u64, current: u64, to: SeekFrom) -> io::Result<u64> {
    let position = match to {
        SeekFrom::Start(position) => Some(position),
        SeekFrom::End(distance) => len.checked_add_signed(distance),
        SeekFrom::Current(distance) => current.checked_add_signed(distance),
    };
    position.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "seek to a negative or overflowing position",
        )
    })
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
        self.discard_buffer();
        if self.position >= self.group.len() {
            return Ok(0);
        }
        let copied = self.group.write_at(self.position, buf)?;
        self.position += copied as u64;
        Ok(copied)
    }

    /// Does nothing, since writes are not buffered. [`Group::sync_all`] makes them durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<G: Deref<Target = Group>> Seek for Cursor<G> {
    /// Sets the position, which may be after the end of the group as for files. Nothing can be read
    /// or written there.
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.position = seek_position(self.group.len(), self.position, pos)?;
        self.discard_buffer();
        Ok(self.position)
    }
}
