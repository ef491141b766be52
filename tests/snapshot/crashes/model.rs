//! Expected memory of a store after a number of steps: a function of the number alone.
//!
//! Step `n` writes `n` to the start of the memory, and changes other parts. So the memory
//! identifies its step, and every byte can be checked.

use std::ops::Range;

pub(crate) const PAGE: u64 = 4096;

/// Change of memory by a step.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Resize(u64),
    Write(u64, Vec<u8>),
    Discard(Range<u64>),
}

/// Kinds of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) pages: u64,
    /// Whether lengths change too.
    pub(crate) resizes: bool,
}

/// Returns the changes of a step, given the length before it.
pub(crate) fn step(shape: Shape, number: u64, len: u64) -> Vec<Change> {
    let mut random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let mut changes = Vec::new();
    let mut len = len;
    if shape.resizes && number.is_multiple_of(3) {
        len = (2 + below(shape.pages)) * PAGE;
        changes.push(Change::Resize(len));
    }
    for _ in 0..1 + below(2) {
        let start = 8 + below(len - 8);
        let bytes = (len - start).min(1 + below(9000));
        changes.push(Change::Write(start, vec![number as u8 | 1; bytes as usize]));
    }
    if number % 4 == 1 {
        let start = (1 + below(len / PAGE - 1)) * PAGE;
        let end = (start + (1 + below(3)) * PAGE).min(len);
        changes.push(Change::Discard(start..end));
    }
    changes.push(Change::Write(0, number.to_le_bytes().to_vec()));
    changes
}

/// Returns the memory after `steps` steps.
pub(crate) fn after(shape: Shape, steps: u64) -> Vec<u8> {
    let mut memory = vec![0; (shape.pages * PAGE) as usize];
    for number in 1..=steps {
        for change in step(shape, number, memory.len() as u64) {
            match change {
                Change::Resize(len) => memory.resize(len as usize, 0),
                Change::Write(at, bytes) => {
                    memory[at as usize..][..bytes.len()].copy_from_slice(&bytes);
                }
                Change::Discard(range) => {
                    memory[range.start as usize..range.end as usize].fill(0);
                }
            }
        }
    }
    memory
}
