//! Replays the seeds of the fuzz target.

use std::fs;
use std::path::Path;

#[test]
fn every_fuzz_seed_passes() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/bencode");
    let seeds: Vec<_> = fs::read_dir(&directory)
        .expect("the corpus")
        .collect::<Result<_, _>>()
        .expect("its entries");
    assert!(
        seeds.len() >= 12,
        "only {} seeds exist in {}",
        seeds.len(),
        directory.display()
    );
    for seed in seeds {
        crate::property::check(&fs::read(seed.path()).expect("a seed"));
    }
}
