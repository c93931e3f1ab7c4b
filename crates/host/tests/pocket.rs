//! Real pockets, with this program as the parent, as the child and as the command inside.
//!
//! There is no test harness: the child must be single-threaded and the parent must spawn from its main thread. Started as
//! root, everything is done a second time as a user without powers. A kernel that forbids namespaces fails the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "a test with its own main")]

mod inside;
mod leased;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use inborn_host::pocket::{self, Network, Plan, Pocket, PocketError, Running, Sockets, dns, signals};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// The whole of the metadata service in these tests.
const ANSWER: &[u8] = b"served from outside";
const CA_BUNDLE: &str = "certificates of the pocket\n";
/// Passed to the command, and no UTF-8.
const ODD_ARGUMENT: &[u8] = b"odd \xff\n";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(OsStr::to_str) {
        Some(pocket::CHILD_ARGUMENT) => pocket::child_main(arguments),
        Some("inside") => inside::main(arguments.collect()),
        Some("keep") => keep(&arguments.collect::<Vec<_>>()),
        // What test runners ask before they run.
        Some("--list") => {
            println!("pocket: test");
            ExitCode::SUCCESS
        }
        _ => run_all(),
    }
}

fn run_all() -> ExitCode {
    let tests: [(&str, fn()); 10] = [
        ("a command in its pocket", a_command_in_its_pocket),
        ("exit codes of commands that cannot run", exit_codes_of_commands_that_cannot_run),
        ("the command dies with its parent", the_command_dies_with_its_parent),
        ("the parent dies as the command did", the_parent_dies_as_the_command_did),
        ("signals are passed on", signals_are_passed_on),
        ("what the caller ignores stays ignored", what_the_caller_ignores_stays_ignored),
        ("nothing is left behind", nothing_is_left_behind),
        ("a child that is killed is noticed", a_child_that_is_killed_is_noticed),
        ("two pockets at a time", two_pockets_at_a_time),
        ("a pocket on a lease", leased::a_pocket_on_a_lease),
    ];
    let user = rustix::process::geteuid();
    for (name, test) in tests {
        let begun = Instant::now();
        test();
        println!("test {name} (uid {}) ... ok ({} ms)", user.as_raw(), begun.elapsed().as_millis());
    }
    if user.is_root() { run_all_as_nobody() } else { ExitCode::SUCCESS }
}

