//! A region server and a PostgreSQL that is full, asleep, read-only, replaced (also while it is still there), sealed anew under another key
//! beneath it, or lost and put back.
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

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hosts::{Host, between, credential};
use patience::until;
use postgres::Cluster;
use postgres::room::{Little, LittleRoom};
use serde_json::Value;
use servers::{LAUNCH, Mint, REGION, Server, copy_key, launched, run, said};

/// Longer than a server may not have heard.
const STALE: Duration = Duration::from_secs(7);
/// Shorter than it may not have heard to let anybody in.
const LAPSED: Duration = Duration::from_secs(13);
/// When a server lets nobody in that was acknowledged no beat, at the latest: fifteen seconds, and what a loaded machine takes to ask.
const LAPSES_WITHIN: Duration = Duration::from_secs(25);
/// Longer than a server takes to count and to note what has ended: it looks once a second.
const COUNTED_WITHIN: Duration = Duration::from_millis(2500);
/// How often the machine of the tests may be so slow that it comes too late to see what is between the two.
const LATE_MAX: u32 = 5;

fn key_file(data: &Path) -> std::path::PathBuf {
    data.join("epoch.key")
}

/// While its database has no room, a region refuses what needs some, and does all else; with room it goes on as it is.
#[tokio::test]
async fn a_full_database_ends_nothing_but_changes() {
    let Some(_) = postgres::cluster() else { return };
    let Some(database) = LittleRoom::start(&postgres::programs().unwrap(), Little::Tables) else { return };
    let url = database.database();
    let data = tempfile::tempdir().unwrap();
    let server = Server::start("a", data.path(), &url);
    let mint = Mint::open(REGION, &url, &key_file(data.path())).await;
    let id = server.launch();
    let machine = mint.machine(id).await;
    database.fill();
    let (status, body) = until("there is no room", || {
        Some(server.call(&server.operator, "ec2", LAUNCH)).filter(|(status, _)| *status != 200)
    });
    assert!(status == 503 && body.contains("<Code>InsufficientInstanceCapacity</Code>"), "{status} {body}");
    assert!(body.contains("full"), "it says why: {body}");
    std::thread::sleep(STALE);
    assert_eq!(server.whoami(&machine).0, 200);
    let (status, body) = server.operate(REGION, "Action=DescribeInstances");
    assert!(status == 200 && body.contains(&id.to_string()), "{body}");
    until("it hears all the while", || (!server.readiness().1.contains("fleet")).then_some(()));

    database.make_room();
    let launched = server.launch();
    assert_eq!(server.whoami(&mint.machine(launched).await).0, 200);
    assert_eq!(server.operate(REGION, &format!("Action=TerminateInstances&InstanceId.1={id}")).0, 200);
    assert_eq!(server.whoami(&machine).0, 403);
    until("it is ready", || (server.readiness().0 == 200).then_some(()));
}

