//! Windows of files: their arithmetic, their slots, and the budget of their mappings.

mod budget;
mod geometry;
mod mapping_list;
mod pin_block;
mod pin_pool;
mod slot_table;
mod wait_table;
mod window_slot;

pub(in crate::mapping_cache) use budget::{Budget, Charge};
pub(in crate::mapping_cache) use geometry::{Step, Windows};
pub(in crate::mapping_cache) use mapping_list::{Key, WindowMapping};
pub(in crate::mapping_cache) use pin_block::{Address, BlockId, PinBlock};
pub(in crate::mapping_cache) use pin_pool::PinPool;
pub(in crate::mapping_cache) use slot_table::{SlotTable, WindowSlots};
pub(in crate::mapping_cache) use wait_table::WaitTable;
pub(in crate::mapping_cache) use window_slot::{Slot, TryPin};
