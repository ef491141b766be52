//! Runs the tests of `ordinary_user` as an ordinary user.

use crate::support::user;

#[test]
fn nothing_needs_root() {
    user::as_ordinary_user("ordinary_user::");
}
