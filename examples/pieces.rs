//! Piece hashes of a directory: the SHA-1 of each piece of its files, as in a torrent.
//!
//! ```text
//! cargo run --example pieces [DIR]
//! ```
//!
//! Without an argument it hashes the directory `src`. The files are taken in the order of their
//! paths, and a piece may span several of them.

use std::error::Error;
use std::path::PathBuf;

use flatspan::span::{Group, Pieces};
use walkdir::WalkDir;

const PIECE_BYTES: u64 = 256 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("src"), PathBuf::from);
    let mut builder = Group::builder(&root);
    for entry in WalkDir::new(&root).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            builder = builder.existing_file(entry.path().strip_prefix(&root)?);
        }
    }
    let group = builder.open()?;
    let pieces = Pieces::new(&group, PIECE_BYTES)?;
    println!(
        "{}: {} bytes, {} pieces",
        root.display(),
        group.len(),
        pieces.count()
    );
    // With the feature `rayon`, `hash_all` hashes all pieces in parallel.
    for piece in 0..pieces.count() {
        println!("{piece:>6} {}", pieces.hash(piece)?);
    }
    Ok(())
}
