//! `inborn doctor` beside region servers and hosts: each defect is found, comes with what to do, and no secret is told.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

#[path = "../../store-postgres/tests/common/mod.rs"]
mod postgres;

mod calls;
mod hosts;
mod patience;
mod servers;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hosts::Host;
use patience::until;
use serde_json::Value;
use servers::{Server, copy_key};

/// In the URL of the database, as a password: whoever is let in without one is let in with any.
const PASSWORD: &str = "correct-horse-battery";

/// What it found, by check.
struct Told(BTreeMap<String, Value>);

impl Told {
    fn verdict(&self, check: &str) -> &str {
        self.0.get(check).map_or("absent", |found| found["verdict"].as_str().unwrap())
    }

    fn says(&self, check: &str) -> String {
        let found = &self.0[check];
        format!("{} → {}", found["found"].as_str().unwrap(), found["next"].as_str().unwrap())
    }

    /// Fails unless all of these are as they should be.
    fn fine(&self, checks: &[&str]) {
        for check in checks {
            assert_eq!(self.verdict(check), "ok", "{check}: {:?}", self.0);
        }
    }

    /// Fails unless this is such a finding, with these words in it.
    fn found(&self, check: &str, verdict: &str, words: &[&str]) {
        assert_eq!(self.verdict(check), verdict, "{check}: {:?}", self.0);
        let said = self.says(check);
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
    }
}

