//! State that survives the restart of its service: the units of docs/systemd.md, with a replacement
//! for the service manager.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flatspan::shm::{Memfd, SHARED_FD_NAME};
use rustix::process::{Pid, Signal, kill_process};

use crate::client;
use crate::freeze_mode::kill_tree;
use crate::inherited_fds::path_of;
use crate::manager::{Killed, Manager};
use crate::primes::count_checked;
use crate::programs::{primes, said, shm_fd};
use crate::states::{directory, newest};

fn kept(manager: &Manager) -> Memfd {
    let kept = manager.kept(SHARED_FD_NAME);
    assert_eq!(kept.len(), 1, "one memfd, stored once");
    Memfd::from_fd(kept[0].try_clone_to_owned().expect("another file")).expect("a memfd")
}

fn inode(memory: &Memfd) -> u64 {
    fs::metadata(path_of(memory)).expect("open").ino()
}

/// From the first unit of docs/systemd.md, with the built programs.
fn exec_start() -> [String; 3] {
    let text = include_str!("../../docs/systemd.md");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let words: Vec<&str> = line.expect("a unit").split(' ').collect();
    assert_eq!(
        words,
        ["/usr/local/bin/shm-fd", "/usr/local/bin/primes", "--brief"]
    );
    let built = |path: &Path| path.display().to_string();
    [built(shm_fd()), built(&primes()), words[2].to_owned()]
}

fn survives_restarts(mut manager: Manager) {
    let line = exec_start();
    let [program, primes, brief] = line.each_ref().map(String::as_str);
    let program = Path::new(program);
    let output = manager.run(program, &[primes, brief]);
    assert_eq!(
        said(&output),
        "1000 new primes, 1000 of 125000, the last is 7919\n"
    );
    // The memfd was stored, and the host waited for the confirmation, before the program ran.
    assert_eq!(
        manager.heard,
        ["FDSTORE=1\nFDNAME=SHM_SHARED_FD\nFDPOLL=0", "BARRIER=1"]
    );
    let first = inode(&kept(&manager));

    // No process of the service exists at this point; the memfd does.
    let output = manager.run(program, &[primes, brief]);
    assert_eq!(
        said(&output),
        "1000 new primes, 2000 of 125000, the last is 17389\n"
    );
    assert_eq!(manager.heard.len(), 2, "the memfd is stored already");

    // Killed in the middle.
    let memory = kept(&manager);
    let table = memory.map(0..1_000_000).expect("a table");
    let service = Killed(manager.start(program, &[primes, brief, "--pause", "500"]));
    manager.hear_until(|_| table.load(2100) != Some(0));
    drop(service);
    let before = count_checked(&memory);
    assert!(before > 2100);
    let output = manager.run(program, &[primes, brief]);
    assert!(
        said(&output).starts_with(&format!("1000 new primes, {} of", before + 1000)),
        "{output:?}"
    );
    assert_eq!(count_checked(&kept(&manager)), before + 1000);
    assert_eq!(
        inode(&kept(&manager)),
        first,
        "the same memfd, never copied"
    );
}

#[test]
fn state_survives_service_restarts_with_a_path_socket() {
    survives_restarts(Manager::on_a_path());
}

#[test]
fn state_survives_service_restarts_with_an_abstract_socket() {
    survives_restarts(Manager::on_an_abstract_name());
}

/// Otherwise the memfd would not be kept, without any report of it.
#[test]
fn an_unreachable_manager_is_an_error() {
    let manager = Manager::on_a_path();
    let mut command = crate::programs::clean(shm_fd());
    crate::manager::set_notify_socket(&mut command, &manager);
    drop(manager);
    let said = crate::programs::expect(125, command.arg("true"));
    assert!(said.contains("service manager"), "{said}");
}

/// The last unit of docs/systemd.md, with the built programs and a shell script as the program.
struct Service {
    directory: tempfile::TempDir,
}

