//! What is to be true of every image.

use flatspan::snapshot::{Array, HeapName, SnapshotError};

use super::crash::Recorder;
use super::workloads::{Ground, Way};

/// Opens an image, looks, goes on, and opens it again. The next step is acknowledged in turn, so that crashes of this are
/// judged in the same way.
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

/// The same for a store that is there, or may be made.
pub(crate) fn judge_found(way: Way, ground: &impl Ground, acknowledged: u64) -> Result<(), String> {
    let open = || {
        let store = way.open(ground).map_err(|error| format!("{error:?}"))?;
        // Where nothing rots, a released heap is whole.
        match &store.open_report().fell_back {
            Some(why) => Err(format!("fell back: {why}")),
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
    let went_on = |error| format!("going on: {error:?}");
    // Into the older heap as it is: the next step would write again what a crash has half undone there.
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

/// Rots a page of either heap in turn: where the other one is a second chance, it holds all that was acknowledged. How many there
/// were.
pub(crate) fn judge_second_chance(way: Way, image: &Recorder) -> Result<u32, String> {
    let mut chances = 0;
    let acknowledged = image.marks().last().copied().unwrap_or(0);
    for heap in [HeapName::A, HeapName::B] {
        let file = (Array::Heap(heap), 1);
        if !image
            .files()
            .iter()
            .any(|(of, len)| *of == file && *len > 0)
        {
            continue;
        }
        let disk = image.settled();
        disk.overwrite(file, 0, &[0xEE; 4096]);
        let store = match way.open(&disk) {
            Ok(store) => store,
            // There is another heap, and it does not lead to what was durable.
            Err(SnapshotError::NothingGood { rest, .. }) if rest.starts_with("heap") => {
                return Err(rest);
            }
            // Without another heap there is none.
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
