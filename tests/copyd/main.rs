//! The copyd example, as a program: peers that are killed, hostile ones, and what becomes of the files.

#[path = "../support/mod.rs"]
mod support;

mod ending;
mod hostile;
mod program;
mod refusing;
mod transfer;
