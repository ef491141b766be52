//! The program `shm-fd`.

use flatspan::shm::Memfd;

use crate::inherited_fds::{InheritedFds, path_of};
use crate::programs::{clean, expect, primes, shm_fd};

/// The variables that a program gets, and the files of its descriptors from 3 on.
const SHOW: &str = "echo \"$LISTEN_FDS $LISTEN_FDNAMES ${LISTEN_PID-none} ${LISTEN_PIDFDID-none}\"
for number in 3 4 5; do readlink /proc/$$/fd/$number || echo closed; done";

#[test]
fn a_command_gets_an_empty_memfd_without_the_shrink_seal() {
    let script = format!("{SHOW}; stat -L -c %s /proc/$$/fd/3; : >> /proc/$$/fd/3");
    let said = expect(0, clean(shm_fd()).args(["sh", "-c", &script]));
    let memory = "/memfd:SHM_SHARED_FD (deleted)";
    assert_eq!(
        said,
        format!("1 SHM_SHARED_FD none none\n{memory}\nclosed\nclosed\n0\n")
    );
    // Truncation is the operation that the shrink seal of a restored memfd forbids.
    let script = "truncate -s 4096 /proc/$$/fd/3 && truncate -s 0 /proc/$$/fd/3";
    expect(0, clean(shm_fd()).args(["sh", "-c", script]));
}

#[test]
fn options_set_names_and_length() {
    let options = [
        "--memfd-name",
        "table",
        "--size",
        "1M",
        "--fd-name",
        "TABLE",
    ];
    let script = format!("{SHOW}; stat -L -c %s /proc/$$/fd/3");
    let said = expect(0, clean(shm_fd()).args(options).args(["sh", "-c", &script]));
    assert_eq!(
        said,
        "1 TABLE none none\n/memfd:table (deleted)\nclosed\nclosed\n1048576\n"
    );
}

#[test]
fn an_inherited_memfd_of_that_name_is_used_and_never_shortened() {
    let memory = Memfd::create("kept", 10_000).expect("a memfd");
    let left = || {
        let files = ["/dev/null".into(), path_of(&memory), "/dev/zero".into()];
        InheritedFds::files(files)
            .named("web:SHM_SHARED_FD:log")
            .with_own_pid()
    };
    for (size, len) in [("10", 10_000), ("20000", 20_000)] {
        let mut command = left().command(shm_fd());
        let said = expect(0, command.args(["--size", size, "sh", "-c", SHOW]));
        assert_eq!(
            said,
            "3 web:SHM_SHARED_FD:log none none\n/dev/null\n/memfd:kept (deleted)\n/dev/zero\n"
        );
        assert_eq!(memory.len().expect("a length"), len);
    }
}

#[test]
fn an_unnamed_memfd_is_used_and_an_unnamed_socket_is_passed_on() {
    let memory = Memfd::create("kept", 0).expect("a memfd");
    let left = InheritedFds::files([path_of(&memory)]).env("LISTEN_FDS", "1");
    let said = expect(0, left.command(shm_fd()).args(["sh", "-c", SHOW]));
    assert_eq!(
        said,
        "1 SHM_SHARED_FD none none\n/memfd:kept (deleted)\nclosed\nclosed\n"
    );

    let left = InheritedFds::files(["/dev/null"]).env("LISTEN_FDS", "1");
    let said = expect(0, left.command(shm_fd()).args(["sh", "-c", SHOW]));
    let memory = "/memfd:SHM_SHARED_FD (deleted)";
    assert_eq!(
        said,
        format!("2 unknown:SHM_SHARED_FD none none\n/dev/null\n{memory}\nclosed\n")
    );
}

#[test]
fn a_nested_shm_fd_passes_on_its_descriptors() {
    let said = expect(
        0,
        clean(shm_fd())
            .arg("--memfd-name")
            .arg("outer")
            .arg(shm_fd())
            .args(["sh", "-c", SHOW]),
    );
    assert_eq!(
        said,
        "1 SHM_SHARED_FD none none\n/memfd:outer (deleted)\nclosed\nclosed\n"
    );
    let said = expect(
        0,
        clean(shm_fd())
            .args(["--fd-name", "A"])
            .arg(shm_fd())
            .args(["sh", "-c", SHOW]),
    );
    assert!(
        said.starts_with("2 A:SHM_SHARED_FD none none\n/memfd:A "),
        "{said}"
    );
}

/// The descriptors are meant for an ancestor: they are neither used nor closed nor replaced.
#[test]
fn an_unannounced_descriptor_at_the_number_is_named() {
    let memory = Memfd::create("not for us", 0).expect("a memfd");
    let left = InheritedFds::files([path_of(&memory)])
        .named("SHM_SHARED_FD")
        .env("LISTEN_PID", "1");
    let said = expect(125, left.command(shm_fd()).arg("true"));
    assert!(
        said.contains("descriptor 3") && said.contains("not for us"),
        "{said}"
    );
}

#[test]
fn hostile_variables_are_errors_without_a_crash() {
    for count in ["99999999", "2147483647", "-1", "x", "", "4294967297"] {
        let left = InheritedFds::files(["/dev/null"]).env("LISTEN_FDS", count);
        let said = expect(125, left.command(shm_fd()).arg("true"));
        assert!(
            said.starts_with("shm-fd: ") && said.contains("LISTEN_FDS"),
            "{said}"
        );
    }
    let left = InheritedFds::files(["/dev/null"]).named("SHM_SHARED_FD");
    let said = expect(125, left.command(shm_fd()).arg("true"));
    assert!(
        said.contains("/dev/null") && said.contains("not a memfd"),
        "{said}"
    );
    for name in ["", "a\nb"] {
        expect(125, clean(shm_fd()).args(["--fd-name", name, "true"]));
    }
}

#[test]
fn exit_codes_are_those_of_env_and_of_the_command() {
    let said = expect(127, clean(shm_fd()).arg("/nonexistent/program"));
    assert!(said.contains("/nonexistent/program"), "{said}");
    expect(126, clean(shm_fd()).arg("/etc/passwd"));
    expect(125, &mut clean(shm_fd()));
    expect(125, clean(shm_fd()).args(["--size", "much", "true"]));
    expect(42, clean(shm_fd()).args(["sh", "-c", "exit 42"]));
    expect(0, clean(shm_fd()).arg("--help"));
    let said = expect(0, clean(shm_fd()).args(["echo", "--size", "--", "-n"]));
    assert_eq!(
        said, "--size -- -n\n",
        "arguments after COMMAND belong to the command"
    );
}

#[test]
fn a_program_continues_where_the_previous_one_ended() {
    let primes = primes();
    let script = format!("{0} --brief; {0} --brief", primes.display());
    let said = expect(0, clean(shm_fd()).args(["sh", "-c", &script]));
    assert_eq!(
        said,
        "1000 new primes, 1000 of 125000, the last is 7919\n1000 new primes, 2000 of 125000, the last is 17389\n"
    );
}
