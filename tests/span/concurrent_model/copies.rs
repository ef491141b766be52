//! Operations that copy: reads, writes, copies in the kernel, and discards.

use std::io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;

use flatspan::span::GroupError;

use super::{
    activity::{Active, Use},
    allowed::Allowed,
    changes::Changes,
    content::Content,
    worker::{OpenGroup, Worker},
};

/// At least the length of a cursor's buffer.
const READ_AHEAD_BYTES: u64 = 128 << 10;

impl Worker<'_> {
    pub(crate) fn read(&mut self, open: &OpenGroup) {
        let range = self.any_range(open);
        let active = self.active(Use::ReadCopy, open, &range);
        let reading = self.reading(open, &range);
        let mut buf = vec![0xEE; reading.len];
        let read = match self.rng.below(10) {
            0..5 => {
                let read = open.group.read_exact_at(range.start, &mut buf);
                read.map(|()| buf.len())
            }
            5 => {
                let read = open.group.read_exact_async(range.clone());
                self.runtime.block_on(read).map(|bytes| {
                    buf = bytes;
                    buf.len()
                })
            }
            _ => open.group.read_at(range.start, &mut buf),
        };
        let what = format!("read of {range:?} of group {}", open.number);
        match read {
            Ok(copied) => {
                self.count("read");
                let is_locked = active.had_conflict();
                let (all, certain) = (reading.len, reading.certain());
                assert!(
                    copied == all || is_locked || copied >= certain,
                    "{what}: {copied} of {certain} certain bytes"
                );
                reading.check(&what, &buf[..copied], true);
            }
            Err(error) => {
                let allowed = Allowed {
                    locked: active.had_conflict(),
                    short: reading.may_be_short(),
                    missing: reading.may_be_missing(),
                    ..Allowed::default()
                };
                self.refused("read", allowed, &error);
            }
        }
    }

    /// Reads by several calls, which together are not atomic.
    pub(crate) fn read_by_cursor(&mut self, open: &OpenGroup) {
        let range = self.any_range(open);
        // A cursor reads ahead, so an error may concern bytes after the range.
        let ahead = (range.end + READ_AHEAD_BYTES).min(self.model.plans[open.number].len);
        let ahead = range.start..ahead;
        let active = self.active(Use::ReadCopy, open, &ahead);
        let reading = self.reading(open, &range);
        let reading_ahead = self.reading(open, &ahead);
        let mut cursor = open.group.cursor();
        let start = cursor.seek(SeekFrom::Start(range.start)).expect("a seek");
        assert_eq!(start, range.start);
        let mut bytes = Vec::new();
        let read = match self.rng.below(2) {
            0 => (&mut cursor)
                .take(reading.len as u64)
                .read_to_end(&mut bytes),
            _ => cursor.fill_buf().map(|buffered| {
                let len = buffered.len().min(reading.len);
                bytes.extend_from_slice(&buffered[..len]);
                len
            }),
        };
        reading.check(&format!("cursor at {range:?}"), &bytes, false);
        if let Err(error) = read {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            let inner: &GroupError = inner.expect("an error of the group");
            let allowed = Allowed {
                locked: active.had_conflict(),
                short: reading_ahead.may_be_short(),
                missing: reading_ahead.may_be_missing(),
                ..Allowed::default()
            };
            self.refused("cursor", allowed, inner);
        }
    }

    pub(crate) fn write(&mut self, open: &OpenGroup) {
        let Some(mut range) = self.own_range(open, true) else {
            return;
        };
        let parts = self.model.plans[open.number].parts(&range);
        let mut content = Content::default();
        let number = self.model.next_number(self.me);
        let key = ((self.me as u64) << 48) ^ number;
        let spoils = self.rng.percent(5);
        let mut refused = None;
        let mut written = range.clone();
        for part in parts {
            let at = content.len();
            if part.stripe.is_some() || spoils {
                let noise = Content::noise(key, at + part.range.len());
                content.append(noise.slice(at..at + part.range.len()));
            } else {
                content.append(Content::zeros(part.range.len()));
            }
            if part.stripe.is_none() && spoils && refused.is_none() {
                refused = Some(part.entry);
                written.end = range.start + at as u64;
            }
        }
        let bytes = content.bytes();
        let active = self.active(Use::WriteCopy, open, &range);
        let mut changes = Changes::new(self.model, number);
        let len = (written.end - written.start) as usize;
        changes.replace(open.number, &written, &content.slice(0..len));
        changes.begin();
        let result = match self.rng.below(3) {
            0 => open.group.write_at(range.start, &bytes).map(|written| {
                assert_eq!(written, bytes.len());
            }),
            1 if refused.is_none() => write_by_cursor(open, range.start, &bytes),
            _ => open.group.write_all_at(range.start, &bytes),
        };
        range = written;
        self.end_write(open, &range, &changes, &active, (result, refused));
    }

    fn end_write(
        &mut self,
        open: &OpenGroup,
        written: &Range<u64>,
        changes: &Changes<'_>,
        active: &Active<'_>,
        (result, refused): (Result<(), GroupError>, Option<usize>),
    ) {
        match (result, refused) {
            (Ok(()), None) => {
                self.note_exist(open, written);
                changes.settle_extended();
                self.count("write");
            }
            (Err(GroupError::WriteToPadding { entry }), Some(refused)) if entry == refused => {
                changes.settle_extended();
                self.count("write: WriteToPadding");
            }
            (Err(error), _) => {
                let locked = active.had_conflict();
                let allowed = Allowed {
                    locked,
                    ..Allowed::default()
                };
                self.refused("write", allowed, &error);
                changes.withdraw();
            }
            (Ok(()), Some(entry)) => panic!("padding {entry} accepted bytes other than zero"),
        }
    }

    /// Copies a part of this thread's stripes to another part, perhaps of the other group.
    pub(crate) fn clone_range(&mut self, open: &OpenGroup) {
        let target = self.groups[self.rng.below(self.groups.len() as u64) as usize].clone();
        let (Some(from), Some(into)) =
            (self.own_range(open, false), self.own_range(&target, false))
        else {
            return;
        };
        let len = (from.end - from.start).min(into.end - into.start);
        let (from, into) = (from.start..from.start + len, into.start..into.start + len);
        if !self.is_certain(open, &from) || !self.is_certain(&target, &into) {
            return;
        }
        let mut content = Content::default();
        for part in self.model.plans[open.number].parts(&from) {
            let stripe = part.stripe.expect("a range without padding");
            content.append(self.model.stripes[stripe].current().slice(part.range));
        }
        let overlaps = self.overlap(open, &from, &target, &into);
        let source = self.active(Use::ReadCopy, open, &from);
        let active = self.active(Use::WriteCopy, &target, &into);
        let mut changes = Changes::new(self.model, self.model.next_number(self.me));
        changes.replace(target.number, &into, &content);
        changes.begin();
        match open.group.clone_range(from, &target.group, into.start) {
            Ok(()) => {
                assert!(!overlaps, "source and target overlap");
                changes.settle_extended();
                self.count("clone_range");
            }
            Err(GroupError::InvalidArgument { argument: "at", .. }) if overlaps => {
                changes.withdraw();
                self.count("clone_range: overlap");
            }
            Err(error) => {
                let locked = active.had_conflict() || source.had_conflict();
                let allowed = Allowed {
                    locked,
                    ..Allowed::default()
                };
                self.refused("clone_range", allowed, &error);
                changes.withdraw();
            }
        }
    }

    /// Whether all bytes of a range of this thread certainly exist.
    fn is_certain(&self, open: &OpenGroup, range: &Range<u64>) -> bool {
        let mut parts = self.model.plans[open.number].parts(range).into_iter();
        parts.all(|part| {
            let stripe = &self.model.stripes[part.stripe.expect("a range without padding")];
            let file = &self.model.files[stripe.file];
            let floor = file.floor();
            // Another thread truncates the file, but never below `fixed`.
            let floor = if file.home == self.me {
                floor
            } else {
                floor.min(file.fixed)
            };
            floor >= stripe.start + part.range.end as u64
        })
    }

    fn overlap(
        &self,
        one: &OpenGroup,
        range: &Range<u64>,
        other: &OpenGroup,
        into: &Range<u64>,
    ) -> bool {
        let theirs = self.model.plans[other.number].parts(into);
        let ours = self.model.plans[one.number].parts(range);
        ours.iter().any(|a| {
            theirs.iter().any(|b| {
                let meet = a.range.start < b.range.end && b.range.start < a.range.end;
                a.stripe == b.stripe && meet
            })
        })
    }

    pub(crate) fn discard(&mut self, open: &OpenGroup) {
        let Some(range) = self.own_range(open, true) else {
            return;
        };
        let active = self.active(Use::WriteCopy, open, &range);
        let mut changes = Changes::new(self.model, self.model.next_number(self.me));
        let zeros = Content::zeros((range.end - range.start) as usize);
        changes.replace(open.number, &range, &zeros);
        changes.begin();
        match open.group.discard(range.clone()) {
            Ok(()) => {
                self.note_exist(open, &range);
                changes.settle();
                self.count("discard");
            }
            Err(error) => {
                let locked = active.had_conflict();
                let allowed = Allowed {
                    locked,
                    ..Allowed::default()
                };
                self.refused("discard", allowed, &error);
                changes.withdraw();
            }
        }
    }
}

fn write_by_cursor(open: &OpenGroup, offset: u64, bytes: &[u8]) -> Result<(), GroupError> {
    let mut cursor = open.group.cursor();
    cursor.seek(SeekFrom::Start(offset)).expect("a seek");
    match cursor.write(bytes) {
        Ok(written) => {
            assert_eq!(written, bytes.len());
            assert_eq!(cursor.position(), offset + bytes.len() as u64);
            Ok(())
        }
        Err(error) => {
            let inner = error.into_inner().expect("an error of the group");
            Err(*inner.downcast().expect("an error of the group"))
        }
    }
}
