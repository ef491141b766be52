//! The operations of one thread on its share of the array, between two changes of shape.

use std::{
    io::{IoSlice, IoSliceMut},
    ops::Range,
};

use flatspan::{
    mapping_cache::{Advice, FlushMode, MappingError},
    span::{EntryHandle, Group, GroupError},
};

use super::{
    files::{Files, Outcome},
    world::World,
};
use crate::content::Rng;

/// Counts of the operations that were done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    /// Operations on ranges in several entries.
    pub(crate) crossing: u64,
    pub(crate) reads: u64,
    pub(crate) short_reads: u64,
    pub(crate) writes: u64,
    pub(crate) refused_writes: u64,
    pub(crate) rounds: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.crossing += other.crossing;
        self.reads += other.reads;
        self.short_reads += other.short_reads;
        self.writes += other.writes;
        self.refused_writes += other.refused_writes;
        self.rounds += other.rounds;
    }

    /// The counts ensure that the model also performs operations that can fail.
    pub(crate) fn assert_coverage(&self, operations: u64) {
        let share = |part: u64| part * 100 / self.operations;
        assert!(self.operations >= operations, "{self:?}");
        assert!(share(self.crossing) >= 30, "{self:?}");
        assert!(
            share(self.reads) >= 25 && share(self.writes) >= 25,
            "{self:?}"
        );
        if operations >= 30_000 {
            assert!(self.short_reads > 50, "{self:?}");
            assert!(self.refused_writes > 10, "{self:?}");
        }
    }
}

