//! Two `inborn region` processes over one PostgreSQL: what one launches the other knows, what one ends is ended, and neither
//! needs the other to live.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says how long things took"
)]

#[path = "../../store-postgres/tests/common/mod.rs"]
mod postgres;

mod calls;
mod patience;
mod servers;

use std::time::{Duration, Instant};

use calls::now;
use inborn_identity::HostId;
use inborn_store::{Beat, HostJoin, JoinToken};
use patience::until;
use servers::{LAUNCH, Mint, REGION, Server, WHOAMI, copy_key, launched, run, said};

/// How often an end of each kind is waited for.
const ATTEMPTS: usize = 6;
/// By when every server normally knows of it.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// Whoever asks later is not let in who has ended, however busy the machine: a server that has not heard for 5 s, counted from before it
/// asked, lets nobody in, if it is told to (`refuse-all`).
const LET_IN_WITHIN: Duration = Duration::from_secs(5);
/// How far ahead credentials are dated here: behind what a release has cut off, and not so far that nobody takes them.
const AHEAD_SECONDS: u64 = 600;

/// The one in the middle counts: a machine that is busy with something else is so for some of them, one that CI runs on perhaps for
/// most. A server that asked too seldom would be late for each: it has just asked, for the machine's first call, when that is ended.
fn must_be_seen_soon(what: &str, mut seen: Vec<Duration>) {
    seen.sort_unstable();
    eprintln!("{what} at one server was known at the other after {seen:?}");
    assert!(std::env::var_os("CI").is_some() || seen[seen.len() / 2] < SEEN_WITHIN, "{what} is known after {seen:?}");
}

