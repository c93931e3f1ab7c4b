//! `inborn store` as a person uses it: a region is backed up while it runs, lost, and put back; the drill of docs/operations.md.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

#[path = "../../store-postgres/tests/common/mod.rs"]
mod postgres;

mod patience;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use inborn_store::conformance::fill;
use inborn_store::conformance::samples::{bare, launch};
use inborn_store::dump::digests;
use inborn_store::{SqliteSnapshot, SqliteStore, Store, StoreError};
use inborn_store_postgres::{PostgresSnapshot, PostgresStore};
use patience::until;
use serde_json::Value;

/// At most so often something is killed in the hope that it was in the middle.
const ROUNDS_MAX: u32 = 40;

fn inborn(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inborn"));
    command.env("INBORN_DATA", data).stdin(Stdio::null());
    for name in ["INBORN_CONFIG", "INBORN_STORE", "INBORN_KEY_COMMAND", "INBORN_ACCEPT_OLDER_STORE", "CI"] {
        command.env_remove(name);
    }
    command
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// Runs a command that is to succeed; gives what it said.
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

/// Runs a command that is to fail with 1; gives what it said.
fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {}", said(&output));
    said(&output)
}

/// A region that is ended with the test.
struct Up(Child);

impl Up {
    fn start(data: &Path, more: &[&str]) -> Self {
        let ready = data.join("told-ready.json");
        let _ = std::fs::remove_file(&ready);
        let child = Self::command(data).args(more).arg("--ready-file").arg(&ready).spawn().unwrap();
        let mut up = Self(child);
        until("a region is ready", || {
            assert!(up.0.try_wait().unwrap().is_none(), "it has ended");
            ready.exists().then_some(())
        });
        up
    }