/// The same program again as a user who owns nothing.
fn run_all_as_nobody() -> ExitCode {
    const NOBODY: u32 = 65534;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("pocket");
    fs::copy(this_program(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let status = Command::new(copy)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("TMPDIR")
        .status()
        .unwrap();
    assert!(status.success(), "as another user: {status}");
    ExitCode::SUCCESS
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn plan(hidden: Vec<PathBuf>) -> Plan {
    Plan {
        instance: "i-0123456789abcdef0".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        ca_bundle: CA_BUNDLE.to_owned(),
        executable: "/usr/bin/inborn".into(),
        hidden,
    }
}

fn command(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn inside_command(words: &[&str]) -> Vec<OsString> {
    let mut all = vec![this_program().into_os_string(), "inside".into()];
    all.extend(command(words));
    all
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Answers the metadata socket and the resolver until the sender is dropped.
fn serve(sockets: Sockets) -> watch::Sender<bool> {
    let (stop, stopping) = watch::channel(false);
    let zone = dns::Zone::new(&"us-east-1".parse().unwrap(), "amazonaws.com");
    let udp = tokio::net::UdpSocket::from_std(sockets.dns_udp).unwrap();
    let tcp = tokio::net::TcpListener::from_std(sockets.dns_tcp).unwrap();
    tokio::spawn(dns::serve(udp, tcp, dns::Resolver { zone, upstream: None }, stopping));
    for listener in [sockets.metadata, sockets.tls, sockets.plain] {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut greeting = [0; 5];
                stream.read_exact(&mut greeting).await.unwrap();
                stream.write_all(ANSWER).await.unwrap();
            }
        });
    }
    stop
}

async fn start(command: &[OsString], plan: &Plan) -> Result<(Running, watch::Sender<bool>), PocketError> {
    let (pocket, sockets) = Pocket::open(&this_program(), command, Network::None, None).await?;
    let serving = serve(sockets);
    Ok((pocket.go(plan).await?, serving))
}

fn run(command: &[OsString], plan: &Plan) -> Result<ExitStatus, PocketError> {
    block_on(async {
        let mut signals = signals::Signals::catch(false).unwrap();
        let (mut running, _serving) = start(command, plan).await?;
        let ending = tokio::time::timeout(Duration::from_secs(60), running.wait(&mut signals, None));
        Ok(ending.await.expect("the command ends").unwrap())
    })
}

/// What `inborn run` does: the command's output, and its end. A line with the command's process id comes first.
fn keep(command: &[OsString]) -> ExitCode {
    let status = block_on(async {
        let mut signals = signals::Signals::catch(false).unwrap();
        let (mut running, _serving) = start(command, &plan(vec![])).await.unwrap();
        println!("{}", running.pid().unwrap());
        running.wait(&mut signals, None).await.unwrap()
    });
    signals::end_like(status)
}

struct Kept {
    parent: Child,
    output: BufReader<std::process::ChildStdout>,
    command: u32,
}

/// Another process that keeps a command; the command has said "ready".
fn kept(prelude: &str, script: &str) -> Kept {
    // What whoever started the tests ignores, as `nohup` does and shells in the background do, no shell can undo.
    let mut parent = Command::new("env")
        .args(["--default-signal", "sh", "-c", &format!("{prelude} exec \"$0\" \"$@\"")])
        .arg(this_program())
        .args(["keep", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(parent.stdout.take().unwrap());
    // Parent and command write to the same pipe in either order.
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        output.read_line(line).unwrap();
    }
    let pid = lines.iter().find_map(|line| line.trim().parse().ok());
    assert!(lines.iter().any(|line| line == "ready\n"), "{lines:?}");
    Kept { parent, output, command: pid.unwrap() }
}

impl Kept {
    /// How the parent ends; a test that waits for an end that never comes would say nothing.
    fn ending(&mut self) -> ExitStatus {
        let mut ending = None;
        until("the parent ends", || {
            ending = self.parent.try_wait().unwrap();
            ending.is_some()
        });
        ending.unwrap()
    }
}

const WAIT: &str = "echo ready; while :; do sleep 0.05; done";

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process exists and is not merely waiting to be reaped.
fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn a_command_in_its_pocket() {
    let hidden = tempfile::tempdir().unwrap();
    fs::write(hidden.path().join("secret"), "for operators").unwrap();
    let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = outside.local_addr().unwrap().port().to_string();
    let user = format!("{} {}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut command = inside_command(&["check", &port, &user, hidden.path().to_str().unwrap()]);
    command.push(OsString::from_vec(ODD_ARGUMENT.to_vec()));
    let mut plan = plan(vec![hidden.path().to_owned(), "/nonexistent".into()]);
    plan.executable = this_program();
    let resolver_outside = fs::read("/etc/resolv.conf").unwrap();
    let status = run(&command, &plan).unwrap();
    assert_eq!(status.code(), Some(42), "the checks inside failed: {status}");
    assert_eq!(fs::read("/etc/resolv.conf").unwrap(), resolver_outside, "the machine's own file is untouched");
    assert!(hidden.path().join("secret").exists());
}

fn exit_codes_of_commands_that_cannot_run() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    for (words, code, text) in [
        (["inborn-no-such-command", "x"], 127, "cannot run inborn-no-such-command: No such file"),
        (["/nonexistent/command", "x"], 127, "cannot run /nonexistent/command: No such file"),
        ([plain.to_str().unwrap(), "x"], 126, "Permission denied"),
    ] {
        let error = run(&command(&words), &plan(vec![])).unwrap_err();
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    let error = run(&[], &plan(vec![])).unwrap_err();
    assert!(matches!(error, PocketError::NoCommand) && error.exit_code() == 125);
    let error =
        block_on(Pocket::open(Path::new("/nonexistent/inborn"), &command(&["true"]), Network::None, None)).unwrap_err();
    assert!(matches!(error, PocketError::Spawn(_)), "{error}");
    let error = block_on(Pocket::open(Path::new("/bin/true"), &command(&["true"]), Network::None, None)).unwrap_err();
    assert!(matches!(error, PocketError::Vanished), "{error}");
    let path = Plan { executable: "relative".into(), ..plan(vec![]) };
    assert!(matches!(run(&command(&["true"]), &path).unwrap_err(), PocketError::Path { .. }));
}

fn the_command_dies_with_its_parent() {
    let mut kept = kept("", WAIT);
    assert!(lives(kept.command));
    kept.parent.kill().unwrap();
    kept.ending();
    until("the command outlives its parent", || !lives(kept.command));
}

fn the_parent_dies_as_the_command_did() {
    for (number, signal) in [("TERM", Signal::TERM), ("KILL", Signal::KILL), ("SEGV", Signal::SEGV)] {
        let mut kept = kept("", &format!("echo ready; kill -{number} $$"));
        assert_eq!(kept.ending().signal(), Some(signal.as_raw()));
    }
    let mut kept = kept("", "echo ready; exit 7");
    assert_eq!(kept.ending().code(), Some(7));
}

fn signals_are_passed_on() {
    for name in ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "ALRM"] {
        let script = format!("trap 'echo got {name}; exit 9' {name}; {WAIT}");
        let mut kept = kept("", &script);
        let number = [("TERM", 15), ("HUP", 1), ("INT", 2), ("QUIT", 3), ("USR1", 10), ("USR2", 12), ("WINCH", 28)];
        let number = number.iter().find(|(n, _)| *n == name).map_or(14, |(_, number)| *number);
        signal(kept.parent.id(), Signal::from_named_raw(number).unwrap());
        assert_eq!(kept.ending().code(), Some(9), "{name}");
        let mut rest = String::new();
        kept.output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, format!("got {name}\n"));
    }
}

fn what_the_caller_ignores_stays_ignored() {
    let mut kept = kept("trap '' HUP;", WAIT);
    let status = fs::read_to_string(format!("/proc/{}/status", kept.command)).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0b1_0000_0000_0001, 1, "SIGHUP, and not SIGPIPE");
    signal(kept.parent.id(), Signal::HUP);
    std::thread::sleep(Duration::from_millis(100));
    assert!(lives(kept.parent.id()) && lives(kept.command));
    signal(kept.parent.id(), Signal::TERM);
    assert_eq!(kept.ending().signal(), Some(15));
}

/// The pockets' directories that belong to this process.
fn directories() -> BTreeSet<PathBuf> {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let own = format!("inborn-run-{}-", std::process::id());
    let entries = fs::read_dir(base).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().as_bytes().starts_with(own.as_bytes())).collect()
}

