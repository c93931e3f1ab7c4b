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

use inborn_identity::InstanceId;
use patience::until;
use servers::{LAUNCH, Mint, REGION, Server, WHOAMI, copy_key, run, said};

/// How often an end is waited for.
const ATTEMPTS: usize = 6;
/// By when every server normally knows of it.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// The fastest counts: a machine that is busy with something else is so for some of them. A server that asked too seldom would be late for
/// the fastest, too: it has just asked, for the machine's first call, when the machine is ended.
fn must_be_seen_soon(what: &str, seen: &[Duration]) {
    let (shortest, longest) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
    eprintln!("{what} at one server was known at the other after {shortest:?} to {longest:?}");
    assert!(*shortest < SEEN_WITHIN, "{what} is known after {seen:?}");
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
    let (status, body) = b.call(&signer, "sts", WHOAMI);
    assert!(status == 200 && body.contains(&id.to_string()), "{body}");
    eprintln!("a launch at one server verified at the other: first call answered in {:?}", begun.elapsed());

    let end = |id: InstanceId| format!("Action=TerminateInstances&InstanceId.1={id}&Version=2016-11-15");
    let mut seen = Vec::new();
    for round in 0..ATTEMPTS {
        let (one, other) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let id = one.launch();
        let signer = machine(id).await;
        assert_eq!(other.call(&signer, "sts", WHOAMI).0, 200);
        assert_eq!(one.call(&one.operator, "ec2", &end(id)).0, 200);
        let begun = Instant::now();
        assert_eq!(one.call(&signer, "sts", WHOAMI).0, 403, "from the answer on");
        until("a termination is known", || (other.call(&signer, "sts", WHOAMI).0 == 403).then_some(()));
        seen.push(begun.elapsed());
    }
    must_be_seen_soon("a termination", &seen);

    let quarantine = |action: &str| format!("Action=Inborn.{action}&Subject.1={id}&Version=2016-11-15");
    let mut seen = Vec::new();
    for round in 0..ATTEMPTS {
        let (one, other) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let id = one.launch();
        let signer = machine(id).await;
        assert_eq!(other.call(&signer, "sts", WHOAMI).0, 200);
        let put = format!("Action=Inborn.PutQuarantine&Subject.1={id}&Version=2016-11-15");
        assert_eq!(one.call(&one.operator, "ec2", &put).0, 200);
        let begun = Instant::now();
        assert_eq!(one.call(&signer, "sts", WHOAMI).0, 403, "from the answer on");
        until("a quarantine is known", || (other.call(&signer, "sts", WHOAMI).0 == 403).then_some(()));
        seen.push(begun.elapsed());
    }
    must_be_seen_soon("a quarantine", &seen);
    assert_eq!(a.call(&a.operator, "ec2", &quarantine("EndQuarantine")).0, 400, "this one is in none");

    // A rotation: both verify with the new epoch, and nothing is lost by it.
    let begun = Instant::now();
    assert_eq!(a.call(&a.operator, "ec2", "Action=Inborn.RotateEpoch&Version=2016-11-15").0, 200);
    let describe = "Action=Inborn.DescribeEpochs&Version=2016-11-15";
    let is_sealing = || b.call(&b.operator, "ec2", describe).1.matches("<state>sealing</state>").count() == 2;
    until("both verify with the new epoch", || is_sealing().then_some(()));
    eprintln!("a rotation was acknowledged by two servers after {:?}", begun.elapsed());
    assert_eq!(b.call(&signer, "sts", WHOAMI).0, 200);

    // Nothing depends on one process living.
    drop(a);
    assert_eq!(b.call(&signer, "sts", WHOAMI).0, 200);
    let id = b.launch();
    assert_eq!(b.call(&machine(id).await, "sts", WHOAMI).0, 200);
    assert_eq!(b.readiness().0, 200);
    assert_eq!(b.call(&b.operator, "ec2", &end(id)).0, 200);

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
}