    fn command(data: &Path) -> Command {
        let mut command = inborn(data);
        command.args(["up", "--port", "0", "--tls-port", "0", "--operations-port", "0", "--telemetry-days", "0"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn stop(mut self) {
        done(Command::new("kill").arg(self.0.id().to_string()));
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn private_directory(base: &Path, name: &str) -> PathBuf {
    let path = base.join(name);
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path).unwrap();
    path
}

fn machines(data: &Path) -> Vec<String> {
    let said = done(inborn(data).args(["ps", "--output", "json"]));
    let all: Value = serde_json::from_str(&said).unwrap();
    let mut names: Vec<String> =
        all.as_array().unwrap().iter().map(|machine| machine["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// What clients trust: the first certificate, which a region makes before it is ready. Others come a moment later.
fn fingerprints(data: &Path) -> Vec<String> {
    let said = done(inborn(data).arg("ca"));
    said.lines().filter(|line| line.starts_with("sha256")).take(1).map(str::to_owned).collect()
}

fn checked(data: &Path) -> (bool, Value) {
    let output = inborn(data).args(["store", "check", "--output", "json"]).output().unwrap();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert_eq!(output.status.success(), value["ok"] == Value::Bool(true));
    (output.status.success(), value)
}

fn remove_database(data: &Path) {
    for entry in std::fs::read_dir(data).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with("inborn.db") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// The drill: what was backed up comes back, on this computer and on another one; what had ended since does not go on.
#[test]
fn a_region_is_lost_and_put_back() {
    let base = tempfile::tempdir().unwrap();
    let data = private_directory(base.path(), "data");
    let file = base.path().join("region.backup");
    let backup = || {
        let mut command = inborn(&data);
        command.args(["store", "backup"]).arg(&file);
        command
    };
    let up = Up::start(&data, &[]);
    for name in ["web-1", "web-2"] {
        done(inborn(&data).args(["launch", "--name", name]));
    }
    let (is_whole, found) = checked(&data);
    assert!(is_whole, "{found}");
    assert!(found["secrets_tried"].as_u64().unwrap() >= 4, "{found}");
    assert_eq!((found["rows"]["instances"].as_u64(), found["faults"].as_array().unwrap().len()), (Some(2), 0));
    let said = done(&mut backup());
    assert!(said.contains("the key is not in it"), "{said}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert!(refused(&mut backup()).contains("--force"));
    done(backup().arg("--force"));
    let trusted = fingerprints(&data);
    assert!(!trusted.is_empty());
    // What ends after the backup is what the mark is for.
    let mark = || std::fs::read_to_string(data.join("high-water.json")).unwrap();
    let before = mark();
    done(inborn(&data).args(["terminate", "web-2"]));
    until("the end is noted", || (mark() != before).then_some(()));
    assert_eq!(machines(&data), ["web-1"]);
    let restore = |data: &Path| {
        let mut command = inborn(data);
        command.args(["store", "restore"]).arg(&file);
        command
    };
    assert!(refused(&mut restore(&data)).contains("in use"));
    assert!(
        refused(
            inborn(&data)
                .args(["store", "copy", "--to", "sqlite:/nowhere/x.db", "--from"])
                .arg(format!("sqlite:{}", data.join("inborn.db").display()))
        )
        .contains("in use")
    );
    up.stop();
    assert!(refused(&mut restore(&data)).contains("not empty"));

    remove_database(&data);
    let said = done(&mut restore(&data));
    assert!(said.contains("older than what a server has seen"), "{said}");
    let (is_whole, found) = checked(&data);
    assert!(!is_whole && found["high_water"]["is_older"] == Value::Bool(true), "{found}");
    let output = Up::command(&data).stderr(Stdio::piped()).output().unwrap();
    assert!(
        !output.status.success() && self::said(&output).contains("--accept-older-store"),
        "{}",
        self::said(&output)
    );
    let up = Up::start(&data, &["--accept-older-store"]);
    assert_eq!(machines(&data), ["web-1", "web-2"], "those that were terminated since run again");
    assert_eq!(fingerprints(&data), trusted, "clients go on trusting it");
    up.stop();
    assert!(checked(&data).0);

    // A backup that is exactly as new as what was seen here, and the same in directories that cannot know it.
    let newer = base.path().join("newer.backup");
    done(inborn(&data).args(["store", "backup"]).arg(&newer));
    let restore_newer = |data: &Path| done(inborn(data).args(["store", "restore"]).arg(&newer));
    let is_refused = |data: &Path| {
        let output = Up::command(data).stderr(Stdio::piped()).output().unwrap();
        assert!(
            !output.status.success() && self::said(&output).contains("--accept-older-store"),
            "{}",
            self::said(&output)
        );
    };
    remove_database(&data);
    assert!(restore_newer(&data).contains("exactly as new"));
    assert!(checked(&data).0);
    let twice = private_directory(base.path(), "twice");
    let standby = private_directory(base.path(), "standby");
    for other in [&twice, &standby] {
        std::fs::copy(data.join("epoch.key"), other.join("epoch.key")).unwrap();
    }
    done(&mut restore(&twice));
    remove_database(&twice);
    restore_newer(&twice);
    is_refused(&twice);
    std::fs::write(standby.join("high-water.json"), &before).unwrap();
    let said = restore_newer(&standby);
    assert!(said.contains("newer than what a server has seen"), "{said}");
    is_refused(&standby);

    // Another computer: the key and the backup are all there is.
    let other = private_directory(base.path(), "other");
    std::fs::copy(data.join("epoch.key"), other.join("epoch.key")).unwrap();
    let said = done(&mut restore(&other));
    assert!(said.contains("Nobody knows here") && said.contains("high-water.json"), "{said}");
    // Nobody has to have read it: the region knows that it went back.
    let output = Up::command(&other).stderr(Stdio::piped()).output().unwrap();
    let told = self::said(&output);
    assert!(!output.status.success() && told.contains("--accept-older-store"), "{told}");
    let up = Up::start(&other, &["--accept-older-store"]);
    assert_eq!(machines(&other), ["web-1", "web-2"]);
    assert_eq!(fingerprints(&other), trusted);
    up.stop();
    // And one without the key: it is said what is missing.
    let keyless = private_directory(base.path(), "keyless");
    done(&mut restore(&keyless));
    let output = Up::command(&keyless).arg("--accept-older-store").stderr(Stdio::piped()).output().unwrap();
    assert!(
        !output.status.success() && self::said(&output).contains("epoch.key is missing"),
        "{}",
        self::said(&output)
    );
    std::fs::copy(data.join("epoch.key"), keyless.join("epoch.key")).unwrap();
    let mut wrong = std::fs::read_to_string(keyless.join("epoch.key")).unwrap();
    let last = wrong.trim_end().len() - 1;
    wrong.replace_range(last..=last, if &wrong[last..=last] == "0" { "1" } else { "0" });
    std::fs::write(keyless.join("epoch.key"), wrong).unwrap();
    let (is_whole, found) = checked(&keyless);
    let does_not_open = |fault: &Value| fault.as_str().unwrap().contains("the key does not open");
    assert!(!is_whole && found["faults"].as_array().unwrap().iter().any(does_not_open), "{found}");
}

#[test]
fn what_is_not_there_or_not_a_backup_is_said() {
    let base = tempfile::tempdir().unwrap();
    let data = private_directory(base.path(), "data");
    let absent = format!("there is no store {}", data.join("inborn.db").display());
    for words in [&["check"][..], &["backup", "/nowhere/x"], &["migrate"], &["migrate", "--dry-run"]] {
        let said = refused(inborn(&data).arg("store").args(words));
        assert!(said.contains(&absent), "{words:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "nothing is made by looking");
    let file = base.path().join("file");
    for (content, expected) in
        [(&b"text"[..], "not a backup"), (b"inborn-store-backup 1\nshort", "ends before its end")]
    {
        std::fs::write(&file, content).unwrap();
        let said = refused(inborn(&data).args(["store", "restore"]).arg(&file));
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
    let said = refused(inborn(&data).args(["store", "check", "--store", "mysql://inborn:secret@x/y"]));
    assert!(!said.contains("secret"), "{said}");
}

/// A store of an earlier version: said, left alone by a dry run, and brought on.
#[test]
fn an_older_store_is_migrated() {
    let base = tempfile::tempdir().unwrap();
    let data = private_directory(base.path(), "data");
    let path = data.join("inborn.db");
    let sql = include_str!("../../store/tests/fixtures/schema-9.sql");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.close().unwrap();
    let known = SqliteSnapshot::known_schema();
    let (is_whole, found) = checked(&data);
    assert!(!is_whole && found["faults"][0].as_str().unwrap().contains("store migrate"), "{found}");
    assert_eq!(found["schema"]["found"], 9);
    let said = refused(inborn(&data).args(["store", "backup"]).arg(base.path().join("x")));
    assert!(said.contains("store migrate"), "{said}");
    let said = done(inborn(&data).args(["store", "migrate", "--dry-run"]));
    assert!(said.contains(&format!("would be brought from schema 9 to {known}")), "{said}");
    assert_eq!(SqliteSnapshot::open(&path).unwrap().schema(), 9);
    let said = done(inborn(&data).args(["store", "migrate"]));
    assert!(said.contains(&format!("was brought from schema 9 to {known}")), "{said}");
    assert!(done(inborn(&data).args(["store", "migrate"])).contains("already"));
    assert_eq!(SqliteSnapshot::open(&path).unwrap().schema(), known);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("UPDATE schema_version SET version = 1000").unwrap();
    connection.close().unwrap();
    for words in [&["check"][..], &["migrate"], &["migrate", "--dry-run"], &["backup", "/nowhere/x"]] {
        let said = refused(inborn(&data).arg("store").args(words));
        assert!(said.contains("use the newer program"), "{words:?}: {said}");
    }
}

/// The same of a database.
#[tokio::test]
async fn an_older_database_is_migrated() {
    let Some(cluster) = postgres::cluster() else { return };
    let base = tempfile::tempdir().unwrap();
    let data = private_directory(base.path(), "data");
    let url = cluster.database();
    cluster.sql(&url, include_str!("../../store-postgres/tests/fixtures/schema-7.sql"));
    let store = |words: &[&str]| {
        let mut command = inborn(&data);
        command.arg("store").args(words).env("INBORN_STORE", &url);
        command
    };
    let known = PostgresSnapshot::known_schema();
    let output = store(&["check", "--output", "json"]).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!output.status.success() && found["faults"][0].as_str().unwrap().contains("store migrate"), "{found}");
    assert_eq!(found["schema"]["found"], 7);
    let file = base.path().join("x");
    let said = refused(store(&["backup"]).arg(&file));
    assert!(said.contains("store migrate") && !file.exists(), "{said}");
    let said = done(&mut store(&["migrate", "--dry-run"]));
    assert!(said.contains(&format!("would be brought from schema 7 to {known}")), "{said}");
    assert_eq!(cluster.sql(&url, "SELECT version FROM schema_version"), "7");
    let said = done(&mut store(&["migrate"]));
    assert!(said.contains(&format!("was brought from schema 7 to {known}")), "{said}");
    assert_eq!(cluster.sql(&url, "SELECT version FROM schema_version"), known.to_string());
    assert!(done(&mut store(&["migrate"])).contains("already"));
    done(store(&["backup"]).arg(&file));
    let instances = digests(&mut PostgresSnapshot::open(&url).await.unwrap()).await.unwrap();
    assert_eq!(instances.iter().find(|table| table.table == "instances").unwrap().rows, 3);
    cluster.sql(&url, "UPDATE schema_version SET version = 1000, usable_from = 1000");
    for words in [&["check"][..], &["migrate"], &["migrate", "--dry-run"], &["backup", "/nowhere/x"]] {
        let said = refused(&mut store(words));
        assert!(said.contains("use the newer program"), "{words:?}: {said}");
    }
}

/// Many machines, so that there is a middle to be killed in.
async fn large(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    fill(&store).await;
    for part in 1..5 {
        store.launch(launch((0..1000).map(|number| bare(part * 10_000 + number)).collect())).await.unwrap();
    }
    store.close().await.unwrap();
}

/// Runs a command and kills it after a while; gives how long it runs when nobody does.
fn killed(mut command: Command, after: Duration) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    let _ = child.kill();
    !child.wait().unwrap().success()
}

/// SIGKILL at moments nobody chose: a backup is whole or not there, a restored store is whole or is opened by nobody.
#[tokio::test]
async fn killed_in_the_middle() {
    let base = tempfile::tempdir().unwrap();
    let data = private_directory(base.path(), "data");
    large(&data.join("inborn.db")).await;
    let expected = digests(&mut SqliteSnapshot::open(&data.join("inborn.db")).unwrap()).await.unwrap();
    let whole = base.path().join("whole.backup");
    let takes = least_of_three(|round| {
        let file = base.path().join(format!("whole-{round}.backup"));
        done(inborn(&data).args(["store", "backup"]).arg(&file));
        std::fs::rename(file, &whole).unwrap();
    });
    let bytes = std::fs::metadata(&whole).unwrap().len();
    let mut in_the_middle = 0;
    for round in 0..ROUNDS_MAX {
        if round >= 10 && in_the_middle > 2 {
            break;
        }
        let file = base.path().join(format!("{round}.backup"));
        let mut command = inborn(&data);
        command.args(["store", "backup"]).arg(&file);
        in_the_middle += u32::from(killed(command, takes * (round % 10) / 10) && !file.exists());
        if file.exists() {
            inborn_store::dump::DumpFile::open(std::fs::File::open(&file).unwrap()).unwrap();
            assert!(std::fs::metadata(&file).unwrap().len().abs_diff(bytes) < 64);
        }
    }
    assert!(in_the_middle > 2, "{in_the_middle}");

    let cluster = postgres::cluster();
    let target = private_directory(base.path(), "target");
    let takes = least_of_three(|_| {
        remove_database(&target);
        done(inborn(&target).args(["store", "restore"]).arg(&whole));
    });
    let (mut broken_off, mut refused) = (0, 0);
    let is_enough = |broken_off, refused| broken_off > 2 && (cluster.is_none() || refused > 0);
    let mut rounds = 0;
    while rounds < 9 || rounds < ROUNDS_MAX && !is_enough(broken_off, refused) {
        rounds += 1;
        let round = rounds % 10;
        remove_database(&target);
        let restore = || {
            let mut command = inborn(&target);
            command.args(["store", "restore"]).arg(&whole);
            command
        };
        killed(restore(), takes * round / 10);
        let path = target.join("inborn.db");
        if path.exists() {
            assert_eq!(digests(&mut SqliteSnapshot::open(&path).unwrap()).await.unwrap(), expected);
        } else {
            broken_off += 1;
            done(&mut restore());
        }
        let Some(cluster) = cluster else { continue };
        let url = cluster.database();
        let restore = || {
            let mut command = restore();
            command.env("INBORN_STORE", &url);
            command
        };
        killed(restore(), takes * round / 5);
        match PostgresStore::open(&url).await {
            Err(StoreError::HalfRestored) => {
                refused += 1;
                done(&mut restore());
            }
            // Before it had begun: nothing is there. Or after its end.
            Ok(store) => match store.instances(everybody()).await.unwrap().instances.len() {
                0 => drop(done(&mut restore())),
                _ => store.close().await.unwrap(),
            },
            Err(error) => panic!("{error}"),
        }
        let found = digests(&mut PostgresSnapshot::open(&url).await.unwrap()).await.unwrap();
        assert_eq!(found, expected);
    }
    eprintln!("of {rounds} restores {broken_off} broke off in a file, and {refused} in a database");
    assert!(is_enough(broken_off, refused), "{broken_off} {refused}");
}

/// How long something takes that nothing disturbs.
fn least_of_three(mut work: impl FnMut(u32)) -> Duration {
    let times = (0..3).map(|round| {
        let begun = Instant::now();
        work(round);
        begun.elapsed()
    });
    times.min().unwrap()
}

fn everybody() -> inborn_store::InstanceQuery {
    inborn_store::InstanceQuery { account: None, after: None, limit: 10 }
}

/// A region moves from a file to a database and back, and is not copied while it is served.
#[tokio::test]
async fn a_region_moves_to_another_database() {
    let Some(cluster) = postgres::cluster() else { return };
    let base = tempfile::tempdir().unwrap();
    let data = private_directory(base.path(), "data");
    let up = Up::start(&data, &[]);
    done(inborn(&data).args(["launch", "--name", "web-1"]));
    let trusted = fingerprints(&data);
    assert!(!trusted.is_empty());
    up.stop();
    let (file, url) = (format!("sqlite:{}", data.join("inborn.db").display()), cluster.database());
    let copy = |from: &str, to: &str| {
        let mut command = inborn(&data);
        command.args(["store", "copy"]).env("INBORN_FROM", from).env("INBORN_TO", to);
        command
    };
    assert!(refused(&mut copy(&file, &file)).contains("same store"));
    done(&mut copy(&file, &url));
    assert!(refused(&mut copy(&file, &url)).contains("not empty"));
    let check = done(inborn(&data).args(["store", "check"]).env("INBORN_STORE", &url));
    assert!(check.contains("it is whole") && !check.contains(&url), "{check}");

    let ready = data.join("region-ready.json");
    let server = inborn(&data)
        .args(["region", "--node", "a", "--port", "0", "--tls-port", "0", "--operations-port", "0"])
        .args(["--telemetry-days", "0", "--ready-file"])
        .arg(&ready)
        .env("INBORN_STORE", &url)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let server = Up(server);
    until("the server is ready", || ready.exists().then_some(()));
    let store = PostgresStore::open_to_read(&url).await.unwrap();
    let moved = store.instances(everybody()).await.unwrap().instances;
    assert_eq!(moved.iter().map(|machine| machine.tags["Name"].as_str()).collect::<Vec<_>>(), ["web-1"]);
    store.close().await.unwrap();
    assert_eq!(fingerprints(&data), trusted);
    let back = format!("sqlite:{}", base.path().join("back.db").display());
    let said = refused(&mut copy(&url, &back));
    assert!(said.contains("has been heard in the last"), "{said}");
    let backup = base.path().join("database.backup");
    done(inborn(&data).args(["store", "backup"]).arg(&backup).env("INBORN_STORE", &url));
    server.stop();
    // As long ago as it takes to be sure that no server runs.
    cluster.sql(&url, "UPDATE region_nodes SET beaten_at = beaten_at - 3600");
    done(&mut copy(&url, &back));
    let there = digests(&mut PostgresSnapshot::open(&url).await.unwrap()).await.unwrap();
    let here = digests(&mut SqliteSnapshot::open(&base.path().join("back.db")).unwrap()).await.unwrap();
    assert_eq!(there, here);
}
