//! A PostgreSQL of the tests' own: made in a temporary directory, listening on a socket there and nowhere else.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, says aloud that it was skipped, and not every program of tests needs all of it"
)]

pub(crate) mod room;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The server refuses to run as root. `nobody` and `nogroup`, as Debian has them.
const NOBODY: u32 = 65534;

/// Where a server is that has nothing but a socket of its own.
const PORT: u16 = 5432;

/// How long a loaded machine may take to start one.
const START_MAX: Duration = Duration::from_secs(120);

/// A server that ends when the program of tests does: then the shell around it reads the end of its input.
pub(crate) struct Cluster {
    directory: PathBuf,
    programs: PathBuf,
    port: u16,
    shell: Child,
    /// Those of later starts.
    again: Vec<Child>,
}

/// A server that sleeps.
pub(crate) struct Paused<'a>(&'a Cluster);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.signal("-CONT");
    }
}

static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The server of this program of tests; `None` where PostgreSQL is not installed, which is said aloud.
pub(crate) fn cluster() -> Option<&'static Cluster> {
    let found = CLUSTER.get_or_init(|| programs().map(|programs| Cluster::start(&programs, "")));
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "on CI nobody reads that this was skipped: install postgresql");
        eprintln!("!! SKIPPED, not tested: no PostgreSQL here (on Debian: apt-get install postgresql)");
    }
    found.as_ref()
}

/// Where `initdb` and `postgres` are. Debian keeps them off the path, a directory for each version.
pub(crate) fn programs() -> Option<PathBuf> {
    let mut candidates: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    candidates.extend(versions.map(|version| version.path().join("bin")));
    // A link on the path may stand there alone; what it leads to has all programs beside it.
    let homes = candidates.into_iter().filter_map(|path| path.join("initdb").canonicalize().ok());
    homes
        .filter_map(|initdb| initdb.parent().map(Path::to_owned))
        .find(|path| path.join("postgres").is_file() && path.join("psql").is_file())
}

