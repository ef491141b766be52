//! A group of files as one byte array: create, write, read and sync.
//!
//! ```text
//! cargo run --example group
//! ```
//!
//! The files are created in a temporary directory, which is removed at the end.

use std::error::Error;

use flatspan::mapping_cache::{Access, CacheOptions, MappingCache};
use flatspan::span::Group;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;

    // One cache for all groups of a process. It maps at most 16 MiB of their files.
    let cache = MappingCache::new(CacheOptions::default().budget_bytes(16 << 20))?;
    let group = Group::builder(directory.path())
        .cache(&cache)
        .access(Access::ReadWrite)
        .create(true)
        .file("data/first", 100_000)
        .file("data/second", 50_000)
        .open()?;
    println!("the group has {} bytes", group.len());

    // This range crosses the boundary of the two files.
    let text = b"in both files";
    group.write_all_at(99_995, text)?;
    let mut buf = vec![0; text.len()];
    group.read_exact_at(99_995, &mut buf)?;
    assert_eq!(buf, text);

    // The data is durable after this call.
    group.sync_all()?;

    for name in ["data/first", "data/second"] {
        let bytes = std::fs::metadata(directory.path().join(name))?.len();
        println!("{name}: {bytes} bytes on disk");
    }
    println!("{:?}", cache.stats());
    Ok(())
}
