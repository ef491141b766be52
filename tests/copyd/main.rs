//! The copyd example as a program: killed peers, hostile peers, and the resulting content of the
//! files.

#[path = "../support/mod.rs"]
mod support;

mod ending;
mod hostile;
mod program;
mod refusing;
mod transfer;
