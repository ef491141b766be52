//! Requests and replies, as documented in `main.rs`.

/// Maximum payload of a request or a reply, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 16 << 10;

pub(crate) const REQUEST_HEAD_BYTES: usize = 13;
pub(crate) const REPLY_HEAD_BYTES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    Get = 1,
    Put = 2,
    Sync = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Done = 0,
    Malformed = 1,
    Range = 2,
    Busy = 3,
    File = 4,
    Full = 5,
}

/// The head of a request, not validated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) op: u8,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Op {
    pub(crate) fn of(byte: u8) -> Option<Self> {
        [Self::Get, Self::Put, Self::Sync]
            .into_iter()
            .find(|op| *op as u8 == byte)
    }
}

impl Status {
    pub(crate) fn of(byte: u8) -> Option<Self> {
        use Status::{Busy, Done, File, Full, Malformed, Range};
        [Done, Malformed, Range, Busy, File, Full]
            .into_iter()
            .find(|status| *status as u8 == byte)
    }
}

impl Request {
    pub(crate) fn encode(self) -> [u8; REQUEST_HEAD_BYTES] {
        let mut head = [self.op; REQUEST_HEAD_BYTES];
        head[1..9].copy_from_slice(&self.offset.to_le_bytes());
        head[9..].copy_from_slice(&self.len.to_le_bytes());
        head
    }

    pub(crate) fn decode(head: [u8; REQUEST_HEAD_BYTES]) -> Self {
        let [op, o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = head;
        Self {
            op,
            offset: u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
        }
    }
}

pub(crate) fn reply_head(status: Status, len: u32) -> [u8; REPLY_HEAD_BYTES] {
    let [l0, l1, l2, l3] = len.to_le_bytes();
    [status as u8, l0, l1, l2, l3]
}