#[derive(Debug)]
pub(crate) struct Worker<'a> {
    group: &'a Group,
    world: &'a World,
    /// Returns whether the range is in the thread's share. Other threads write elsewhere.
    files: Files,
    share: Range<u64>,
    bounds: Vec<u64>,
    rng: Rng,
    tally: Tally,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(world: &'a World, share: Range<u64>, rng: Rng) -> Self {
        let bounds = world.files.bounds();
        let inside = |bound: &u64| share.contains(bound);
        Self {
            group: world.group(),
            world,
            files: world.files.clone(),
            bounds: bounds.into_iter().filter(inside).collect(),
            share,
            rng,
            tally: Tally::default(),
        }
    }

    pub(crate) fn work(mut self, operations: u64) -> (Outcome, Tally) {
        for _ in 0..operations {
            let range = self.some_range();
            self.tally.operations += 1;
            self.tally.crossing += u64::from(self.files.parts(&range).len() > 1);
            match self.rng.below(1000) {
                0..=399 => self.read(range),
                400..=799 => self.write(&range),
                800..=849 => drop(self.group.evict(range).expect("evict")),
                850..=899 => self.group.flush(range, FlushMode::Async).expect("flush"),
                900..=901 => self.group.flush(range, FlushMode::Sync).expect("flush"),
                902..=949 => self.ask_if_resident(range),
                950..=974 => self.group.prefetch(range).expect("prefetch"),
                _ => self.advise(range),
            }
        }
        let outcome = Outcome {
            files: self.files,
            share: self.share,
        };
        (outcome, self.tally)
    }

    /// An offset near the end of an entry in half of the cases, a random one otherwise.
    fn some_range(&mut self) -> Range<u64> {
        let Range { start, end } = self.share;
        let len = match self.rng.below(20) {
            0 => 0,
            1..=6 => self.rng.below(32),
            7..=12 => self.rng.below(5000),
            13..=18 => self.rng.below(20_000),
            _ => self.rng.below(end - start + 1),
        };
        let at = if self.rng.percent(60) && !self.bounds.is_empty() {
            let bound = self.rng.below(self.bounds.len() as u64) as usize;
            let before = if len == 0 { 0 } else { self.rng.below(len) };
            self.bounds[bound].saturating_sub(before)
        } else {
            start + self.rng.below(end - start + 1)
        };
        let at = at.max(start);
        at..(at + len).min(end)
    }

    fn read(&mut self, range: Range<u64>) {
        self.tally.reads += 1;
        let expected = self.files.bytes(&range);
        let certain = self.files.certain(&range);
        let mut buf = vec![0xEE; expected.len()];
        let read = match self.rng.below(4) {
            0 => self.group.read_at(range.start, &mut buf),
            1 => {
                let exact = self.group.read_exact_at(range.start, &mut buf);
                exact.map(|()| expected.len())
            }
            2 => {
                let exact = self.read_vectored(range.start, &mut buf);
                exact.map(|()| expected.len())
            }
            _ => self.read_by_entry(&range, &mut buf),
        };
        match read {
            Ok(copied) => {
                assert!(copied >= certain, "{range:?}: {copied} of {certain} bytes");
                assert_same(&buf[..copied], &expected[..copied], range.start);
            }
            Err(error) => {
                self.tally.short_reads += 1;
                assert!(certain < expected.len(), "{range:?} is all there: {error}");
                self.check_short(&range, &error);
            }
        }
    }

    fn read_vectored(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), GroupError> {
        let mut bufs = Vec::new();
        let mut rest = buf;
        while !rest.is_empty() {
            let (part, more) = rest.split_at_mut(part_len(&mut self.rng, rest.len()));
            bufs.push(IoSliceMut::new(part));
            rest = more;
        }
        self.group.read_exact_vectored_at(offset, &mut bufs)
    }

    /// Reads from the handle of the entry if the range is in one, otherwise from the group.
    fn read_by_entry(&self, range: &Range<u64>, buf: &mut [u8]) -> Result<usize, GroupError> {
        match self.entry_of(range) {
            Some((entry, at)) => entry.read_exact_at(at, buf).map(|()| buf.len()),
            None => self.group.read_at(range.start, buf),
        }
    }

    fn entry_of(&self, range: &Range<u64>) -> Option<(EntryHandle<'_>, u64)> {
        let mut extents = self
            .group
            .layout()
            .extents(range.clone())
            .expect("in bounds");
        let only = extents.next()?;
        if extents.next().is_some() {
            return None;
        }
        let entry = self.group.entry(only.entry).expect("an entry");
        Some((entry, only.offset))
    }

    fn write_vectored(&mut self, offset: u64, bytes: &[u8]) -> Result<(), GroupError> {
        let mut bufs = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, more) = rest.split_at(part_len(&mut self.rng, rest.len()));
            bufs.push(IoSlice::new(part));
            rest = more;
        }
        self.group.write_all_vectored_at(offset, &bufs)
    }

    /// Asserts that the error names a file of the range that is shorter than the range needs.
    fn check_short(&self, range: &Range<u64>, error: &GroupError) {
        let (path, needed, present) = match error {
            GroupError::File(MappingError::FileTooShort {
                path,
                required_bytes: needed_bytes,
                actual_bytes: present_bytes,
            }) => (path, Some(*needed_bytes), Some(*present_bytes)),
            GroupError::File(MappingError::NotFound { path }) => (path, None, None),
            other => panic!("{range:?}: {other:?}"),
        };
        let is_named = self.files.parts(range).into_iter().any(|part| {
            let Some((file, at)) = part.place else {
                return false;
            };
            let reach = self.files.files[file].reach;
            *path == self.world.path(part.entry)
                && match (needed, present) {
                    (Some(needed), Some(present)) => {
                        // Other threads may extend the file before the error is made.
                        needed == at.end && present >= reach.unwrap_or(0)
                    }
                    _ => reach.is_none(),
                }
        });
        assert!(is_named, "{range:?}: {error}");
    }

    fn write(&mut self, range: &Range<u64>) {
        self.tally.writes += 1;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.rng.fill(&mut bytes);
        let spoil_padding = self.rng.percent(10);
        let mut at = 0;
        for part in self.files.parts(range) {
            if part.place.is_none() && !spoil_padding {
                bytes[at..at + part.len].fill(0);
            }
            at += part.len;
        }
        let refused = self.files.write(range.start, &bytes);
        let written = match (self.rng.below(3), self.entry_of(range)) {
            (0, _) => self.write_vectored(range.start, &bytes),
            (1, Some((entry, at))) => entry.write_all_at(at, &bytes),
            _ => self.group.write_all_at(range.start, &bytes),
        };
        match (written, refused) {
            (Ok(()), None) => {}
            (Err(GroupError::WriteToPadding { entry }), Some(refused)) if entry == refused => {
                self.tally.refused_writes += 1;
            }
            (result, refused) => panic!("{range:?}, padding {refused:?}: {result:?}"),
        }
    }

    fn ask_if_resident(&mut self, range: Range<u64>) {
        let certain = self.files.certain(&range) as u64 == range.end - range.start;
        match self.group.is_resident(range.clone()) {
            // Recent writes may have been dropped from memory again, but missing bytes are never
            // resident.
            Ok(resident) => assert!(certain || !resident || self.may_exist(&range)),
            Err(GroupError::File(
                MappingError::BudgetExhausted { .. } | MappingError::WindowPinned { .. },
            )) => {}
            Err(error) => panic!("{range:?}: {error:?}"),
        }
    }

    /// Preallocation and other threads may have extended the files further than this thread did.
    fn may_exist(&self, range: &Range<u64>) -> bool {
        self.files.parts(range).into_iter().all(|part| {
            let Some((_, at)) = part.place else {
                return true;
            };
            let found = self.world.path(part.entry).metadata();
            found.is_ok_and(|found| found.len() >= at.end)
        })
    }

    fn advise(&mut self, range: Range<u64>) {
        let choices = [
            Advice::Normal,
            Advice::Random,
            Advice::Sequential,
            Advice::DontNeed,
        ];
        let advice = choices[self.rng.below(4) as usize];
        match self.group.advise(range, advice) {
            Ok(()) | Err(GroupError::File(MappingError::NotFound { .. })) => {}
            Err(error) => panic!("{advice:?}: {error:?}"),
        }
    }
}

#[track_caller]
pub(crate) fn assert_same(found: &[u8], expected: &[u8], offset: u64) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b);
        let at = at.expect("one differs");
        panic!(
            "byte {} is {:#x} instead of {:#x}, and {} of the {} bytes differ",
            offset + at as u64,
            found[at],
            expected[at],
            found.iter().zip(expected).filter(|(a, b)| a != b).count(),
            found.len()
        );
    }
}

/// Length of the next buffer of a vectored operation, at most `left`; sometimes zero.
fn part_len(rng: &mut Rng, left: usize) -> usize {
    let len = match rng.below(4) {
        0 => 0,
        1 => rng.below(10),
        _ => rng.below(8000),
    };
    left.min(len as usize)
}
