//! Unit tests of several layers, and the crash recorder of the integration tests.

mod capture_tests;
#[path = "../../../tests/snapshot/crash/mod.rs"]
#[expect(dead_code, unused_imports, reason = "used by the integration tests")]
mod crash;
mod fault_injection_tests;
mod faulty_backend;
#[path = "../../../tests/snapshot/crashes/judge.rs"]
mod judge;
#[path = "../../../tests/snapshot/crashes/model.rs"]
mod model;
mod second_heap_tests;
#[path = "../../../tests/snapshot/crashes/workloads.rs"]
#[expect(dead_code, reason = "used by the integration tests")]
mod workloads;

pub(in crate::snapshot) use crash::{Op, Recorder};
