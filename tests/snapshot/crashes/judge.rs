//! Condition that every image must meet.

use flatspan::snapshot::{HeapName, LogicalFile, StoreError};

use super::crash::Recorder;
use super::workloads::{Ground, Way};

/// Opens an image, checks it, continues, and opens it again. The next step is acknowledged in turn,
/// so crashes of the recovery are judged in the same way.
pub(crate) fn judge(way: Way, image: &Recorder) -> Result<(), String> {
    let acknowledged = image.marks().last().copied().unwrap_or(0);
    if !image.is_published() {
        return match acknowledged {
            0 => Ok(()),
            _ => Err("the whole store is lost".to_owned()),
        };
    }
    judge_found(way, image, acknowledged)
}

/// Judges a store that exists or may be created.
pub(crate) fn judge_found(way: Way, ground: &impl Ground, acknowledged: u64) -> Result<(), String> {
    let open = || {
        let store = way.open(ground).map_err(|error| format!("{error:?}"))?;
        // Without corruption a complete heap is intact.
        match &store.open_report().fallback_reason {
            Some(why) => Err(format!("fallback was used: {why}")),
            None => Ok(store),
        }
    };
    let store = open()?;
    let found = way.look(&store)?;
    if found < acknowledged {
        return Err(format!(
            "step {acknowledged} was acknowledged, {found} came back: {:?}",
            store.open_report()
        ));
    }
    let went_on = |error| format!("continuing: {error:?}");
    // Writes into the older heap unchanged. The next step would rewrite data there that a crash has
    // half undone.
    way.touch(&store, found).map_err(went_on)?;
    store.checkpoint_base().map_err(went_on)?;
    drop(store);
    let store = open()?;
    expect(way.look(&store)?, found)?;
    if found == 0 {
        way.begin(&store).map_err(went_on)?;
    }
    way.step(ground, &store, found + 1).map_err(went_on)?;
    store.checkpoint_base().map_err(went_on)?;
    drop(store);
    expect(way.look(&open()?)?, found + 1)
}

fn expect(found: u64, expected: u64) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{found} came back after {expected}"))
    }
}

/// Corrupts a page of each heap in turn. The fallback heap must lead to everything that was
/// acknowledged. Returns the number of fallbacks.
pub(crate) fn judge_fallback(way: Way, image: &Recorder) -> Result<u32, String> {
    let mut chances = 0;
    let acknowledged = image.marks().last().copied().unwrap_or(0);
    for heap in [HeapName::A, HeapName::B] {
        let file = (LogicalFile::Heap(heap), 1);
        if !image
            .files()
            .iter()
            .any(|(of, len)| *of == file && *len > 0)
        {
            continue;
        }
        let disk = image.durable_copy();
        disk.overwrite(file, 0, &[0xEE; 4096]);
        let store = match way.open(&disk) {
            Ok(store) => store,
            // The other heap exists, and does not lead to the durable state.
            Err(StoreError::NoUsableHeap { rest, .. }) if rest.starts_with("heap") => {
                return Err(rest);
            }
            // There is no other heap.
            Err(_) => continue,
        };
        let found = way.look(&store)?;
        if found < acknowledged {
            let report = store.open_report();
            return Err(format!("{found} after {acknowledged}: {report:?}"));
        }
        chances += 1;
    }
    Ok(chances)
}