impl Service {
    fn store(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn start(&self, manager: &Manager, script: &str) -> Killed {
        let text = include_str!("../../docs/systemd.md");
        let line = text
            .lines()
            .filter_map(|line| line.strip_prefix("ExecStart="))
            .next_back();
        let shown = |path: &Path| path.display().to_string();
        let mut words = vec!["WATCHDOG_USEC=500000".to_owned()];
        for word in line.expect("a unit").split(' ') {
            match word {
                "/usr/local/bin/shm-fd" => words.push(shown(shm_fd())),
                "/usr/local/bin/shm-restore" => {
                    words.push(env!("CARGO_BIN_EXE_shm-restore").to_owned());
                }
                "/var/lib/service/state" => words.push(shown(&self.store())),
                "/usr/local/bin/service" => {
                    words.extend(["sh", "-c", script].map(str::to_owned));
                }
                other => {
                    assert!(!other.starts_with('/'), "{other}");
                    words.push(other.to_owned());
                }
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Killed(manager.start(Path::new("env"), &words))
    }

    /// A program that fills the memfd when it is asked to end, and works until then.
    fn at_work(&self, byte: u8) -> String {
        format!(
            "trap '{}; exit 0' TERM; {}; while [ -e {} ]; do sleep 0.02; done",
            client::words(&format!("fill {byte} 8192")).replace('\'', "\""),
            client::words("fill 9 8192"),
            self.directory.path().display()
        )
    }

    fn state(&self) -> u8 {
        let state = newest(&self.store());
        assert!(state.len() == 8192 && state.iter().all(|byte| *byte == state[0]));
        state[0]
    }
}

fn ended(manager: &mut Manager, service: &mut Killed) -> Option<i32> {
    let mut status = None;
    manager.hear_until(|_| {
        status = service.0.try_wait().expect("its status");
        status.is_some()
    });
    while manager.hear() {}
    status.and_then(|status| status.code())
}

fn heard(manager: &Manager, what: &str) -> bool {
    manager.heard.iter().any(|heard| heard == what)
}

fn count_of(memory: &Memfd) -> u8 {
    let map = memory.map(0..8192).expect("a memory");
    map.load(1000).expect("a word").to_ne_bytes()[0]
}

#[test]
fn a_service_with_a_store_survives_restarts_crashes_and_reboots() {
    let service = Service {
        directory: directory(),
    };
    let mut manager = Manager::on_a_path();
    let mut running = service.start(&manager, &service.at_work(1));
    manager.hear_until(|manager| heard(manager, "WATCHDOG=1"));
    // The memfd is stored before the program gets it, and is ready when the program runs.
    let first = [
        "FDSTORE=1\nFDNAME=SHM_SHARED_FD\nFDPOLL=0",
        "BARRIER=1",
        "READY=1",
    ];
    assert_eq!(manager.heard[..3], first);
    let own = Pid::from_child(&running.0);
    let memory = kept(&manager);
    manager.hear_until(|_| memory.len().is_ok_and(|len| len == 8192) && count_of(&memory) == 9);
    kill_process(own, Signal::TERM).expect("a signal");
    assert_eq!(ended(&mut manager, &mut running), Some(0));
    assert_eq!(service.state(), 1);
    assert!(heard(&manager, "STOPPING=1"));
    assert!(
        manager
            .heard
            .last()
            .expect("a status")
            .starts_with("STATUS=generation")
    );

    // A restart: the same memfd, unchanged.
    assert_eq!(count_of(&memory), 1);
    manager.heard.clear();
    let fill = |byte| client::words(&format!("fill {byte} 8192"));
    let mut running = service.start(&manager, &format!("{}; exit 3", fill(2)));
    assert_eq!(ended(&mut manager, &mut running), Some(3));
    assert_eq!(manager.heard[0], "READY=1", "the memfd is stored already");
    assert_eq!(
        (service.state(), inode(&kept(&manager))),
        (2, inode(&memory))
    );

    // A crash of the program, then of all processes: the last snapshot is restored into the same
    // memfd.
    let mut running = service.start(&manager, &format!("{}; kill -SEGV $$", fill(3)));
    assert_eq!(ended(&mut manager, &mut running), Some(128 + 11));
    assert_eq!(count_of(&memory), 3);
    let mut running = service.start(&manager, &service.at_work(5));
    manager.hear_until(|_| count_of(&memory) == 9);
    kill_tree(&mut running.0);
    let mut running = service.start(&manager, "true");
    assert_eq!(ended(&mut manager, &mut running), Some(0));
    assert_eq!((service.state(), count_of(&memory)), (2, 2));
    let inside = service.store().read_dir().expect("a directory").flatten();
    let saved = inside.filter(|file| file.file_name().to_string_lossy().starts_with("crash-"));
    assert_eq!(saved.count(), 2, "crash files are kept");

    // The machine reboots.
    let mut manager = Manager::on_an_abstract_name();
    let mut running = service.start(&manager, "true");
    assert_eq!(ended(&mut manager, &mut running), Some(0));
    assert_eq!(manager.heard[..3], first);
    assert_eq!((service.state(), count_of(&kept(&manager))), (2, 2));
}
