//! State of a recorder: its files, and the log of operations.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
};

use flatspan::snapshot::LogicalFile;

use super::{
    faults::{Fault, Faults},
    model::{Model, Pending, State},
    op::{FileId, Inode, Op},
};

#[derive(Clone, Debug, Default)]
pub(super) struct RecorderState {
    pub(super) base: State,
    pub(super) marks_of_base: Vec<u64>,
    pub(super) model: Model,
    pub(super) log: Vec<Op>,
    pub(super) next_inode: Inode,
    /// Files that changed since their last sync.
    pub(super) changed: BTreeSet<Inode>,
    /// Logical files whose parts were created or removed since the directory was synced for them.
    pub(super) moved: BTreeSet<LogicalFile>,
    /// Logical files whose sync has failed.
    pub(super) failed: BTreeMap<LogicalFile, ErrorKind>,
    /// Part length of a logical file, if it was set.
    pub(super) part_bytes: BTreeMap<LogicalFile, u64>,
    pub(super) faults: Faults,
    /// Preallocated length of each journal, for a nearly full backend.
    pub(super) reserved: Option<BTreeMap<LogicalFile, u64>>,
}

impl RecorderState {
    pub(super) fn record(&mut self, op: Op) {
        self.model.step(&op);
        match &op {
            Op::Sync(_, inode) | Op::SyncFailed(_, inode) => {
                self.changed.remove(inode);
            }
            Op::Create(_, inode) => {
                self.changed.insert(*inode);
            }
            op => self.changed.extend(op.changed()),
        }
        self.log.push(op);
    }

    pub(super) fn create(&mut self, file: FileId) {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.moved.insert(file.0);
        self.record(Op::Create(file, inode));
    }

    pub(super) fn remove(&mut self, file: FileId) {
        let inode = self.inode(file);
        self.moved.insert(file.0);
        self.record(Op::Remove(file, inode));
        self.changed.remove(&inode);
    }

    pub(super) fn sync_entries(&mut self, array: LogicalFile) {
        if self.moved.remove(&array) {
            self.record(Op::SyncDir);
        }
    }

    pub(super) fn parts(&self, array: LogicalFile) -> Vec<(u64, Inode)> {
        let names = self
            .model
            .visible
            .names
            .range((array, 0)..=(array, u64::MAX));
        names.map(|((_, part), inode)| (*part, *inode)).collect()
    }

    pub(super) fn inode(&self, file: FileId) -> Inode {
        *self.model.visible.names.get(&file).expect("part exists")
    }

    pub(super) fn must_have(&self, array: LogicalFile) -> io::Result<()> {
        if self.parts(array).is_empty() {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(())
    }

    /// Returns the number of parts and their total length.
    pub(super) fn row(&self, array: LogicalFile, part_bytes: u64) -> io::Result<(u64, u64)> {
        self.must_have(array)?;
        let parts = self.parts(array);
        let mut len = 0;
        for (place, (part, inode)) in parts.iter().enumerate() {
            let present = self.model.visible.file(*inode).len;
            let is_last = place + 1 == parts.len();
            if *part != place as u64 || present > part_bytes || present < part_bytes && !is_last {
                let name = array.part_name(place as u64);
                return Err(io::Error::new(ErrorKind::InvalidData, name));
            }
            len += present;
        }
        Ok((parts.len() as u64, len))
    }

    pub(super) fn refuse_failed(&self, array: LogicalFile) -> io::Result<()> {
        match self.failed.get(&array) {
            Some(kind) => Err((*kind).into()),
            None => Ok(()),
        }
    }

    /// Preallocates space: a nearly full backend grants what is needed, not what is requested
    /// ahead.
    pub(super) fn reserve(
        &mut self,
        array: LogicalFile,
        range: std::ops::Range<u64>,
    ) -> io::Result<()> {
        const AHEAD: u64 = 1 << 20;
        let Some(reserved) = &mut self.reserved else {
            return Ok(());
        };
        if range.end - range.start > AHEAD {
            return Err(ErrorKind::StorageFull.into());
        }
        let end = reserved.entry(array).or_default();
        *end = range.end.max(*end);
        Ok(())
    }

    pub(super) fn refuse_unreserved(&self, array: LogicalFile, end: u64) -> io::Result<()> {
        // The header of a journal file is written before anything depends on it.
        const HEADER: u64 = 4096;
        let room = self.reserved.as_ref().map(|reserved| reserved.get(&array));
        match (array, room) {
            (LogicalFile::Journal(_), Some(room)) if end > room.map_or(HEADER, |end| *end) => {
                Err(ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn sync(&mut self, array: LogicalFile, fault: Option<Fault>) -> io::Result<()> {
        self.refuse_failed(array)?;
        self.must_have(array)?;
        let parts = self.parts(array).into_iter();
        let changed: Vec<_> = parts
            .filter(|(_, inode)| self.changed.contains(inode))
            .collect();
        for (part, inode) in changed {
            match fault {
                Some(Fault::Interrupted) => {}
                Some(_) => self.record(Op::SyncFailed((array, part), inode)),
                None => self.record(Op::Sync((array, part), inode)),
            }
        }
        if let Some(fault) = fault {
            let error = fault.error();
            self.failed.insert(array, error.kind());
            Err(error)
        } else {
            self.sync_entries(array);
            Ok(())
        }
    }

    pub(super) fn forget_cached(&mut self, array: LogicalFile) -> io::Result<()> {
        self.must_have(array)?;
        for (part, inode) in self.parts(array) {
            if self.changed.contains(&inode) {
                self.record(Op::Sync((array, part), inode));
            }
            let in_doubt =
                |pending: &Pending| pending.in_doubt && pending.op.changed() == Some(inode);
            if self.model.pending.iter().any(in_doubt) {
                self.record(Op::Forget((array, part), inode));
            }
        }
        Ok(())
    }
}
