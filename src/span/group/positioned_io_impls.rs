//! The traits of the crate `positioned-io` for groups.

use std::io;

use positioned_io::{ReadAt, Size, WriteAt};

use super::group::Group;

impl ReadAt for Group {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        Ok(Self::read_at(self, pos, buf)?)
    }
}

impl WriteAt for &Group {
    fn write_at(&mut self, pos: u64, buf: &[u8]) -> io::Result<usize> {
        Ok(Group::write_at(self, pos, buf)?)
    }

    /// Makes all writes to the group durable, as [`Group::sync_all`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(self.sync_all()?)
    }
}

impl WriteAt for Group {
    fn write_at(&mut self, pos: u64, buf: &[u8]) -> io::Result<usize> {
        Ok(Self::write_at(self, pos, buf)?)
    }

    /// Makes all writes to the group durable, as [`Group::sync_all`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(self.sync_all()?)
    }
}

impl Size for Group {
    fn size(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.len()))
    }
}