/// A PostgreSQL that does not answer at all (it sleeps, as under a disk that hangs): the server says why, refuses changes at once, serves
/// who asks who he is until it may not know the epochs any more, and goes on by itself. One that takes no writes is read on.
#[tokio::test]
async fn a_database_that_sleeps_or_takes_no_writes_is_waited_for() {
    let Some(_) = postgres::cluster() else { return };
    let cluster = Cluster::start(&postgres::programs().unwrap(), "");
    let url = cluster.database();
    let data = tempfile::tempdir().unwrap();
    let server = Server::start("a", data.path(), &url);
    let mint = Mint::open(REGION, &url, &key_file(data.path())).await;
    let id = server.launch();
    let machine = mint.machine(id).await;
    assert_eq!(server.whoami(&machine).0, 200);
    let end = format!("Action=TerminateInstances&InstanceId.1={id}");
    let is_there = |id: &str| {
        let (status, body) = server.operate(REGION, "Action=DescribeInstances");
        assert_eq!(status, 200, "{body}");
        body.contains(id)
    };

    let asleep = |round: u32| {
        let begun = Instant::now();
        let paused = cluster.pause();
        let is_late = std::thread::scope(|scope| {
            // It was asked for before anybody could know.
            let before = scope.spawn(|| server.call(&server.operator, "ec2", LAUNCH));
            std::thread::sleep(STALE);
            let (status, _) = server.whoami(&machine);
            let is_late = begun.elapsed() > LAPSED;
            assert!(status == 200 || is_late && round < LATE_MAX, "{status}");
            for change in [LAUNCH, &end] {
                let (status, body) = server.operate(REGION, change);
                assert!(status == 503 && body.contains("<Code>Unavailable</Code>"), "{change}: {status} {body}");
            }
            let said = until("it says why", || Some(server.readiness()).filter(|(_, said)| said.contains("fleet:")));
            assert!(said.0 == 503 && said.1.contains("nothing was heard for"), "{said:?}");
            assert!(said.1.contains("store: "), "{said:?}");
            until("it lets nobody in", || (server.whoami(&machine).0 == 503).then_some(()));
            drop(paused);
            let (status, body) = before.join().unwrap();
            // The store says which: 503, it has not happened; 500, it may have.
            match status {
                200 => assert!(is_there(&servers::launched(&body).to_string()), "{body}"),
                status => assert!(status == 500 || status == 503, "{status} {body}"),
            }
            is_late
        });
        until("it is ready", || (server.readiness().0 == 200).then_some(()));
        assert_eq!(server.whoami(&machine).0, 200);
        !is_late
    };
    assert!((1..=LATE_MAX).any(asleep));
    let launched = server.launch();
    assert_eq!(server.whoami(&mint.machine(launched).await).0, 200);

    let say = |what: &str| {
        cluster.sql(&url, &format!("ALTER SYSTEM {what}"));
        cluster.sql(&url, "SELECT pg_reload_conf()");
    };
    say("SET default_transaction_read_only = on");
    let (status, body) = until("it takes no writes", || {
        Some(server.call(&server.operator, "ec2", LAUNCH)).filter(|(status, _)| *status != 200)
    });
    assert!(status == 503 && body.contains("<Code>Unavailable</Code>"), "{status} {body}");
    std::thread::sleep(STALE);
    assert_eq!(server.whoami(&machine).0, 200);
    let (status, body) = server.operate(REGION, &end);
    assert_eq!(status, 503, "{body}");
    assert!(is_there(&id.to_string()));
    until("it says why", || server.readiness().1.contains("read-only transaction").then_some(()));
    until("it hears all the while", || (!server.readiness().1.contains("fleet")).then_some(()));

    say("RESET default_transaction_read_only");
    until("it is ready", || (server.readiness().0 == 200).then_some(()));
    server.launch();
    assert_eq!(server.operate(REGION, &end).0, 200);
    assert_eq!(server.whoami(&machine).0, 403);
}

