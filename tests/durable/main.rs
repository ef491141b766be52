//! Tests of the example `durable` as a program: `count`, and `crash-test` with and without faults.

#[path = "../support/mod.rs"]
mod support;

mod count;
mod crash_test;
mod program;
