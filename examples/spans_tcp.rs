//! Spans over TCP: sends a range of a group from mapped memory and receives it into another group.
//!
//! ```text
//! cargo run --example spans_tcp
//! ```
//!
//! Both groups are in temporary directories, and the connection is local. The bytes pass through no
//! buffer of this program.

use std::error::Error;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use flatspan::mapping_cache::Access;
use flatspan::span::{Group, GroupError};

fn main() -> Result<(), Box<dyn Error>> {
    let (source_dir, target_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let source = group(source_dir.path())?;
    let target = group(target_dir.path())?;
    let content: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    source.write_all_at(0, &content)?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| source.span(50_000..150_000)?.write_all_to(&server));
        // The range is locked until the span is dropped: no other span of it can exist meanwhile.
        let mut span = target.span_mut(50_000..150_000)?;
        span.read_exact_from(&client)?;
        drop(span);
        sender.join().expect("the sender does not panic")
    })?;

    let mut received = vec![0; 100_000];
    target.read_exact_at(50_000, &mut received)?;
    assert_eq!(received, content[50_000..150_000]);
    println!("received {} bytes", received.len());
    Ok(())
}

/// A writable group of two files.
fn group(root: &Path) -> Result<Group, GroupError> {
    Group::builder(root)
        .access(Access::ReadWrite)
        .create(true)
        .file("a", 120_000)
        .file("b", 80_000)
        .open()
}
