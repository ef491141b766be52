//! The start and the end of the program.

use rustix::process::Signal;

use crate::program::{DONE, Files, PUT, Server, copyd, expect};
use crate::support;

#[test]
fn a_signal_ends_a_busy_server_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = support::temp_dir();
        let files = Files {
            root: directory.path(),
            bytes: 50_000,
            count: 2,
        };
        let server = Server::start(&files, &["--receive"]);
        let mut idle = server.connect();
        assert_eq!(idle.put(49_999, b"ab"), (DONE, vec![]));
        let mut slow = server.connect();
        slow.head(PUT, 0, 10_000);
        slow.send(&[1; 5000]);
        server.signal(signal);
        let (status, last) = server.wait();
        assert_eq!(status.code(), Some(0), "{last}");
        idle.assert_ended();
        slow.assert_ended();
        let read = |file: &str| std::fs::read(directory.path().join(file)).expect("a file");
        assert_eq!(read("000000")[49_999], b'a');
        assert_eq!(read("000001")[0], b'b');
    }
}

#[test]
fn exit_codes_and_help_are_as_documented() {
    let code = |args: &[&str]| {
        let output = copyd().args(args).output().expect("the program starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    };
    for command in ["serve", "load", "check"] {
        let (status, help) = code(&[command, "--help"]);
        assert_eq!(status, Some(0));
        assert!(help.contains("Exit codes:"), "{help}");
        assert_eq!(code(&[command]).0, Some(2));
    }
    let gone = ["--root", "/nowhere", "--file-size", "1", "--files", "1"];
    let (status, text) = code(&[&["check", "--seed", "1"], &gone[..]].concat());
    assert_eq!(status, Some(4));
    assert!(text.contains("--root /nowhere"), "{text}");
    let directory = support::temp_dir();
    let root = directory.path().to_str().expect("UTF-8");
    let long = (u64::MAX / 2).to_string();
    let group = ["--root", root, "--file-size", &long, "--files", "3"];
    let listen = ["serve", "--listen", "127.0.0.1:0"];
    assert_eq!(code(&[&listen, &group[..]].concat()).0, Some(4));
    // No server listens there, and the workers report it.
    let without_server = ["load", "127.0.0.1:1", "--bytes", "1", "--peers", "1"];
    assert_eq!(
        code(&[&without_server[..], &["--seed", "1"]].concat()).0,
        Some(4)
    );
}

#[test]
fn load_fails_on_a_group_that_is_too_small() {
    let directory = support::temp_dir();
    let files = Files {
        root: directory.path(),
        bytes: 50_000,
        count: 2,
    };
    let server = Server::start(&files, &["--receive"]);
    let output = copyd()
        .args(["load", &server.address, "--bytes", "100001"])
        .args(["--peers", "3", "--seed", "1"])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(text.contains("is out of bounds"), "{text}");
    // A load of zero bytes is refused.
    let mut args = vec!["load", "--json", &server.address, "--bytes", "0"];
    args.extend(["--peers", "3", "--seed", "1"]);
    assert_eq!(expect(0, &args)["puts"], 0);
    server.end();
}
