use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const AT: Moment = Moment { now_ms: 1_000_000, boot_ms: 0 };

/// A made-up /proc.
struct Fake(tempfile::TempDir);

impl Fake {
    fn new() -> Self {
        let fake = Self(tempfile::tempdir().unwrap());
        fake.write("proc/modules", "ext4 1 2 - Live 0x0\n");
        for (table, _) in TABLES {
            fake.write(&format!("proc/{table}"), "head\n");
        }
        fake
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, name: &str, target: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    fn process(&self, pid: u32, parent: u32, exe: &str, line: &str, uid: u32, stack: u64) {
        let name = base_name(exe);
        self.write(
            &format!("proc/{pid}/stat"),
            &format!("{pid} ({name}) S {parent} 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 {pid} 1 2 3 4 5 {stack} 7\n"),
        );
        self.write(&format!("proc/{pid}/status"), &format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"));
        self.write(&format!("proc/{pid}/cmdline"), &line.replace(' ', "\0"));
        self.link(&format!("proc/{pid}/exe"), exe);
        self.link(&format!("proc/{pid}/ns/user"), "user:[1]");
        for (table, _) in TABLES {
            self.write(&format!("proc/{pid}/{table}"), "head\n");
        }
    }

    fn end(&self, pid: u32) {
        fs::remove_dir_all(self.0.path().join(format!("proc/{pid}"))).unwrap();
    }

    fn poller(&self, scope: Scope) -> Poller {
        let mut poller = Poller::new(Proc::open(self.0.path()), scope);
        assert_eq!(poller.look(Depth::Full, AT), [], "nothing is news at first");
        poller
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn tcp(local: &str, remote: &str, state: &str, inode: u64) -> String {
    format!("head\n 0: {local} {remote} {state} 0:0 0:0 0 0 0 {inode} 1\n")
}

#[test]
fn a_program_starts_and_ends() {
    let fake = Fake::new();
    fake.process(1, 0, "/sbin/init", "init", 0, 11);
    let mut poller = fake.poller(Scope::All);
    fake.process(7, 1, "/usr/bin/curl", "curl x", 0, 12);
    let seen = poller.look(Depth::Quick, AT);
    let [Event { what: What::Launched { process, .. }, .. }] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((process.pid, process.command_line.as_deref()), (7, Some("curl x")));
    assert_eq!(process.parent.as_ref().unwrap().name.as_deref(), Some("init"));
    assert_eq!(poller.look(Depth::Quick, AT), [], "it is told once");
    fake.end(7);
    let seen = poller.look(Depth::Quick, AT);
    let [Event { what: What::Ended { process, exit_code: None }, .. }] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(process.path.as_deref(), Some("/usr/bin/curl"));
}

#[test]
fn a_fork_is_no_program_until_it_starts_one() {
    let fake = Fake::new();
    fake.process(5, 0, "/bin/bash", "bash -c x", 0, 11);
    let mut poller = fake.poller(Scope::All);
    fake.process(6, 5, "/bin/bash", "bash -c x", 0, 11);
    assert_eq!(poller.look(Depth::Quick, AT), []);
    fake.process(6, 5, "/bin/bash", "bash -i", 0, 99);
    let seen = poller.look(Depth::Quick, AT);
    let [Event { what: What::Launched { process, .. }, .. }] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(process.command_line.as_deref(), Some("bash -i"), "the same file, started anew");
}

#[test]
fn a_number_that_another_process_has_got_is_another() {
    let fake = Fake::new();
    fake.process(7, 0, "/bin/a", "a", 0, 11);
    let mut poller = fake.poller(Scope::All);
    fake.write("proc/7/stat", "7 (a) S 0 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 999 1 2 3 4 5 12 7\n");
    assert_eq!(poller.look(Depth::Quick, AT).len(), 1);
}

#[test]
#[cfg(target_endian = "little")]
fn a_shell_with_a_socket_for_a_terminal() {
    let fake = Fake::new();
    fake.process(5, 0, "/bin/bash", "bash -i", 0, 11);
    fake.link("proc/5/fd/0", "/dev/pts/1");
    let mut poller = fake.poller(Scope::All);
    for fd in [0, 1, 2] {
        fake.link(&format!("proc/5/fd/{fd}"), "socket:[102]");
    }
    fake.write("proc/5/net/tcp", &tcp("0100007F:C822", "0100007F:115C", "01", 102));
    let seen = poller.look(Depth::Quick, AT);
    let [Event { what: What::Duplicated { actor, new_fd: 0, fds, remote: Some(remote), .. }, .. }] = seen.as_slice()
    else {
        panic!("{seen:?}")
    };
    assert_eq!((actor.pid, fds.as_slice(), remote.port), (5, &[0, 1, 2][..], 4444));
    assert_eq!(poller.look(Depth::Full, AT), [], "it is told once");
}

#[test]
fn one_that_was_there_before_the_sensor_is_told_too() {
    let fake = Fake::new();
    fake.process(5, 0, "/usr/bin/python3", "python3", 0, 11);
    fake.link("proc/5/fd/1", "socket:[102]");
    fake.write("proc/5/net/tcp", &tcp("0100007F:C822", "0100007F:115C", "01", 102));
    let seen = Poller::new(Proc::open(fake.path()), Scope::All).look(Depth::Full, AT);
    assert!(matches!(seen.as_slice(), [Event { what: What::Duplicated { new_fd: 1, .. }, .. }]), "{seen:?}");
}

#[test]
fn what_listens_or_is_a_file_or_of_the_same_computer_is_no_remote_end() {
    let fake = Fake::new();
    fake.process(5, 0, "/bin/bash", "bash", 0, 11);
    fake.link("proc/5/fd/0", "socket:[101]");
    fake.link("proc/5/fd/1", "socket:[555]");
    fake.link("proc/5/fd/2", "pipe:[102]");
    fake.write("proc/5/net/tcp", &tcp("0100007F:C822", "00000000:0000", "0A", 101));
    let seen = Poller::new(Proc::open(fake.path()), Scope::All).look(Depth::Full, AT);
    assert_eq!(seen, []);
}

#[test]
fn connections_and_ports_are_told_with_their_process() {
    let fake = Fake::new();
    fake.process(5, 0, "/bin/nc", "nc -l", 0, 11);
    fake.process(6, 0, "/bin/curl", "curl", 0, 12);
    let mut poller = fake.poller(Scope::All);
    fake.link("proc/5/fd/3", "socket:[101]");
    fake.link("proc/6/fd/4", "socket:[103]");
    let (listens, came, goes) = (
        tcp("00000000:1F90", "00000000:0000", "0A", 101),
        tcp("0100007F:1F90", "0100007F:C822", "01", 102),
        tcp("0100007F:C822", "0100007F:1F90", "01", 103),
    );
    let table = [&listens, came.trim_start_matches("head\n"), goes.trim_start_matches("head\n")].concat();
    fake.write("proc/net/tcp", &table);
    let seen = poller.look(Depth::Full, AT);
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(matches!(&seen[0].what, What::Listening { actor: Some(actor), .. } if actor.pid == 5));
    assert!(
        matches!(&seen[1].what, What::Connected { actor: Some(actor), direction: Direction::Outbound, .. } if actor.pid == 6)
    );
    let seen = poller.look(Depth::Full, AT);
    assert!(
        matches!(
            seen.as_slice(),
            [Event { what: What::Connected { actor: None, direction: Direction::Inbound, .. }, .. }]
        ),
        "nobody was found who has it, twice: {seen:?}"
    );
    assert_eq!(poller.look(Depth::Full, AT), []);
}

#[test]
fn users_that_change() {
    let fake = Fake::new();
    fake.process(5, 0, "/bin/x", "x", 1000, 11);
    let mut poller = fake.poller(Scope::All);
    fake.process(5, 0, "/bin/x", "x", 0, 11);
    assert_eq!(poller.look(Depth::Quick, AT), []);
    let seen = poller.look(Depth::Full, AT);
    assert!(matches!(
        seen.as_slice(),
        [Event {
            what: What::UserSet { previous_uid: Some(1000), previous_euid: Some(1000), uid: 0, euid: 0, .. },
            ..
        }]
    ));
}

#[test]
fn modules_are_told_of_a_computer_with_a_kernel_of_its_own() {
    for (scope, count) in [(Scope::All, 1), (Scope::OwnUserNamespace, 0)] {
        let fake = Fake::new();
        let mut poller = fake.poller(scope);
        fake.write("proc/modules", "ext4 1 2 - Live 0x0\nrootkit 1 0 - Live 0x0\n");
        let seen = poller.look(Depth::Full, AT);
        assert_eq!(seen.len(), count);
        assert!(seen.iter().all(|event| matches!(&event.what, What::ModuleLoaded { name, .. } if name == "rootkit")));
    }
}

#[test]
fn of_others_nothing_is_told() {
    let fake = Fake::new();
    let mut poller = fake.poller(Scope::OwnUserNamespace);
    fake.process(5, 0, "/bin/ours", "ours", 0, 11);
    fake.process(6, 0, "/bin/theirs", "theirs", 0, 12);
    fs::remove_file(fake.path().join("proc/6/ns/user")).unwrap();
    fake.process(std::process::id(), 0, "/bin/self", "self", 0, 13);
    let seen = poller.look(Depth::Full, AT);
    assert!(
        matches!(seen.as_slice(), [Event { what: What::Launched { process, .. }, .. }] if process.pid == 5),
        "{seen:?}"
    );
    fake.end(6);
    assert_eq!(poller.look(Depth::Full, AT), [], "not even that it has ended");
}

#[test]
fn who_could_not_be_looked_into_for_a_moment_is_looked_at_again() {
    let fake = Fake::new();
    let mut poller = fake.poller(Scope::OwnUserNamespace);
    fake.process(5, 0, "/bin/ours", "ours", 0, 11);
    fs::remove_file(fake.path().join("proc/5/ns/user")).unwrap();
    assert_eq!(poller.look(Depth::Quick, AT), []);
    fake.link("proc/5/ns/user", "user:[1]");
    let seen = poller.look(Depth::Quick, AT);
    assert!(
        matches!(seen.as_slice(), [Event { what: What::Launched { process, .. }, .. }] if process.pid == 5),
        "{seen:?}"
    );
    assert_eq!(poller.look(Depth::Quick, AT), [], "it is told once");
    fake.end(5);
    assert_eq!(poller.look(Depth::Quick, AT).len(), 1);
}

#[test]
fn looks_at_others_below_at_and_above_the_limit_and_anew_for_another_program() {
    for (looks, is_told) in [(FOREIGN_LOOKS_MAX - 1, true), (FOREIGN_LOOKS_MAX, false), (FOREIGN_LOOKS_MAX + 1, false)]
    {
        let fake = Fake::new();
        let mut poller = fake.poller(Scope::OwnUserNamespace);
        fake.process(5, 0, "/bin/sudo", "sudo x", 0, 11);
        fs::remove_file(fake.path().join("proc/5/ns/user")).unwrap();
        for _ in 0..=looks {
            assert_eq!(poller.look(Depth::Quick, AT), []);
        }
        fake.link("proc/5/ns/user", "user:[1]");
        assert_eq!(poller.look(Depth::Quick, AT).len(), usize::from(is_told), "{looks}");
        // Another program is looked at anew.
        fake.process(5, 0, "/bin/bash", "bash", 0, 12);
        assert_eq!(poller.look(Depth::Quick, AT).len(), 1, "{looks}");
    }
}

#[test]
fn the_connector_tells_how_a_process_ended() {
    let fake = Fake::new();
    let mut poller = fake.poller(Scope::All);
    fake.process(5, 0, "/bin/x", "x", 0, 11);
    assert_eq!(poller.hint(5, AT).len(), 1);
    assert!(matches!(poller.ended(5, 3, AT).unwrap().what, What::Ended { exit_code: Some(3), .. }));
    assert_eq!(poller.ended(5, 3, AT), None);
    fake.end(5);
    assert_eq!(poller.look(Depth::Quick, AT), [], "and it is not told twice");
}

#[test]
fn events_of_a_look_below_at_and_above_the_limit() {
    for extra in [0, 1, 2] {
        let fake = Fake::new();
        let mut poller = fake.poller(Scope::All);
        let count = EVENTS_MAX - 1 + extra;
        let modules: String = (0..count).map(|n| format!("m{n} 1\n")).collect();
        fake.write("proc/modules", &modules);
        assert_eq!(poller.look(Depth::Full, AT).len(), count.min(EVENTS_MAX));
        assert_eq!(poller.take_lost(), u64::from(extra == 2));
    }
}
