//! The descriptors that a command inherits from its host.

use std::process::Command;

use crate::support;

/// [I28] A client hangs forever when another process holds its userfaultfd and does not answer. No
/// current capture mode uses a userfaultfd of the client. The command inherits nothing that the
/// host has open: its store, its locks, and descriptors that track memory.
#[test]
fn i28_a_command_inherits_only_the_memfd_of_its_host() {
    for strategy in ["exit", "freeze", "queue"] {
        let dir = support::temp_dir();
        let listed = dir.path().join("listed");
        // Lists the descriptors of the shell after a second snapshot has begun.
        let script = "sleep 0.1; for fd in /proc/$$/fd/*; do readlink $fd; done > \"$0\"; \
                      readlink /proc/$PPID/exe >> \"$0\"";
        let status = Command::new(env!("CARGO_BIN_EXE_shm-restore"))
            .arg(format!("--mode={strategy}"))
            .args(["--interval", "0.02"])
            .arg(dir.path().join("store"))
            .args(["sh", "-c", script])
            .arg(&listed)
            .stdin(std::process::Stdio::null())
            .status();
        assert_eq!(status.expect("shm-restore").code(), Some(0));
        let listed = std::fs::read_to_string(listed).expect("the list");
        let memory: Vec<_> = listed
            .lines()
            .filter(|line| line.contains("memfd:"))
            .collect();
        assert_eq!(memory.len(), 1, "{strategy}: {listed}");
        let others = listed.lines().filter(|line| {
            let known = [
                "memfd:",
                "/dev/null",
                "pipe:",
                "/dev/pts",
                "socket:",
                "/listed",
            ];
            !known.iter().any(|known| line.contains(known)) && !line.ends_with("shm-restore")
        });
        // The standard streams of the test run do not belong to the host.
        let own: Vec<_> = (0..3)
            .filter_map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok())
            .map(|path| path.display().to_string())
            .collect();
        let others: Vec<_> = others
            .filter(|line| !own.contains(&(*line).to_owned()))
            .collect();
        assert!(others.is_empty(), "{strategy}: {others:?}");
        assert!(!listed.contains("userfaultfd"), "{strategy}: {listed}");
    }
}
