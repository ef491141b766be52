//! Tracking without privileges. Run by `unprivileged`, and by ordinary users.

use flatspan::snapshot::{
    HashCompareTracker, PrivatePagesTracker, RegionKind, TrackerChoice, WriterScope, select_tracker,
};

use crate::{
    fixture::{KINDS, region, reserving, wp_async},
    shadow::missed,
    support::{temp_dir, user::is_root},
};

#[test]
fn unprivileged_trackers_miss_nothing() {
    if is_root() {
        return;
    }
    for kind in KINDS {
        assert_eq!(
            missed(kind, 3, || Box::new(HashCompareTracker::new())),
            0,
            "{kind}"
        );
        let Some(_) = wp_async() else { return };
        let missed = missed(kind, 10, || Box::new(wp_async().expect("tried before")));
        assert_eq!(missed, 0, "{kind}");
    }
    let make = || Box::new(PrivatePagesTracker::new().expect("a tracker")) as Box<_>;
    assert_eq!(missed(RegionKind::PrivateFiles, 10, make), 0);
}

#[test]
fn ordinary_user_gets_the_same_tracker() {
    if is_root() || wp_async().is_none() {
        return;
    }
    for kind in KINDS {
        let directory = temp_dir();
        let region = region(kind, directory.path(), 8, reserving(8));
        let wish = TrackerChoice::WpAsync;
        let chosen = select_tracker(&region, wish, WriterScope::ThisMapping);
        chosen.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}