#[tokio::test]
async fn two_servers_are_one_region() {
    let Some(cluster) = postgres::cluster() else { return };
    let url = cluster.database();
    let (of_a, of_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Server::start("a", of_a.path(), &url);
    // A server without the key is told what it lacks, and changes nothing.
    let refused = Server::refused("b", of_b.path(), &[("INBORN_STORE", &url)]);
    assert!(refused.contains("epoch.key is missing"), "{refused}");
    copy_key(of_a.path(), of_b.path());
    let b = Server::start("b", of_b.path(), &url);
    assert_eq!(a.operator.access_key_id, b.operator.access_key_id);

    // Inborn's own commands find a region server as they find `up`.
    let seen = b.launch();
    for words in [&["ps", "--output", "json"][..], &["describe", &seen.to_string(), "--output", "json"]] {
        let output = run(of_b.path(), words);
        let said = said(&output);
        assert!(output.status.success() && said.contains(&seen.to_string()), "{said}");
        assert!(said.contains("not known here"), "{said}");
    }

    let mint = Mint::open(REGION, &url, &of_a.path().join("epoch.key")).await;
    let machine = async |id| mint.machine(id).await;
    let id = a.launch();
    let signer = machine(id).await;
    let begun = Instant::now();
    let (status, body) = b.verdict(&signer);
    assert!(status == 200 && body.contains(&id.to_string()), "{body}");
    eprintln!("a launch at one server verified at the other: first call answered in {:?}", begun.elapsed());

    let quarantine = format!("Action=Inborn.EndQuarantine&Subject.1={id}&Version=2016-11-15");
    assert_eq!(a.call(&a.operator, "ec2", &quarantine).0, 400, "it is in none");

    // A rotation: both verify with the new epoch, and nothing is lost by it.
    let begun = Instant::now();
    let rotated = run(of_a.path(), &["epoch", "rotate"]);
    assert!(rotated.status.success() && rotated.stdout == b"2\n", "{}", said(&rotated));
    let describe = "Action=Inborn.DescribeEpochs&Version=2016-11-15";
    let is_sealing = || b.call(&b.operator, "ec2", describe).1.matches("<state>sealing</state>").count() == 2;
    until("both verify with the new epoch", || is_sealing().then_some(()));
    eprintln!("a rotation was acknowledged by two servers after {:?}", begun.elapsed());
    assert_eq!(b.call(&signer, "sts", WHOAMI).0, 200);
    let listed = run(of_b.path(), &["epoch", "list", "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    for (epoch, number) in listed.as_array().unwrap().iter().zip(1..) {
        assert_eq!((&epoch["epoch"], &epoch["state"]), (&number.into(), &"sealing".into()), "{listed}");
        assert_eq!(
            (&epoch["ended"], &epoch["waits_for"]),
            (&serde_json::Value::Null, &serde_json::json!([])),
            "{listed}"
        );
        assert!(epoch["created"].as_str().unwrap().ends_with('Z'), "{listed}");
        assert_eq!(epoch["seals_from"].is_string(), number > 1, "the first seals from the beginning: {listed}");
    }
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let table = said(&run(of_b.path(), &["epoch", "list"]));
    assert!(table.starts_with("EPOCH") && table.matches("sealing").count() == 2, "{table}");

    // Nothing depends on one process living.
    drop(a);
    assert_eq!(b.verdict(&signer).0, 200);
    let id = b.launch();
    assert_eq!(b.verdict(&machine(id).await).0, 200);
    assert_eq!(b.readiness().0, 200);
    let end = format!("Action=TerminateInstances&InstanceId.1={id}&Version=2016-11-15");
    assert_eq!(b.call(&b.operator, "ec2", &end).0, 200);

    // A database that is gone: who is known stays known, changes are refused, and it is said.
    let name = url.rsplit_once('/').unwrap().1;
    let elsewhere = cluster.url("postgres");
    cluster.sql(&elsewhere, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    cluster
        .sql(&elsewhere, &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"));
    until("it is stale", || b.readiness().1.contains("fleet: nothing was heard").then_some(()));
    assert_eq!(b.readiness().0, 503);
    assert_eq!(b.call(&signer, "sts", WHOAMI).0, 200);
    let (status, body) = b.call(&b.operator, "ec2", LAUNCH);
    assert!(status == 503 && body.contains("<Code>Unavailable</Code>"), "{body}");
    cluster.sql(&elsewhere, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"));
    until("it is ready again", || (b.readiness().0 == 200).then_some(()));
    b.launch();

    // One that beats by another clock holds up all epochs, and is named.
    let warning = "the clocks of the server that was asked and of c are too far apart";
    assert!(!said(&run(of_b.path(), &["epoch", "list"])).contains(warning));
    let (begun, mut beats) = (Instant::now(), 0..);
    loop {
        let at = now().minus(3600).plus(beats.next().unwrap());
        mint.store().beat(Beat { name: "c".to_owned(), at, verifies: 2, address: String::new() }).await.unwrap();
        let listed = run(of_b.path(), &["epoch", "list", "--output", "json"]);
        assert!(serde_json::from_slice::<serde_json::Value>(&listed.stdout).unwrap().is_array());
        if String::from_utf8_lossy(&listed.stderr).contains(warning) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", said(&listed));
    }
}

/// What a host has that joined by this number.
async fn host(mint: &Mint, account: &str, number: u8) -> HostId {
    let (accounts, at) = ([account.parse().unwrap()].into(), now());
    let token = JoinToken { digest: [number; 32], accounts, created_at: at, expires_at: at.plus(60) };
    mint.store().put_join_token(token).await.unwrap();
    let id = HostId::from_bytes([number; HostId::BYTES]);
    let join = HostJoin { digest: [number; 32], id, name: format!("kvm-{number}"), public_key: vec![4; 65], at };
    mint.store().join_host(join).await.unwrap();
    id
}

/// What ends somebody. Account and all come last: what is released with them is cut off for minutes ahead.
const KINDS: [&str; 6] =
    ["termination", "eviction", "quarantine", "quarantine of a host", "quarantine of an account", "quarantine of all"];

/// Whatever ends somebody at one server ends it at the other: at once at the first, within two seconds at the second, and at the worst
/// within five.
#[tokio::test]
async fn whoever_has_ended_is_let_in_nowhere() {
    let Some(cluster) = postgres::cluster() else { return };
    let url = cluster.database();
    let (of_a, of_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = [("INBORN_STORE", url.as_str()), ("INBORN_STALE", "sts=refuse-all")];
    let first = Server::start_with("a", of_a.path(), &settings);
    let mint = Mint::open(REGION, &url, &of_a.path().join("epoch.key")).await;
    let account = first.ready["account"].as_str().unwrap().to_owned();
    first.stop();
    // Hosts are read at the start: of what is written by whoever is no server, servers do not hear.
    let mut hosts = Vec::new();
    for number in 0..KINDS.len() * ATTEMPTS {
        hosts.push(host(&mint, &account, u8::try_from(number).unwrap()).await);
    }
    copy_key(of_a.path(), of_b.path());
    let a = Server::start_with("a", of_a.path(), &settings);
    let b = Server::start_with("b", of_b.path(), &settings);
    let done = |at: &Server, what: &str| {
        let (status, body) = at.operate(REGION, what);
        assert_eq!(status, 200, "{what}: {body}");
        body
    };
    for kind in KINDS {
        let mut seen = Vec::new();
        for round in 0..ATTEMPTS {
            let (one, other) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
            let host = hosts.pop().unwrap();
            let launch =
                format!("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Placement.HostId={host}");
            let id = launched(&done(one, &launch));
            let signer = mint.machine_ahead(id, AHEAD_SECONDS).await;
            for server in [one, other] {
                until("the machine is known", || (server.whoami(&signer).0 == 200).then_some(()));
            }
            let (end, begin) = match kind {
                "termination" => (format!("TerminateInstances&InstanceId.1={id}"), None),
                "eviction" => (format!("Inborn.EvictHost&HostId={host}"), None),
                _ => {
                    let subject = match kind {
                        "quarantine" => id.to_string(),
                        "quarantine of a host" => host.to_string(),
                        "quarantine of an account" => account.clone(),
                        _ => "%2A".to_owned(),
                    };
                    let of = |action| format!("Inborn.{action}Quarantine&Subject.1={subject}");
                    (of("Put"), Some(of("End")))
                }
            };
            done(one, &format!("Action={end}"));
            let begun = Instant::now();
            assert_eq!(one.verdict(&signer).0, 403, "{kind}: from the answer on");
            let known = until("an end is known", || {
                let sent = begun.elapsed();
                let status = other.whoami(&signer).0;
                assert!(status != 200 || sent <= LET_IN_WITHIN, "{kind}: let in after {sent:?}");
                (status == 403).then(|| begun.elapsed())
            });
            seen.push(known);
            if let Some(begin) = begin {
                // At the other one: it knows by the store what it may not have heard.
                done(other, &format!("Action={begin}"));
            }
        }
        must_be_seen_soon(&format!("a(n) {kind}"), seen);
    }
}
