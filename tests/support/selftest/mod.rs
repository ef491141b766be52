//! One file per part of the support.

mod children;
mod filesystems;
#[cfg(target_os = "linux")]
mod fuse_modes;
mod needs;
#[cfg(target_os = "linux")]
mod power;
