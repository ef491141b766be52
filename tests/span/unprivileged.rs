//! Runs the tests of `ordinary_user` as an ordinary user.

use crate::support::user;

#[test]
fn ordinary_user_tests_pass() {
    user::as_ordinary_user("ordinary_user::");
}
