//! `PageSet` compared with a plain set.

use std::collections::BTreeSet;
use std::ops::Range;

use flatspan::snapshot::PageSet;
use proptest::prelude::*;

const PAGES: u64 = 700;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    InsertRange(Range<u64>),
    Remove(u64),
    RemoveRange(Range<u64>),
    RemoveAll(Vec<u64>),
    Union(Vec<u64>),
    Take,
    Clear,
}

fn range() -> impl Strategy<Value = Range<u64>> {
    // Some ranges are empty or reversed.
    (0..PAGES, 0..PAGES, 0..8_u64).prop_map(|(start, end, short)| match short {
        0 => start..end,
        _ => start..start + (end % 70),
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..PAGES).prop_map(Step::Insert),
        4 => range().prop_map(Step::InsertRange),
        2 => (0..2 * PAGES).prop_map(Step::Remove),
        3 => range().prop_map(Step::RemoveRange),
        1 => prop::collection::vec(0..2 * PAGES, 0..9).prop_map(Step::RemoveAll),
        1 => prop::collection::vec(0..2 * PAGES, 0..9).prop_map(Step::Union),
        1 => Just(Step::Take),
        1 => Just(Step::Clear),
    ]
}

fn apply(set: &mut PageSet, model: &mut BTreeSet<u64>, step: Step) {
    match step {
        Step::Insert(page) => {
            set.insert(page);
            model.insert(page);
        }
        Step::InsertRange(pages) => {
            set.insert_range(pages.clone());
            model.extend(pages);
        }
        Step::Remove(page) => {
            set.remove(page);
            model.remove(&page);
        }
        Step::RemoveRange(pages) => {
            set.remove_range(pages.clone());
            model.retain(|page| !pages.contains(page));
        }
        Step::RemoveAll(pages) => {
            set.remove_all(&pages.iter().copied().collect());
            model.retain(|page| !pages.contains(page));
        }
        Step::Union(pages) => {
            *set |= &pages.iter().copied().collect();
            model.extend(pages);
        }
        Step::Take => {
            let taken = set.take();
            check(&taken, model);
            model.clear();
        }
        Step::Clear => {
            set.clear();
            model.clear();
        }
    }
}

fn check(set: &PageSet, model: &BTreeSet<u64>) {
    assert_eq!(set.len(), model.len() as u64);
    assert_eq!(set.is_empty(), model.is_empty());
    let runs: Vec<_> = set.runs().collect();
    assert!(
        runs.windows(2).all(|pair| pair[0].end < pair[1].start),
        "{runs:?}"
    );
    let pages: BTreeSet<u64> = runs.into_iter().flatten().collect();
    assert_eq!(&pages, model);
    assert!((0..2 * PAGES).all(|page| set.contains(page) == model.contains(&page)));
    assert_eq!(set, &model.iter().copied().collect());
}

proptest! {
    #[test]
    fn page_set_behaves_as_a_set(steps in prop::collection::vec(step(), 1..40)) {
        let (mut set, mut model) = (PageSet::new(), BTreeSet::new());
        for step in steps {
            apply(&mut set, &mut model, step);
            check(&set, &model);
        }
    }
}

#[test]
fn pages_across_word_borders_form_single_runs() {
    let mut set = PageSet::new();
    set.insert_range(0..256);
    assert_eq!(format!("{set:?}"), "{0..256}");
    set.remove_range(64..128);
    assert_eq!(set.runs().collect::<Vec<_>>(), [0..64, 128..256]);
    set.remove(u64::MAX);
    set.remove_range(200..u64::MAX);
    assert_eq!(set.runs().collect::<Vec<_>>(), [0..64, 128..200]);
    assert!(!set.contains(u64::MAX));
    set.insert(63);
    set.insert(127);
    assert_eq!(format!("{set:?}"), "{0..64, 127..200}");
}
