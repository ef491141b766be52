//! Where the service manager listens: `NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use super::environment::refuse;
use super::error::ShmError;

pub(super) const SOCKET: &str = "NOTIFY_SOCKET";

/// An address of Unix sockets has room for 108 bytes; a path ends with a zero, an abstract name begins with one.
const BYTES_MAX: usize = 107;

/// A path from the root, or a name behind `@` that is in no directory.
pub(super) fn parse(socket: &OsStr) -> Result<SocketAddr, ShmError> {
    let failed = |error: io::Error| refuse(SOCKET, socket, &error.to_string());
    match socket.as_bytes() {
        [b'/', ..] if socket.len() > BYTES_MAX => {
            Err(refuse(SOCKET, socket, "a path has 107 bytes at most"))
        }
        [b'/', ..] => SocketAddr::from_pathname(socket).map_err(failed),
        [b'@'] => Err(refuse(SOCKET, socket, "the name is empty")),
        [b'@', name @ ..] if name.len() > BYTES_MAX => {
            Err(refuse(SOCKET, socket, "a name has 107 bytes at most"))
        }
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).map_err(failed),
        _ => Err(refuse(
            SOCKET,
            socket,
            "it is neither a path from / on nor an abstract name behind @",
        )),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn paths_and_abstract_names_are_told_apart_and_measured() {
        let longest = "x".repeat(106);
        let path = parse(OsStr::new(&format!("/{longest}"))).expect("107 bytes");
        assert_eq!(
            path.as_pathname().map(|path| path.as_os_str().len()),
            Some(107)
        );
        let name = parse(OsStr::new(&format!("@y{longest}"))).expect("107 bytes");
        assert_eq!(name.as_abstract_name().map(<[u8]>::len), Some(107));
        for bad in [
            format!("/y{longest}"),
            format!("@yz{longest}"),
            "@".to_owned(),
            "run/notify".to_owned(),
            "vsock:2:1234".to_owned(),
            "/a\0b".to_owned(),
        ] {
            let refused = parse(OsStr::new(&bad)).expect_err(&bad);
            assert!(matches!(refused, ShmError::Variable { name: SOCKET, .. }));
        }
    }
}