/// `program`, as somebody who is not root.
fn unprivileged(program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

fn new_directory() -> PathBuf {
    // Not where `TMPDIR` says: the server's user has to reach it, and a socket's path has 107 bytes at most.
    let directory = tempfile::Builder::new().prefix("inborn-pg-").tempdir_in("/tmp").unwrap().keep();
    if is_root() {
        std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    directory
}

/// A shell with a server in it. SIGINT to the server is a fast shutdown. What the shell waits for never comes; it ends when we do.
fn shell(programs: &Path, directory: &Path, more: &str) -> Child {
    let script = r#""$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c max_connections=200 $3 \
        >> "$2/log" 2>&1 < /dev/null &
        server=$!
        read -r _
        kill -INT "$server"; wait "$server"; cd /; rm -rf "$2""#;
    unprivileged(Path::new("/bin/sh"))
        .args(["-c", script, "sh"])
        .arg(programs)
        .arg(directory)
        .arg(more)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A directory with what a new server has in `data`.
fn initialised(programs: &Path, more: &[&str]) -> PathBuf {
    let directory = new_directory();
    let made = unprivileged(&programs.join("initdb"))
        .arg("--pgdata")
        .arg(directory.join("data"))
        .args(["--username=inborn", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .args(more)
        .current_dir(&directory)
        .output()
        .unwrap();
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    directory
}

impl Cluster {
    /// Starts one; `more` are further arguments of the server.
    pub(crate) fn start(programs: &Path, more: &str) -> Self {
        Self::serve(programs, initialised(programs, &[]), more)
    }

    /// Serves what is in `data` in a directory.
    pub(crate) fn serve(programs: &Path, directory: PathBuf, more: &str) -> Self {
        Self::serve_at(programs, directory, PORT, more)
    }

    /// Starts one that listens at an address of this computer, too.
    pub(crate) fn listening(programs: &Path, address: Ipv4Addr, port: u16, more: &str) -> Self {
        // Of two words about one setting the server takes the later.
        let more = format!("-c listen_addresses={address} -c port={port} {more}");
        Self::serve_at(programs, initialised(programs, &[]), port, &more)
    }

    fn serve_at(programs: &Path, directory: PathBuf, port: u16, more: &str) -> Self {
        let shell = shell(programs, &directory, more);
        let cluster = Self { directory, programs: programs.to_owned(), port, shell, again: Vec::new() };
        cluster.wait();
        cluster
    }

    /// Puts a file that nobody else reads beside what the server has.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let path = self.directory.join("data").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// What the server has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap()
    }

    /// Another server with a copy of what this one has, which follows it under the name `standby`.
    pub(crate) fn standby(&self) -> Self {
        let directory = new_directory();
        let from = format!("host={} user=inborn application_name=standby", self.directory.display());
        let made = unprivileged(&self.programs.join("pg_basebackup"))
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname", &from, "--pgdata"])
            .arg(directory.join("data"))
            .current_dir(&directory)
            .output()
            .unwrap();
        assert!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
        Self::serve(&self.programs, directory, "")
    }

    /// From now on each commit waits for a standby of this name; returns when it follows.
    pub(crate) fn wait_for_standby(&self, name: &str) {
        self.set_synchronous(name);
        let follows = "SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        let begun = Instant::now();
        while self.psql("postgres", follows).1 != "1" {
            assert!(begun.elapsed() < START_MAX, "the standby does not follow");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes a standby take writes; returns when it does.
    pub(crate) fn promote(&self) {
        let data = self.directory.join("data");
        let promoted = unprivileged(&self.programs.join("pg_ctl"))
            .args(["promote", "--wait", "--pgdata"])
            .arg(data)
            .current_dir(&self.directory)
            .output()
            .unwrap();
        assert!(promoted.status.success(), "pg_ctl: {}", String::from_utf8_lossy(&promoted.stderr));
    }

    /// The process of the server.
    fn server(&self) -> String {
        let text = std::fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        text.lines().next().unwrap().trim().to_owned()
    }

    /// Sends a signal to all processes of the server.
    fn signal(&self, name: &str) {
        let server = self.server();
        let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &server]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let all: Vec<&str> = [server.as_str()].into_iter().chain(listed.split_whitespace()).collect();
        // A child may have ended by itself meanwhile.
        let _ = Command::new("kill").arg(name).args(all).stderr(Stdio::null()).status();
    }

    /// Makes the server sleep, with all who are connected, until what is given is dropped. Whoever connects is kept waiting.
    pub(crate) fn pause(&self) -> Paused<'_> {
        let paused = Paused(self);
        // First the one that makes others, so that none is made while we look.
        let stopped = Command::new("kill").args(["-STOP", &self.server()]).status().unwrap();
        assert!(stopped.success());
        self.signal("-STOP");
        paused
    }

    /// Lets no commit come to its end until [`Cluster::release_commits`]: as if the synchronous standby were gone. Reads go on.
    pub(crate) fn hold_commits(&self) {
        self.set_synchronous("nobody");
        let is_set = || self.psql("postgres", "SHOW synchronous_standby_names").1 == "nobody";
        let begun = Instant::now();
        while !is_set() {
            assert!(begun.elapsed() < START_MAX, "it does not read its settings");
            std::thread::sleep(Duration::from_millis(10));
        }
        // Each process reads them by itself: those that wait for a statement do so before it.
        std::thread::sleep(Duration::from_millis(500));
    }

    /// What was held takes effect now.
    pub(crate) fn release_commits(&self) {
        self.set_synchronous("");
    }

    fn set_synchronous(&self, names: &str) {
        for sql in [&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"), "SELECT pg_reload_conf()"] {
            let (done, said) = self.psql("postgres", sql);
            assert!(done, "{said}");
        }
    }

    /// SIGKILL to all of the server at once, as if the power went.
    pub(crate) fn kill(&self) {
        self.signal("-KILL");
        while self.answers() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again after it was killed, on what it has.
    pub(crate) fn start_again(&mut self) {
        // Its shell has not asked yet how the killed one ended, so that the process still seems to be there.
        for left in ["data/postmaster.pid", &format!(".s.PGSQL.{}.lock", self.port)] {
            let _ = std::fs::remove_file(self.directory.join(left));
        }
        self.again.push(shell(&self.programs, &self.directory, ""));
        self.wait();
    }

    /// Whether it answers.
    pub(crate) fn answers(&self) -> bool {
        self.psql("postgres", "SELECT 1").0
    }

    fn wait(&self) {
        let begun = Instant::now();
        while !self.answers() {
            let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < START_MAX, "PostgreSQL does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The URL of a database that is at either of two places.
    pub(crate) fn url_of_either(&self, other: &Self, name: &str) -> String {
        let [first, second] = [self, other].map(|cluster| cluster.directory.to_str().unwrap().replace('/', "%2F"));
        format!("postgres://inborn@{first},{second}/{name}")
    }

    /// A new, empty database; gives its URL.
    pub(crate) fn database(&self) -> String {
        self.database_with("")
    }

    /// A new database that is created with further words.
    pub(crate) fn database_with(&self, words: &str) -> String {
        let name = format!("store_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let (done, said) = self.psql("postgres", &format!("CREATE DATABASE {name} {words}"));
        assert!(done, "{said}");
        self.url(&name)
    }

    /// The URL of a database.
    pub(crate) fn url(&self, name: &str) -> String {
        let host = self.directory.to_str().unwrap().replace('/', "%2F");
        format!("postgres://inborn@{host}/{name}")
    }

    /// The socket that it listens at.
    pub(crate) fn socket(&self) -> String {
        format!("{}/.s.PGSQL.{}", self.directory.display(), self.port)
    }

    /// Runs SQL in the database of a URL as another client would; gives what was said.
    pub(crate) fn sql(&self, url: &str, sql: &str) -> String {
        let (done, said) = self.psql(url.rsplit_once('/').unwrap().1, sql);
        assert!(done, "{said}");
        said
    }

    fn psql(&self, database: &str, sql: &str) -> (bool, String) {
        let output = Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=inborn", "--host"])
            .arg(&self.directory)
            .args(["--port", &self.port.to_string()])
            .args(["--dbname", database, "--command", sql])
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
    }
}
