//! Variants of torn writes.
#![expect(
    clippy::single_range_in_vec_init,
    reason = "one range, not the numbers in it"
)]

use std::ops::Range;

use super::model::Part;

const SECTOR: u64 = 512;
const PAGE: u64 = 4096;

/// Returns the torn variants of a write of `len` bytes at `offset`.
///
/// Up to `sectors_max` sectors, every subset is returned. For longer writes, all prefixes and
/// suffixes that end at a sector of the first or last page, or at a page between.
pub(crate) fn torn(offset: u64, len: usize, sectors_max: u32) -> Vec<Part> {
    let end = offset + len as u64;
    let borders: Vec<u64> = (offset / SECTOR + 1..)
        .map(|sector| sector * SECTOR)
        .take_while(|border| *border < end)
        .collect();
    if borders.is_empty() {
        return Vec::new();
    }
    let within = |at: u64| (at - offset) as usize;
    let mut parts = Vec::new();
    if borders.len() < sectors_max as usize {
        let ends = borders.iter().map(|border| within(*border)).chain([len]);
        let starts = [0]
            .into_iter()
            .chain(borders.iter().map(|border| within(*border)));
        let sectors: Vec<Range<usize>> = starts.zip(ends).map(|(start, end)| start..end).collect();
        for mask in 1..(1_u32 << sectors.len()) - 1 {
            let kept = (0..sectors.len()).filter(|sector| mask >> sector & 1 == 1);
            let kept: Vec<_> = kept.map(|sector| sectors[sector].clone()).collect();
            parts.push(Part::Torn(kept, len));
        }
    } else {
        for border in &borders {
            if *border > offset + PAGE && *border < end - PAGE && border % PAGE != 0 {
                continue;
            }
            let border = within(*border);
            parts.push(Part::Torn(vec![0..border], len));
            parts.push(Part::Torn(vec![border..len], len));
        }
    }
    // A prefix that also limits the extension of the file.
    for border in [
        borders[0],
        borders[borders.len() / 2],
        borders[borders.len() - 1],
    ] {
        parts.push(Part::Torn(vec![0..within(border)], within(border)));
    }
    parts
}

#[test]
fn short_writes_are_torn_into_every_subset_of_sectors() {
    assert!(
        torn(100, 400, 5).is_empty(),
        "one sector is written as a whole"
    );
    assert!(torn(0, 512, 5).is_empty());
    let parts = torn(500, 600, 5);
    let kept = |part: &Part| match part {
        Part::Torn(kept, _) => kept.clone(),
        other => panic!("{other:?}"),
    };
    let all: Vec<_> = parts.iter().map(kept).collect();
    assert!(all.contains(&vec![0..12, 524..600]), "{all:?}");
    assert!(!all.contains(&vec![0..12, 12..524, 524..600]));
}

#[test]
fn long_writes_are_torn_at_sectors_of_both_ends_and_at_pages_between() {
    let parts = torn(0, 1 << 20, 5);
    assert!(parts.contains(&Part::Torn(vec![0..512], 1 << 20)));
    assert!(parts.contains(&Part::Torn(vec![40_960..1 << 20], 1 << 20)));
    assert!(!parts.contains(&Part::Torn(vec![0..40_960 + 512], 1 << 20)));
    assert!(parts.len() < 600);
}
