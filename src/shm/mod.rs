//! Memory that a program shares with the process that keeps its state (docs/shared-memory-protocol.md).

pub mod queue;
