//! The durable example, as a program: a count that goes on, and a storm that can fail.

#[path = "../support/mod.rs"]
mod support;

mod counting;
mod program;
mod storming;
