//! Durable state, visible state, and the operations between them.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    content::Content,
    op::{FileId, Inode, Op},
};

/// Files and their names at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) names: BTreeMap<FileId, Inode>,
    pub(crate) files: BTreeMap<Inode, Arc<Content>>,
    pub(crate) published: bool,
}

/// Surviving part of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Nothing,
    All,
    /// The bytes of a write without the length.
    Bytes,
    /// These bytes of a write (relative to its start). The file extends at least to the given end.
    Torn(Vec<Range<usize>>, usize),
}

impl State {
    pub(crate) fn file(&self, inode: Inode) -> Content {
        self.files
            .get(&inode)
            .map_or_else(Content::default, |file| (**file).clone())
    }

    fn edit(&mut self, inode: Inode) -> &mut Content {
        Arc::make_mut(self.files.entry(inode).or_default())
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        self.apply_part(op, &Part::All);
    }

    pub(crate) fn apply_part(&mut self, op: &Op, part: &Part) {
        match (op, part) {
            (_, Part::Nothing) => {}
            (Op::Write(_, inode, offset, bytes), Part::All) => {
                self.edit(*inode).write(*offset, bytes);
            }
            (Op::Write(_, inode, offset, bytes), Part::Bytes) => {
                self.edit(*inode).put(*offset, bytes);
            }
            (Op::Write(_, inode, offset, bytes), Part::Torn(kept, reach)) => {
                let file = self.edit(*inode);
                for range in kept {
                    file.put(offset + range.start as u64, &bytes[range.clone()]);
                }
                file.len = file.len.max(offset + *reach as u64);
            }
            (Op::SetLen(_, inode, len), _) => self.edit(*inode).set_len(*len),
            (Op::Discard(_, inode, range), _) => self.edit(*inode).zero(range.clone()),
            (Op::Create(file, inode), _) => {
                self.names.insert(*file, *inode);
                self.edit(*inode);
            }
            // Keeps the name if another file has taken it since.
            (Op::Remove(file, inode), _) if self.names.get(file) == Some(inode) => {
                self.names.remove(file);
            }
            (Op::Publish, _) => self.published = true,
            _ => {}
        }
    }

    /// Returns the state under the store's name: empty before publication.
    pub(crate) fn found(&self) -> Self {
        let mut found = Self {
            published: self.published,
            ..Self::default()
        };
        if self.published {
            found.names = self.names.clone();
            for inode in self.names.values() {
                found
                    .files
                    .insert(*inode, Arc::new(self.file(*inode).seen()));
            }
        }
        found
    }

    /// Returns a hash that is equal for states with equal visible content.
    pub(crate) fn hash(&self) -> u128 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&[u8::from(self.published)]);
        if self.published {
            for (file, inode) in &self.names {
                hash.update(file.0.part_name(file.1).as_bytes());
                match self.files.get(inode) {
                    Some(file) => file.hash(&mut hash),
                    None => Content::default().hash(&mut hash),
                }
            }
        }
        hash.digest128()
    }
}

/// Operation that is not durable.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) op: Op,
    /// Whether it has extended its file.
    pub(crate) extends: bool,
    /// Whether a sync of it has failed.
    pub(crate) in_doubt: bool,
}

/// Result of operations that were applied one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) durable: State,
    /// Pending operations in order.
    pub(crate) pending: Vec<Pending>,
    /// Content that reads return.
    pub(crate) visible: State,
}

impl Model {
    pub(crate) fn new(base: State) -> Self {
        Self {
            durable: base.clone(),
            pending: Vec::new(),
            visible: base,
        }
    }

    pub(crate) fn step(&mut self, op: &Op) {
        match op {
            Op::Sync(_, inode) => {
                self.make_durable(|pending| {
                    pending.op.changed() == Some(*inode) && !pending.in_doubt
                });
            }
            Op::SyncDir => self.make_durable(|pending| pending.op.is_of_directory()),
            Op::SyncParent => self.make_durable(|pending| matches!(pending.op, Op::Publish)),
            Op::SyncFailed(_, inode) => {
                let of_file = |pending: &&mut Pending| pending.op.changed() == Some(*inode);
                self.pending
                    .iter_mut()
                    .filter(of_file)
                    .for_each(|pending| pending.in_doubt = true);
            }
            Op::Forget(_, inode) => self.forget(*inode),
            Op::Mark(_) => {}
            change => {
                let extends = self.extends(change);
                self.visible.apply(change);
                let (op, in_doubt) = (change.clone(), false);
                self.pending.push(Pending {
                    op,
                    extends,
                    in_doubt,
                });
            }
        }
    }

    fn extends(&self, op: &Op) -> bool {
        let Op::Write(_, inode, ..) = op else {
            return false;
        };
        let file = self.visible.files.get(inode);
        op.range().end > file.map_or(0, |file| file.len)
    }

    /// Makes selected pending operations durable, in order.
    fn make_durable(&mut self, is_meant: impl Fn(&Pending) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        let (durable_copy, rest): (Vec<_>, Vec<_>) = pending.into_iter().partition(is_meant);
        self.pending = rest;
        for pending in durable_copy {
            // Operations in doubt were overwritten.
            self.pending.retain(|old| {
                let meets = old.op.range().start < pending.op.range().end
                    && pending.op.range().start < old.op.range().end;
                !(old.in_doubt && old.op.changed() == pending.op.changed() && meets)
            });
            self.durable.apply(&pending.op);
        }
    }

    /// Loses the operations of a file that are in doubt.
    fn forget(&mut self, inode: Inode) {
        self.pending
            .retain(|pending| !(pending.in_doubt && pending.op.changed() == Some(inode)));
        let mut file = self.durable.clone();
        for pending in &self.pending {
            if pending.op.changed() == Some(inode) {
                file.apply(&pending.op);
            }
        }
        self.visible.files.insert(inode, Arc::new(file.file(inode)));
    }
}
