//! Runs the tests of `ordinary_user` as an ordinary user.

use crate::support::user;

#[test]
fn tracking_does_not_need_root() {
    user::as_ordinary_user("ordinary_user::");
}
