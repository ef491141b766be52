//! Operations on the bytes of a span that no thread changes meanwhile: hashes, transfers, data and
//! holes.

use std::{
    io::{Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
};

use flatspan::span::{PieceHasher as _, Pieces, Sha1};

use super::{
    activity::Use,
    allowed::Allowed,
    sockets::{SEND_MAX, Sockets},
    worker::{OpenGroup, Worker},
};

impl Worker<'_> {
    pub(crate) fn hash(&mut self, open: &OpenGroup) {
        let len = 1 + self.rng.below(30_000);
        let pieces = Pieces::new(&open.group, len).expect("a length of a piece");
        let piece = self.rng.below(pieces.count() as u64) as usize;
        let range = pieces.range(piece).expect("a piece");
        // The span keeps other threads from changing the bytes.
        let Some((_active, _span, bytes)) = self.span(open, &range) else {
            return;
        };
        let mut expected = Sha1::default();
        expected.update(&bytes);
        let expected = expected.finish();
        let active = self.active(Use::ReadCopy, open, &range);
        let hash = if self.rng.percent(50) {
            pieces.hash(piece)
        } else {
            pieces.hash_with::<Sha1>(piece)
        };
        match hash {
            Ok(hash) => {
                assert_eq!(hash, expected, "hash of {range:?} of group {}", open.number);
                self.count("hash");
            }
            Err(error) => {
                let locked = active.had_conflict();
                let allowed = Allowed {
                    locked,
                    ..Allowed::default()
                };
                self.refused("hash", allowed, &error);
            }
        }
    }

    pub(crate) fn send(&mut self, open: &OpenGroup) {
        let range = self.any_range(open);
        let Some((_active, span, bytes)) = self.span(open, &range) else {
            return;
        };
        let way = self.rng.below(3);
        let received = if way == 0 || bytes.len() > SEND_MAX {
            self.scratch.set_len(0).expect("truncated");
            self.scratch.seek(SeekFrom::Start(0)).expect("a seek");
            let sent = span.write_all_to(&self.scratch);
            sent.expect("all bytes exist, and the disk has room");
            let mut received = vec![0xEE; bytes.len()];
            let read = self.scratch.read_exact_at(&mut received, 0);
            read.expect("all bytes were written");
            received
        } else {
            let sockets = self.sockets.get_or_insert_with(Sockets::new);
            match way {
                1 => sockets.send(&span),
                _ => sockets.send_zero_copy(span),
            }
        };
        assert!(
            received == bytes,
            "sent {range:?} of group {} by way {way}",
            open.number
        );
        self.count("send");
    }

    pub(crate) fn next_data(&mut self, open: &OpenGroup) {
        let range = self.any_range(open);
        let Some((_active, _span, bytes)) = self.span(open, &range) else {
            return;
        };
        let found = open
            .group
            .next_data(range.clone())
            .expect("all bytes exist");
        let hole = match &found {
            Some(data) => {
                assert!(
                    data.start >= range.start && data.end <= range.end,
                    "{data:?} of {range:?}"
                );
                (data.start - range.start) as usize
            }
            None => bytes.len(),
        };
        let is_zero = bytes[..hole].iter().all(|byte| *byte == 0);
        assert!(
            is_zero,
            "a hole in {range:?} of group {} has data: {found:?}",
            open.number
        );
        self.count("next_data");
    }
}
