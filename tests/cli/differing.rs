//! `flatspan diff`.

use serde_json::json as value;

use crate::damage;
use crate::fixture::{closed, crashed, expect, json, of_pages, stdout};

#[test]
fn stores_with_the_same_content_are_identical() {
    let (crashed, closed) = (crashed(), closed());
    assert_eq!(
        json(0, "diff", &[&crashed.path, &crashed.path])["identical"],
        true
    );
    // The hashes and the journal differ, the bytes are equal.
    assert_eq!(
        json(0, "diff", &[&crashed.path, &closed.path])["identical"],
        true
    );
}

#[test]
fn differing_pages_are_listed() {
    let one = of_pages(&[(1, 1), (2, 2), (3, 3), (9, 9)]);
    let other = of_pages(&[(1, 1), (2, 5), (4, 4), (9, 9)]);
    let found = json(1, "diff", &[&one.path, &other.path]);
    assert_eq!(
        (&found["differing_pages"], &found["differing_page_ranges"]),
        (&3.into(), &value!([[2, 4]]))
    );
    let text = stdout(&expect(1, "diff", &[&one.path, &other.path]));
    assert!(
        text.contains("pages 2-4 (bytes 8192-20479) differ"),
        "{text}"
    );
    // The journal counts: pages 1 to 24 of the second store have data.
    let found = json(1, "diff", &[&of_pages(&[(22, 22)]).path, &crashed().path]);
    assert_eq!(found["differing_page_ranges"], value!([[1, 21], [23, 24]]));
}

#[test]
fn the_heaps_of_one_store_are_compared_without_the_journal() {
    let made = crashed();
    let found = json(1, "diff", &[&made.path]);
    assert_eq!(found["differing_page_ranges"], value!([[21, 21]]));
    assert_eq!(
        (&found["a"]["heap"], &found["b"]["heap"]),
        (&"a".into(), &"b".into())
    );
}

#[test]
fn corruption_is_a_failure_not_a_difference() {
    let made = crashed();
    damage::flip_page(&made.path, "heap-a", 5);
    expect(
        3,
        "diff",
        &[&made.path, &of_pages(&[]).path.with_file_name("none")],
    );
    expect(3, "diff", &[&made.path, &of_pages(&[(5, 77)]).path]);
}