fn nothing_is_left_behind() {
    block_on(async {
        let (running, _serving) = start(&command(&["sleep", "60"]), &plan(vec![])).await.unwrap();
        assert_eq!(directories().len(), 1);
        let pid = running.pid().unwrap();
        drop(running);
        until("a command outlives what holds it", || !lives(pid));
        assert_eq!(directories(), BTreeSet::new());
        let (pocket, _sockets) = Pocket::open(&this_program(), &command(&["true"]), Network::None, None).await.unwrap();
        assert_eq!(directories().len(), 1);
        drop(pocket);
        assert_eq!(directories(), BTreeSet::new());
    });
}

fn a_child_that_is_killed_is_noticed() {
    block_on(async {
        let (pocket, _sockets) = Pocket::open(&this_program(), &command(&["true"]), Network::None, None).await.unwrap();
        let children = fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).unwrap();
        signal(children.split_whitespace().last().unwrap().parse().unwrap(), Signal::KILL);
        match pocket.go(&plan(vec![])).await {
            Ok(mut running) => {
                let mut signals = signals::Signals::catch(false).unwrap();
                assert_eq!(running.wait(&mut signals, None).await.unwrap().signal(), Some(9));
            }
            Err(error) => assert!(matches!(error, PocketError::Passing(_)), "{error}"),
        }
    });
}

fn two_pockets_at_a_time() {
    block_on(async {
        let check = inside_command(&["metadata"]);
        let mut signals = signals::Signals::catch(false).unwrap();
        let (mut one, _serving_one) = start(&check, &plan(vec![])).await.unwrap();
        let (mut other, _serving_other) = start(&check, &plan(vec![])).await.unwrap();
        for running in [&mut one, &mut other] {
            assert_eq!(running.wait(&mut signals, None).await.unwrap().code(), Some(42));
        }
    });
}
