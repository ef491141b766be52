//! Address of the service manager in `NOTIFY_SOCKET`.
//!
//! See [`unix(7)`](https://man7.org/linux/man-pages/man7/unix.7.html).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;

use super::environment::refuse;
use super::error::ShmError;

pub(super) const SOCKET: &str = "NOTIFY_SOCKET";

/// A Unix socket address has 108 bytes. A path ends with a zero byte, an abstract name starts with
/// one.
const BYTES_MAX: usize = 107;

/// Parses an absolute path, or an abstract name after `@`.
pub(super) fn parse(socket: &OsStr) -> Result<SocketAddr, ShmError> {
    let failed = |error: io::Error| refuse(SOCKET, socket, &error.to_string());
    match socket.as_bytes() {
        [b'/', ..] if socket.len() > BYTES_MAX => {
            Err(refuse(SOCKET, socket, "a path has at most 107 bytes"))
        }
        [b'/', ..] => SocketAddr::from_pathname(socket).map_err(failed),
        [b'@'] => Err(refuse(SOCKET, socket, "the name is empty")),
        [b'@', name @ ..] if name.len() > BYTES_MAX => {
            Err(refuse(SOCKET, socket, "a name has at most 107 bytes"))
        }
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).map_err(failed),
        _ => Err(refuse(
            SOCKET,
            socket,
            "it is neither an absolute path nor an abstract name after @",
        )),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn paths_and_abstract_names_have_at_most_107_bytes() {
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
            assert!(matches!(
                refused,
                ShmError::InvalidVariable { name: SOCKET, .. }
            ));
        }
    }
}
