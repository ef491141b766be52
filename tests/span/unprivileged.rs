//! Runs the tests of `ordinary_user` as an ordinary user.

use crate::support::user;

#[test]
fn tests_for_ordinary_users_pass() {
    user::as_ordinary_user("ordinary_user::");
}
