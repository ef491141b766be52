//! Windows of files: their arithmetic, their slots, and the budget of their mappings.

mod budget;
mod geometry;
mod slot_table;
mod wait_table;
mod window_slot;

pub(in crate::mapping_cache) use budget::{Budget, Charge, Key, WindowMapping};
pub(in crate::mapping_cache) use geometry::{Step, Windows};
pub(in crate::mapping_cache) use slot_table::{SlotTable, WindowSlots};
pub(in crate::mapping_cache) use wait_table::WaitTable;
pub(in crate::mapping_cache) use window_slot::{Address, Slot, TryPin};