/// Runs it; its exit status, its count and its findings say the same.
fn told(mut command: Command) -> Told {
    let output = command.args(["doctor", "--output", "json"]).output().unwrap();
    let said = servers::said(&output);
    assert!(!said.contains(PASSWORD), "{said}");
    assert!(output.stderr.is_empty(), "{said}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = document["checks"].as_array().unwrap();
    let of = |check: &Value| (check["check"].as_str().unwrap().to_owned(), check.clone());
    let found = Told(checks.iter().map(of).collect());
    assert_eq!(found.0.len(), checks.len(), "no check is there twice: {said}");
    let problems = checks.iter().filter(|check| check["verdict"] == "problem").count();
    assert_eq!(document["problems"], problems);
    assert_eq!(output.status.code(), Some(i32::from(problems > 0)), "{said}");
    for check in checks {
        assert_eq!(check["verdict"] == "ok", check["next"] == "", "what is not well has something to do: {check}");
    }
    found
}

/// Of a region server, with these variables.
fn of_server(data: &Path, variables: &[(&str, &str)]) -> Told {
    let mut command = servers::inborn(data);
    command.envs(variables.iter().copied());
    told(command)
}

fn of_host(host: &Host) -> Told {
    let mut command = hosts::inborn(&[]);
    command.env("INBORN_DATA", host.data());
    told(command)
}

const WELL: [&str; 10] = [
    "data directory",
    "key file",
    "file modes",
    "file owners",
    "audit",
    "store",
    "epochs",
    "key and store",
    "running",
    "ports",
];

#[tokio::test]
async fn region_servers_over_a_database() {
    let Some(cluster) = postgres::cluster() else { return };
    let plain = cluster.database();
    let url = plain.replacen("inborn@", &format!("inborn:{PASSWORD}@"), 1);
    assert_ne!(plain, url);
    let base = tempfile::tempdir().unwrap();
    let (of_a, of_b) = (base.path().join("a"), base.path().join("b"));
    let settings = [("INBORN_STORE", url.as_str()), ("INBORN_ADVERTISE", "127.0.0.1")];
    // Before its first start: an empty database, no directory.
    let fresh = of_server(
        &of_a,
        &[settings[0], ("INBORN_PORT", "0"), ("INBORN_TLS_PORT", "0"), ("INBORN_OPERATIONS_PORT", "0")],
    );
    fresh.found("store", "hint", &["empty", "inborn region"]);
    fresh.found("data directory", "hint", &["`inborn region` makes it"]);
    assert!(!of_a.exists(), "it changes nothing");

    let a = Server::start_with("a", &of_a, &settings);
    copy_key(&of_a, &of_b);
    // A key was copied and the server never started: it is a server's directory, whose store nobody names.
    of_server(&of_b, &[]).found("settings", "problem", &["store: none is named", "INBORN_STORE"]);
    let b = Server::start_with("b", &of_b, &settings);
    let well = until("both have said where they are", || {
        let told = of_server(&of_a, &settings);
        told.says("addresses").contains("2 reached").then_some(told)
    });
    well.fine(&WELL);
    well.fine(&["servers", "clocks", "addresses"]);
    assert!(well.says("servers").contains("2 beat: a, b"), "{}", well.says("servers"));
    well.found("balancers", "hint", &["no balancer is named", "--proxy-protocol-from"]);
    let named = [settings[0], settings[1], ("INBORN_PROXY_PROTOCOL_FROM", "10.0.0.8")];
    of_server(&of_a, &named).found("balancers", "ok", &["10.0.0.8/32: what connects from there"]);
    assert!(well.says("data directory").contains("that of `inborn region`"));
    assert_eq!(well.verdict("pockets"), "absent", "nobody runs pockets on a region server");

    // Settings and variables as a unit has them; what stands there of a server is no reason to fail.
    let (config, variables) = (base.path().join("region.toml"), base.path().join("region.env"));
    std::fs::write(&config, "node = \"a\"\nadvertise = \"127.0.0.1\"\n[stale]\nsts = \"refuse-all\"\n").unwrap();
    std::fs::write(&variables, format!("# the store\nINBORN_STORE=\"{url}\"\n")).unwrap();
    let mut command = servers::inborn(&of_a);
    command.env("INBORN_CONFIG", &config);
    let without = told(command);
    without.found("settings", "hint", &["store: none is named"]);
    let run = |more: &[&str]| {
        let mut command = servers::inborn(&of_a);
        command.args(["doctor", "--output", "json", "--config"]).arg(&config).arg("--env-file").arg(&variables);
        let output = command.args(more).output().unwrap();
        let said = servers::said(&output);
        assert!(!said.contains(PASSWORD), "{said}");
        said
    };
    let said = run(&[]);
    assert!(said.contains("2 beat: a, b") && !said.contains("none is named"), "{said}");
    let said = run(&["--store", "postgres://inborn:correct-horse-battery@127.0.0.1:1/none?connect_timeout=1"]);
    assert!(said.contains("the database is not available"), "{said}");

    // A server that is gone is missed, and a database that takes no writes is told apart from one that is away.
    drop(b);
    until("b is missed", || {
        let told = of_server(&of_a, &settings);
        (told.verdict("servers") == "hint").then(|| told.found("servers", "hint", &["1 beat: a", "b since"]))
    });
    // By way of another database, which goes on taking writes.
    let say = |what: &str| {
        cluster.sql(&cluster.url("postgres"), &format!("ALTER DATABASE {} {what}", name_of(&plain)));
    };
    say("SET default_transaction_read_only = on");
    of_server(&of_b, &settings).found("store", "problem", &["can be read, and not be written"]);
    say("RESET default_transaction_read_only");

    // Another region's key.
    let other = tempfile::tempdir().unwrap();
    let elsewhere = Server::start("x", other.path(), &cluster.database());
    drop(elsewhere);
    std::fs::copy(other.path().join("epoch.key"), of_b.join("epoch.key")).unwrap();
    let told = of_server(&of_b, &settings);
    told.fine(&["key file", "store"]);
    told.found("key and store", "problem", &["does not open", "epoch.key from a server that runs"]);
    std::fs::remove_file(of_b.join("epoch.key")).unwrap();
    of_server(&of_b, &settings).found("key file", "problem", &["missing", "another server"]);
    // A program of the future was here.
    cluster.sql(&plain, "UPDATE schema_version SET version = version + 1, usable_from = version + 1");
    of_server(&of_b, &settings).found("store", "problem", &["newer program"]);
    drop(a);
}

fn name_of(url: &str) -> &str {
    url.rsplit_once('/').unwrap().1
}

#[test]
fn a_region_server_over_a_file() {
    let base = tempfile::tempdir().unwrap();
    let data = base.path().join("data");
    let url = format!("sqlite:{}", base.path().join("store.db").display());
    let server = Server::start("a", &data, &url);
    let told = of_server(&data, &[("INBORN_STORE", &url)]);
    told.fine(&WELL);
    told.fine(&["servers", "clocks", "balancers"]);
    server.stop();
    // Stopped, it is known by what is in its directory.
    of_server(&data, &[]).found("settings", "problem", &["store: none is named"]);
    let ports = [("INBORN_PORT", "0"), ("INBORN_TLS_PORT", "0"), ("INBORN_OPERATIONS_PORT", "0")];
    let told = of_server(&data, &[&[("INBORN_STORE", url.as_str())][..], &ports].concat());
    told.fine(&["store", "epochs", "key and store", "ports"]);
    told.found("running", "hint", &["no `inborn region` runs", "inborn-region"]);
    // Put back from an older copy: it is older than what was seen.
    let seen = data.join("high-water.json");
    let mut mark: Value = serde_json::from_slice(&std::fs::read(&seen).unwrap()).unwrap();
    mark["count"] = (mark["count"].as_u64().unwrap() + 1).into();
    std::fs::write(&seen, mark.to_string()).unwrap();
    of_server(&data, &[("INBORN_STORE", &url)]).found("store", "problem", &["older", "--accept-older-store"]);
}

#[test]
fn hosts_apart_from_their_region() {
    let mut region = hosts::Region::start();
    let mut host = Host::start(&region);
    let id = region.launch_on(&host.id);
    host.attach(&id.to_string());
    until("all is served and kept", || {
        let told = of_host(&host);
        (told.verdict("running") == "ok" && told.verdict("cache") == "ok").then(|| {
            told.fine(&["data directory", "file modes", "file owners", "host", "certificate", "region", "clocks"]);
            assert!(told.says("running").contains("serves 1 machines"), "{}", told.says("running"));
            assert!(told.says("certificate").contains("days left"));
            for absent in ["store", "key file", "audit", "pockets", "settings", "trust"] {
                assert_eq!(told.verdict(absent), "absent");
            }
        })
    });

    region.go_away();
    until("the host notices", || {
        let told = of_host(&host);
        (told.verdict("running") == "hint").then(|| told.found("region", "problem", &["not reached", "--hosts-port"]))
    });
    region.come_back();

    // A region of another authority is where this one was.
    host.go_away();
    let written = host.data().join("host.json");
    let good = std::fs::read_to_string(&written).unwrap();
    let mut document: Value = serde_json::from_str(&good).unwrap();
    document["authority"] = "0".repeat(64).into();
    put(&written, &document.to_string());
    let told = of_host(&host);
    told.found("running", "hint", &["no `inborn host` runs", "inborn-host"]);
    told.found("region", "problem", &["authority"]);
    put(&written, &good);

    // What was kept cannot be opened, or the key is for others to read.
    let cache = host.data().join("cache.sealed");
    let kept = std::fs::read(&cache).unwrap();
    std::fs::write(&cache, &kept[..kept.len() - 1]).unwrap();
    of_host(&host).found("cache", "problem", &["cache.sealed", "remove"]);
    std::fs::write(&cache, &kept).unwrap();
    let key = host.data().join("host.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let told = of_host(&host);
    told.found("file modes", "problem", &["host.key", "can be this host", "chmod 600"]);
    told.found("host", "problem", &["chmod 600"]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    of_host(&host).fine(&["host", "certificate", "region", "cache", "file modes"]);

    // Cut off: first its region says so, then it knows.
    region.operate(&format!("Action=Inborn.EvictHost&HostId={}", host.id));
    of_host(&host).found("region", "problem", &["evicted", "inborn host join"]);
    host.come_back();
    host.ended();
    of_host(&host).found("host", "problem", &["cut off", "inborn host token"]);
}

fn put(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
