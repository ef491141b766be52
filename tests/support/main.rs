//! Tests of the test support, on which the other targets rely.

#[path = "mod.rs"]
mod support;

mod selftest;
