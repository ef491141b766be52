//! The support of the tests does what it says: the other targets rely on it.

#[path = "mod.rs"]
mod support;

mod selftest;