/// A primary that was replaced comes back and is named first. A server that is started then finds out by what it was answered before, and
/// neither reads there nor writes. If it is the one that is to be used after all, nothing that was issued before is good there.
#[tokio::test]
async fn a_server_that_is_started_knows_an_old_primary() {
    let Some(_) = postgres::cluster() else { return };
    let mut primary = Cluster::start(&postgres::programs().unwrap(), "");
    let url = primary.database();
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    let standby = primary.standby();
    let either = primary.url_of_either(&standby, &name);
    let settings = [("INBORN_STORE", either.as_str())];
    let (of_a, of_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (of_a, of_b) = (of_a.path(), of_b.path());
    let a = Server::start_with("a", of_a, &settings);
    let id = a.launch();
    let machine = Mint::open(REGION, &url, &key_file(of_a)).await.machine(id).await;
    let noted = || serde_json::from_slice::<Value>(&std::fs::read(of_a.join("high-water.json")).unwrap()).unwrap();
    let has_all = "SELECT COUNT(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()";
    until("the standby has all", || (primary.sql(&url, has_all) == "1").then_some(()));
    let known: u64 = primary.sql(&url, "SELECT MAX(beats) FROM region_nodes").parse().unwrap();
    primary.kill();
    standby.promote();
    until("it goes on", || (a.call(&a.operator, "ec2", LAUNCH).0 == 200).then_some(()));
    // Twenty beats, and those that the primary was told after it was asked, are not enough to tell.
    until("it has noted what it was answered", || (noted()["fence"]["beats"].as_u64()? > known + 40).then_some(()));
    drop(a);

    primary.start_again();
    let mark = primary.sql(&url, "SELECT CONVERT_FROM(value, 'UTF8') FROM settings WHERE name = 'high-water'");
    let mark: Value = serde_json::from_str(&mark).unwrap();
    assert_eq!((&mark["history"], &mark["count"]), (&noted()["history"], &noted()["count"]), "nothing has ended since");
    let nodes = || primary.sql(&url, "SELECT COUNT(*) FROM region_nodes");
    let before = nodes();
    let refused = Server::refused("a", of_a, &settings);
    for text in ["does not know what it has answered", "keep it off", "--accept-older-store"] {
        assert!(refused.contains(text), "{text}: {refused}");
    }
    assert_eq!(nodes(), before, "it did not hear of the server");
    // Who looks at it before a start is told so too.
    let check = |more: &[&str]| run(of_a, &[&["store", "check", "--store", either.as_str()], more].concat());
    let (found, shown) = (check(&[]), check(&["--output", "json"]));
    assert_eq!((found.status.code(), shown.status.code()), (Some(1), Some(1)), "{}", said(&found));
    let found = said(&found);
    let fault = found.lines().find(|line| line.starts_with("FAULT")).unwrap_or_else(|| panic!("{found}"));
    for text in ["older than what a server has seen", "does not know what it has answered", "--accept-older-store"] {
        assert!(fault.contains(text), "{text}: {fault}");
    }
    assert!(!found.contains("it is whole"), "{found}");
    let is_older = |shown: &[u8]| serde_json::from_slice::<Value>(shown).unwrap()["high_water"]["is_older"].clone();
    assert_eq!(is_older(&shown.stdout), Value::Bool(true));
    assert_eq!(nodes(), before);
    // Once it is off, all is as it was.
    primary.kill();
    let shown = check(&["--output", "json"]);
    assert!(shown.status.success(), "{}", said(&shown));
    assert_eq!(is_older(&shown.stdout), Value::Bool(false));
    copy_key(of_a, of_b);
    for (name, data) in [("a", of_a), ("b", of_b)] {
        assert_eq!(Server::start_with(name, data, &settings).whoami(&machine).0, 200);
    }

    // Whoever says that it is the one loses what was issued; the other server need not be told again.
    primary.start_again();
    let accepted = [settings[0], ("INBORN_ACCEPT_OLDER_STORE", "true")];
    let (a, b) = (Server::start_with("a", of_a, &accepted), Server::start_with("b", of_b, &settings));
    for server in [&a, &b] {
        assert_eq!(server.whoami(&machine).0, 403);
        server.launch();
    }
}

/// All that is secret is sealed under another key while no server runs. One that was not stopped but slept, so that nobody heard it for a
/// minute, writes nothing any more.
#[tokio::test]
async fn a_store_is_sealed_anew_under_another_key() {
    let Some(cluster) = postgres::cluster() else { return };
    let url = cluster.database();
    let (of_a, of_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (of_a, of_b) = (of_a.path(), of_b.path());
    let log = of_a.join("log");
    let a = Server::start_saying("a", of_a, &[("INBORN_STORE", url.as_str())], &log);
    let mint = Mint::open(REGION, &url, &key_file(of_a)).await;
    let machine = mint.machine(a.launch()).await;
    let new = of_a.join("new.key");
    let new_key = new.to_str().unwrap();
    let rewrap = || run(of_a, &["epoch", "rewrap", "--store", &url, "--new-key-file", new_key]);
    let refused = rewrap();
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("the server a has been heard in the last 60 s"), "{}", said(&refused));
    a.launch();

    a.pause();
    cluster.sql(&url, "UPDATE region_nodes SET beaten_at = beaten_at - 61");
    let done = rewrap();
    assert!(done.status.success() && said(&done).contains("secrets are sealed under"), "{}", said(&done));
    let again = rewrap();
    assert!(again.status.success() && said(&again).contains("already"), "{}", said(&again));
    let epochs = || cluster.sql(&url, "SELECT id, sealed_root FROM epochs ORDER BY id");
    let sealed = epochs();
    a.resume();
    let replaced = "the database is no longer the one that was opened";
    until("it has noticed", || std::fs::read_to_string(&log).unwrap().contains(replaced).then_some(()));
    // Nobody writes for it there any more, beats neither: it cannot be told that what it reads is all.
    until("it says that it has not heard", || a.readiness().1.contains("fleet").then_some(()));
    for action in ["Inborn.RotateEpoch", "Inborn.CreateOperator&Name=second", "Inborn.RevokeEpoch&EpochId=1"] {
        let (status, body) = a.operate(REGION, &format!("Action={action}"));
        assert!(status >= 500, "{action}: {status} {body}");
    }
    assert_eq!(epochs(), sealed, "nothing is sealed under the key of before");
    assert_eq!(cluster.sql(&url, "SELECT COUNT(*) FROM operators"), "1");
    drop(a);

    let settings = [("INBORN_STORE", url.as_str())];
    let refused = Server::refused("a", of_a, &settings);
    assert!(refused.contains("epoch.key"), "{refused}");
    std::fs::rename(&new, key_file(of_a)).unwrap();
    copy_key(of_a, of_b);
    let (a, b) = (Server::start_with("a", of_a, &settings), Server::start_with("b", of_b, &settings));
    for server in [&a, &b] {
        assert_eq!(server.whoami(&machine).0, 200, "what was issued stays good");
        server.launch();
    }
    assert_eq!(a.operate(REGION, "Action=Inborn.RotateEpoch").0, 200);
}

/// What takes effect long after nobody could say whether it would (its commit waits for a standby that is gone) is known to the server
/// that was asked for it, too: it lets nobody in whom another server says to be gone.
#[tokio::test]
async fn what_takes_effect_late_is_known_everywhere() {
    let Some(_) = postgres::cluster() else { return };
    let cluster = Cluster::start(&postgres::programs().unwrap(), "");
    let url = cluster.database();
    let (of_a, of_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Server::start("a", of_a.path(), &url);
    copy_key(of_a.path(), of_b.path());
    let b = Server::start("b", of_b.path(), &url);
    let mint = Mint::open(REGION, &url, &key_file(of_a.path())).await;
    let id = a.launch();
    let machine = mint.machine(id).await;
    until("both let it in", || [&a, &b].iter().all(|server| server.whoami(&machine).0 == 200).then_some(()));

    cluster.hold_commits();
    let end = format!("Action=TerminateInstances&InstanceId.1={id}");
    let (status, body) = a.operate(REGION, &end);
    assert_eq!(status, 500, "nobody knows whether it will happen: {body}");
    // No beat is acknowledged either: the primary may have been replaced, for all that servers know.
    for server in [&a, &b] {
        until("it lets nobody in", || (server.whoami(&machine).0 == 503).then_some(()));
    }
    cluster.release_commits();
    for server in [&a, &b] {
        until("its beats are acknowledged", || (!server.readiness().1.contains("fleet")).then_some(()));
    }
    // The other one has nothing to do any more, and says so.
    let (status, body) = b.operate(REGION, &end);
    assert_eq!(status, 200, "{body}");
    for server in [&a, &b] {
        until("it is gone", || (server.whoami(&machine).0 == 403).then_some(()));
        let (status, body) = server.operate(REGION, "Action=DescribeInstances");
        assert!(status == 200 && !body.contains("<name>running</name>"), "{body}");
    }
}

/// The network splits: one server is left with the old primary, which answers reads as ever, and the standby is promoted on the other
/// side, where a machine is terminated. The first one hears nothing of that, and finds out by its beats, which nobody acknowledges: it
/// refuses within the time that it may not have heard.
#[tokio::test]
async fn a_server_that_is_left_with_a_replaced_primary_lets_nobody_in() {
    let Some(_) = postgres::cluster() else { return };
    let primary = Cluster::start(&postgres::programs().unwrap(), "");
    let url = primary.database();
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    let standby = primary.standby();
    primary.wait_for_standby("standby");
    let (of_a, of_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (of_a, of_b) = (of_a.path(), of_b.path());
    let b = Server::start_with("b", of_b, &[("INBORN_STORE", primary.url_of_either(&standby, &name).as_str())]);
    copy_key(of_b, of_a);
    let id = b.launch();
    let machine = Mint::open(REGION, &url, &key_file(of_b)).await.machine(id).await;
    assert_eq!(b.whoami(&machine).0, 200);
    let reads = || primary.sql(&url, &format!("SELECT state FROM instances WHERE id = '{id}'"));
    let living = reads();

    // A standby that is promoted leaves its primary, which waits for it from then on.
    standby.promote();
    let parted = Instant::now();
    let (_a, lapsed) = std::thread::scope(|scope| {
        let refuses = || (b.whoami(&machine).0 == 503).then(|| parted.elapsed());
        let lapsed = scope.spawn(move || until("it lets nobody in", refuses));
        let a = Server::start("a", of_a, &standby.url(&name));
        assert_eq!(a.operate(REGION, &format!("Action=TerminateInstances&InstanceId.1={id}")).0, 200);
        assert_eq!(a.verdict(&machine).0, 403);
        (a, lapsed.join().unwrap())
    });
    assert!(lapsed < LAPSES_WITHIN, "{lapsed:?}");
    assert_eq!(b.whoami(&machine).0, 503);
    let (status, body) = b.operate(REGION, LAUNCH);
    assert!(status == 503 && body.contains("<Code>Unavailable</Code>"), "{status} {body}");
    let (status, said) = b.readiness();
    assert!(status == 503 && said.contains("no beat acknowledged"), "{said}");
    assert_eq!(reads(), living, "there the machine lives, and whoever reads there believes it");

    // Once the old one is off, it goes on with the new one, and hears of all.
    primary.kill();
    until("it has heard", || (b.whoami(&machine).0 == 403).then_some(()));
    until("it is ready", || (b.readiness().0 == 200).then_some(()));
    b.launch();
}

/// The drill of docs/operations.md over PostgreSQL: the database is gone, and what was backed up goes into another one. All that had ended
/// stays ended, and hosts and their guests go on with what they have. Yesterday's backup is refused, and taken only at the price of all
/// that was issued.
#[tokio::test]
async fn a_database_is_lost_and_put_back() {
    let Some(cluster) = postgres::cluster() else { return };
    let url = cluster.database();
    let base = tempfile::tempdir().unwrap();
    let (of_a, of_b) = (base.path().join("a"), base.path().join("b"));
    DirBuilder::new().mode(0o700).create(&of_a).unwrap();
    let port = hosts::free_port().to_string();
    let server = |name: &str, url: &str, more: &[(&str, &str)]| {
        let mut settings = vec![("INBORN_STORE", url)];
        settings.extend((name == "a").then_some(("INBORN_HOSTS_PORT", port.as_str())));
        settings.extend(more);
        Server::start_with(name, if name == "a" { &of_a } else { &of_b }, &settings)
    };
    let a = server("a", &url, &[]);
    copy_key(&of_a, &of_b);
    let b = server("b", &url, &[]);
    let mint = Mint::open(REGION, &url, &key_file(&of_a)).await;
    let operate = |server: &Server, action: &str| {
        let (status, body) = server.operate(REGION, &format!("Action={action}"));
        assert_eq!(status, 200, "{action}: {body}");
        body
    };

    // A machine on a host with a guest that asks, one that will have ended, and what ends it.
    let token = operate(&a, "Inborn.CreateJoinToken");
    let token = between(&token, "<joinToken>", "</joinToken>");
    let mut host = Host::joined_at(&format!("127.0.0.1:{port}"), token);
    host.come_back();
    let launch_on_host = |server: &Server, host: &Host| {
        let (status, body) = server.operate(REGION, &hosts::launch(&host.id));
        assert_eq!(status, 200, "{body}");
        launched(&body).to_string()
    };
    let guest = host.attach(&launch_on_host(&a, &host));
    let before = until("the guest has credentials", || credential(guest));
    assert_eq!(b.whoami(&before).0, 200);
    let id = a.launch();
    let ended = mint.machine(id).await;
    assert_eq!(a.whoami(&ended).0, 200);
    let backup = |name: &str| {
        let file = base.path().join(name).to_str().unwrap().to_owned();
        let made = run(&of_a, &["store", "backup", "--store", &url, &file]);
        assert!(made.status.success(), "{}", said(&made));
        file
    };
    let yesterday = backup("yesterday.backup");
    operate(&b, &format!("TerminateInstances&InstanceId.1={id}"));
    operate(&a, "Inborn.RotateEpoch");
    until("the other has heard", || (a.whoami(&ended).0 == 403).then_some(()));
    let mark =
        |data: &Path| serde_json::from_slice::<Value>(&std::fs::read(data.join("high-water.json")).unwrap()).unwrap();
    let counted = |url: &str| {
        let sql = "SELECT CONVERT_FROM(value, 'UTF8') FROM settings WHERE name = 'high-water'";
        serde_json::from_str::<Value>(&cluster.sql(url, sql)).unwrap()["count"].clone()
    };
    let ends = |url: &str| {
        let epochs = cluster.sql(url, "SELECT id, state, seals_from, ended_at, revoked FROM epochs ORDER BY id");
        (epochs, cluster.sql(url, "SELECT kind, subject, threshold, made_at FROM cut_offs ORDER BY kind, subject"))
    };
    // Each stage of the rotation is counted, too, by each server when it comes to it. Once all is counted and noted nothing is for seconds.
    let found = || (mark(&of_a)["count"].clone(), mark(&of_b)["count"].clone(), counted(&url), ends(&url));
    let standing = || {
        until("both have noted all", || {
            let before = found();
            let (of_a, of_b, count, (epochs, _)) = &before;
            if [of_a, of_b] != [count, count] || epochs.matches("sealing").count() != 2 {
                return None;
            }
            std::thread::sleep(COUNTED_WITHIN);
            (found() == before).then_some(before)
        })
    };
    let (today, ended_by_then) = until("nothing has ended while all was backed up", || {
        let before = standing();
        let _ = std::fs::remove_file(base.path().join("today.backup"));
        let today = backup("today.backup");
        (standing() == before).then_some((today, before.3))
    });
    assert!(ended_by_then.1.contains(&id.to_string()), "{ended_by_then:?}");

    // The catastrophe. Servers that run do not go on as if nothing was.
    let name = url.rsplit_once('/').unwrap().1;
    cluster.sql(&cluster.url("postgres"), &format!("DROP DATABASE {name} WITH (FORCE)"));
    for server in [&a, &b] {
        until("it says that its store is gone", || (server.readiness().0 == 503).then_some(()));
    }
    assert!(credential(guest).is_some(), "the guest is served on");
    drop((a, b));
    // An empty database in the place of the one that is gone is none to start on.
    let empty = cluster.database();
    let refused = Server::refused("a", &of_a, &[("INBORN_STORE", &empty)]);
    assert!(refused.contains("older than what this server has seen"), "{refused}");

    // The restore, into a new database, as the document says it.
    let restored = cluster.database();
    let restore = |url: &str, file: &str| {
        let done = run(&of_a, &["store", "restore", "--store", url, file]);
        assert!(done.status.success(), "{}", said(&done));
        said(&done)
    };
    assert!(restore(&restored, &today).contains("exactly as new"));
    assert_eq!(ends(&restored), ended_by_then, "all that had ended is there");
    let checked = run(&of_a, &["store", "check", "--store", &restored]);
    assert!(checked.status.success() && said(&checked).contains("it is whole"), "{}", said(&checked));
    let (a, b) = (server("a", &restored, &[]), server("b", &restored, &[]));
    // A rotation that was under way goes on from where it was.
    let (epochs, cut_offs) = ends(&restored);
    let rank =
        |line: &str| ["published", "acknowledged", "sealing", "retired"].iter().position(|state| line.contains(state));
    assert_eq!(epochs.lines().count(), ended_by_then.0.lines().count());
    for (after, before) in epochs.lines().zip(ended_by_then.0.lines()) {
        assert!(rank(before).is_some() && rank(after) >= rank(before), "an epoch went back: {before}, then {after}");
    }
    assert_eq!(cut_offs, ended_by_then.1, "no cut-off has gone back");
    for server in [&a, &b] {
        assert_eq!(server.whoami(&ended).0, 403, "what had ended stays so");
        assert_eq!(server.whoami(&before).0, 200, "what was issued stays good");
    }
    until("the host is back", || (host.status()["is_connected"] == true).then_some(()));
    let new_guest = host.attach(&launch_on_host(&a, &host));
    let of_new = until("a guest of after has credentials", || credential(new_guest));
    assert_eq!(b.whoami(&of_new).0, 200);
    drop((a, b));

    // Yesterday's: it is refused, with the reason and the remedy, by whoever looks and by whoever starts.
    let older = cluster.database();
    assert!(restore(&older, &yesterday).contains("older than what a server has seen"));
    let checked = run(&of_a, &["store", "check", "--store", &older]);
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    for refused in [said(&checked), Server::refused("a", &of_a, &[("INBORN_STORE", &older)])] {
        assert!(refused.contains("older than what") && refused.contains("--accept-older-store"), "{refused}");
    }
    let (epochs_before, _) = ends(&older);
    let a = server("a", &older, &[("INBORN_ACCEPT_OLDER_STORE", "true")]);
    // The other need not be told again.
    let b = server("b", &older, &[]);
    for server in [&a, &b] {
        assert_eq!((server.whoami(&ended).0, server.whoami(&before).0), (403, 403), "nothing of before is good");
    }
    let (epochs, _) = ends(&older);
    assert!(epochs.lines().count() > epochs_before.lines().count(), "{epochs}");
    until("the host is back", || (host.status()["is_connected"] == true).then_some(()));
    // Of a host nobody knows any more whether it had been evicted: it gets nothing until an operator says so.
    assert_eq!(cluster.sql(&older, "SELECT subject FROM quarantines"), host.id);
    operate(&a, &format!("Inborn.EndQuarantine&Subject.1={}", host.id));
    let again =
        until("the guest has credentials that are good", || credential(guest).filter(|found| a.whoami(found).0 == 200));
    assert_ne!(again.access_key_id, before.access_key_id);
    assert_eq!(b.whoami(&again).0, 200);
}
