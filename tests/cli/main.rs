//! The program `flatspan`, on real stores, good and damaged.

mod beside_a_writer;
mod damage;
mod differing;
mod doctoring;
mod documentation;
mod exporting;
mod fixture;
mod importing;
mod interrupting;
mod large;
mod read_only;
mod reading;
#[path = "../support/mod.rs"]
mod support;
mod verifying;
