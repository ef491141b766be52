//! Content in memory, durable content, and the power cut that derives one from the other.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    ops::Range,
};

use fuser::{Errno, INodeNo};

use super::{
    Lie, Plan, Progress,
    image::{Image, Op},
};

const SECTOR_BYTES: usize = 512;

pub(super) struct Medium {
    /// Content that processes see.
    pub(super) seen: Image,
    durable: Image,
    /// Operations since the last sync, in order.
    pending: Vec<Op>,
    /// The last name of each inode, for [`Lie`] and for messages.
    names: HashMap<u64, OsString>,
    inode_next: u64,
    plan: Plan,
    progress: Progress,
}

impl Medium {
    pub(super) fn empty() -> Self {
        Self {
            seen: Image::empty(),
            durable: Image::empty(),
            pending: Vec::new(),
            names: HashMap::new(),
            inode_next: super::image::ROOT + 1,
            plan: Plan::NO_CUT,
            progress: Progress {
                operations: 0,
                is_cut: false,
                last: String::new(),
            },
        }
    }

    /// Cuts the power if it is on, and turns it on again.
    pub(super) fn restart(&mut self, plan: Plan) {
        self.cut();
        let names = std::mem::take(&mut self.names);
        *self = Self {
            seen: self.durable.clone(),
            durable: std::mem::take(&mut self.durable),
            names,
            inode_next: self.inode_next,
            plan,
            ..Self::empty()
        };
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(super) fn refuse_off(&self) -> Result<(), Errno> {
        if self.progress.is_cut {
            Err(Errno::EIO)
        } else {
            Ok(())
        }
    }

    pub(super) fn new_inode(&mut self, name: &OsStr, is_directory: bool) -> u64 {
        let inode = self.inode_next;
        self.inode_next += 1;
        self.seen.create(inode, is_directory);
        self.durable.create(inode, is_directory);
        self.names.insert(inode, name.to_owned());
        inode
    }

    /// Applies the operation, unless the power fails.
    pub(super) fn change(&mut self, op: Op) -> Result<(), Errno> {
        self.refuse_off()?;
        if self.is_last() {
            // The operation was in progress: a part of it may survive.
            self.pending.push(op);
            self.cut();
            return Err(Errno::EIO);
        }
        self.progress.last = self.in_words(&op);
        self.seen.apply(&op);
        self.pending.push(op);
        Ok(())
    }

    pub(super) fn sync(&mut self, inode: INodeNo, is_directory: bool) -> Result<(), Errno> {
        self.refuse_off()?;
        if self.is_last() {
            self.cut();
            return Err(Errno::EIO);
        }
        let name = self.name(inode.0);
        self.progress.last = format!("sync {name}");
        if self.lies(&name, is_directory) {
            return Ok(());
        }
        let (done, pending) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|op| op.is_of(inode.0));
        self.pending = pending;
        let done: Vec<Op> = done;
        for op in &done {
            self.durable.apply(op);
        }
        Ok(())
    }

    /// Counts an operation, and returns whether the power fails during it.
    fn is_last(&mut self) -> bool {
        let is_last = self.progress.operations >= self.plan.operations_max;
        self.progress.operations += u64::from(!is_last);
        is_last
    }

    fn lies(&self, name: &str, is_directory: bool) -> bool {
        match self.plan.lie {
            Lie::Never => false,
            Lie::Always => true,
            Lie::OfJournals => name.starts_with("journal"),
            Lie::OfHeaps => name.starts_with("heap"),
            Lie::OfDirectories => is_directory,
        }
    }

    fn cut(&mut self) {
        if self.progress.is_cut {
            return;
        }
        self.progress.is_cut = true;
        let pending = std::mem::take(&mut self.pending);
        if self.plan.survivors_seed != 0 {
            survive(&mut self.durable, &pending, self.plan.survivors_seed);
        }
        self.seen = self.durable.clone();
    }

    fn name(&self, inode: u64) -> String {
        let name = self.names.get(&inode);
        name.map_or_else(
            || "/".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    fn in_words(&self, op: &Op) -> String {
        match op {
            Op::Write(inode, ..) | Op::SetLen(inode, _) | Op::Zero(inode, _) => {
                format!("{op} ({})", self.name(*inode))
            }
            _ => op.to_string(),
        }
    }
}

/// Applies some of the operations, in order, and one of the writes partially.
fn survive(image: &mut Image, pending: &[Op], seed: u64) {
    let mut random = Random::new(seed);
    // Few, half, or most survive: a single lost operation and a single surviving one both find
    // bugs.
    let share = [1, 4, 7][random.below(3)];
    let kept: Vec<&Op> = pending.iter().filter(|_| random.below(8) < share).collect();
    let is_write = |op: &&&Op| matches!(op, Op::Write(..));
    let writes = kept.iter().filter(is_write).count();
    let mut torn = match writes {
        0 => None,
        _ => Some(random.below(writes)),
    };
    for op in kept {
        match (op, torn) {
            (Op::Write(_, at, bytes), Some(0)) => {
                let (sectors, reach) = tear(*at as usize, bytes.len(), &mut random);
                image.apply_torn(op, &sectors, reach);
                torn = None;
            }
            (Op::Write(..), Some(before)) => {
                image.apply(op);
                torn = Some(before - 1);
            }
            _ => image.apply(op),
        }
    }
}

/// Draws the surviving sectors of a write, and the resulting file length: the end of the last
/// sector, or the full length.
fn tear(at: usize, len: usize, random: &mut Random) -> (Vec<Range<usize>>, usize) {
    let first = SECTOR_BYTES - at % SECTOR_BYTES;
    let starts = std::iter::once(0).chain((first..len).step_by(SECTOR_BYTES));
    let end = |start: usize| len.min(start + SECTOR_BYTES - (at + start) % SECTOR_BYTES);
    let kept: Vec<_> = starts
        .map(|start| start..end(start))
        .filter(|_| random.below(2) == 0)
        .collect();
    let reach = match random.below(2) {
        0 => len,
        _ => kept.last().map_or(0, |range| range.end),
    };
    (kept, reach)
}

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Consecutive seeds must not start with similar sequences.
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self((mixed ^ mixed >> 29) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % limit
    }
}
