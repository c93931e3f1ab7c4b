//! A store that was put back from a backup: a region notices, at its start and while it runs, and lets nobody in by what it
//! says unless somebody has said that it shall; then nothing that was issued before is good.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::verdict::*;
use common::*;
use inborn_identity::{Clock, UnixTime};
use inborn_region::{EpochSettings, KeySource, OpenError, Opening, Rates, RegionServer, TelemetrySettings};
use inborn_store::{EpochState, SettingChange, SqliteStore, Store};
use inborn_testkit::ManualClock;

async fn whoami(at: &Running, signer: &Signer) -> u16 {
    at.send(signer, &call("sts", WHOAMI)).await.status
}

fn opening(data: &Path, accept_older_store: bool) -> Opening {
    Opening {
        identity: identity(),
        key_source: KeySource::File(data.join("epoch.key")),
        audit_file: data.join("audit.jsonl"),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
        epochs: EpochSettings::DEFAULT,
        accept_older_store,
        fleet: None,
    }
}

fn open(data: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(&data.join("inborn.db")).unwrap())
}

async fn running(data: &Path, accept: bool) -> Running {
    start_opening(tempfile::tempdir().unwrap(), open(data), opening(data, accept)).await
}

async fn refusal(data: &Path) -> String {
    let store = open(data);
    let clock = Arc::new(ManualClock::new(NOW)) as Arc<dyn Clock>;
    let refused = RegionServer::open(Arc::clone(&store), opening(data, false), clock).await;
    store.close().await.unwrap();
    match refused {
        Err(error @ OpenError::Older { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
}

fn count(data: &Path) -> u64 {
    let text = std::fs::read_to_string(data.join("high-water.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["count"].as_u64().unwrap()
}

/// Stops a region as if it had been killed, but for the files being closed.
async fn stop(running: Running) {
    running.region.store().close().await.unwrap();
}

#[tokio::test]
async fn a_store_from_yesterday_is_refused_until_somebody_accepts_it() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let first = running(data, false).await;
    let (ended, living) = (first.launch().await, first.launch().await);
    let (stolen, alive) = (first.machine(ended), first.machine(living));
    let operator = first.operator();
    let token = first.send(&operator, &ec2("Action=Inborn.CreateJoinToken")).await;
    assert_eq!(token.status, 200, "{}", token.body);
    stop(first).await;
    std::fs::copy(data.join("inborn.db"), data.join("yesterday.db")).unwrap();

    // Started again nothing is wrong, and its own count is no trouble to it.
    let second = running(data, false).await;
    let before = count(data);
    let end = ec2(&format!("Action=TerminateInstances&InstanceId.1={ended}"));
    assert_eq!(second.send(&second.operator(), &end).await.status, 200);
    assert_ne!(whoami(&second, &stolen).await, 200);
    until("the end is counted", async || count(data) > before).await;
    stop(second).await;

    std::fs::copy(data.join("yesterday.db"), data.join("inborn.db")).unwrap();
    for _ in 0..2 {
        let said = refusal(data).await;
        assert!(
            said.contains("older than what this server has seen") && said.contains("--accept-older-store"),
            "{said}"
        );
    }
    let third = running(data, true).await;
    for old in [&stolen, &alive] {
        assert_eq!(whoami(&third, old).await, 403);
    }
    third.clock.advance(1);
    assert_eq!(whoami(&third, &third.machine(living)).await, 200);
    // Nobody knows which keys had been disabled since, and which token was used up.
    assert_eq!(whoami(&third, &operator).await, 403, "an operator's key of before");
    assert_eq!(whoami(&third, &third.operator()).await, 200, "the one in operator.env now");
    let forgotten = third.region.store().forget_join_tokens(UnixTime::from_secs(4_000_000_000)).await.unwrap();
    assert_eq!(forgotten, 0, "no token is left");
    let epochs = third.region.store().epochs().await.unwrap();
    assert!(epochs[0].revoked && epochs[1].state == EpochState::Sealing);
    let accepted = count(data);
    stop(third).await;

    // Once is enough, and to say so again ends nothing.
    let fourth = running(data, true).await;
    assert!(count(data) > accepted);
    assert_eq!(whoami(&fourth, &fourth.operator()).await, 200);
    let operators = fourth.region.store().operators().await.unwrap();
    assert_eq!(operators.iter().filter(|one| !one.disabled).count(), 1, "the new one stays good");
    assert_eq!(fourth.region.store().epochs().await.unwrap().len(), 2);
}

/// Where the whole directory was put back the file goes back with it: who takes it away and says so is believed.
#[tokio::test]
async fn a_mark_that_was_taken_away() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let first = running(data, false).await;
    let id = first.launch().await;
    let machine = first.machine(id);
    stop(first).await;
    std::fs::remove_file(data.join("high-water.json")).unwrap();
    let second = running(data, false).await;
    assert_eq!(whoami(&second, &machine).await, 200, "a program of before has left none");
    stop(second).await;
    std::fs::remove_file(data.join("high-water.json")).unwrap();
    let third = running(data, true).await;
    assert_eq!(whoami(&third, &machine).await, 403);
}

/// A key that is not the one is found out before anything ends.
#[tokio::test]
async fn an_older_store_with_another_key_stays_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stop(running(data, false).await).await;
    std::fs::remove_file(data.join("high-water.json")).unwrap();
    let other = tempfile::tempdir().unwrap();
    stop(running(other.path(), false).await).await;
    std::fs::copy(other.path().join("epoch.key"), data.join("epoch.key")).unwrap();
    let store = open(data);
    let before = store.epochs().await.unwrap();
    let clock = Arc::new(ManualClock::new(NOW)) as Arc<dyn Clock>;
    let refused = RegionServer::open(Arc::clone(&store), opening(data, true), clock).await;
    assert!(matches!(refused, Err(OpenError::KeyFile(_))));
    assert_eq!(store.epochs().await.unwrap(), before);
    assert_eq!(store.cut_offs().await.unwrap(), []);
}

#[tokio::test]
async fn a_store_that_is_gone_is_not_replaced_by_a_new_one() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stop(running(data, false).await).await;
    std::fs::remove_file(data.join("inborn.db")).unwrap();
    let said = refusal(data).await;
    assert!(said.contains("it is not the one that was seen here"), "{said}");
}

/// Put back beneath a server that runs: it lets nobody in any more, and says so.
#[tokio::test]
async fn a_store_that_goes_back_while_it_is_served() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let region = running(data, false).await;
    let id = region.launch().await;
    let machine = region.machine(id);
    assert_eq!(whoami(&region, &machine).await, 200);
    let store = Arc::clone(region.region.store());
    let found = store.setting("high-water").await.unwrap().unwrap();
    let older = String::from_utf8(found.clone()).unwrap().replace(&format!("\"count\":{}", count(data)), "\"count\":0");
    assert_ne!(older.as_bytes(), found);
    let change =
        SettingChange { name: "high-water".to_owned(), expected: Some(found), value: older.as_bytes().to_vec() };
    store.put_setting(change).await.unwrap();
    until("it notices", async || whoami(&region, &machine).await == 503).await;
    assert!(region.region.issue(id, inborn_credential::Delivery::V2, NOW).is_none());
    let launch = ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1");
    assert_eq!(region.send(&region.operator(), &launch).await.status, 503);
    assert_eq!(region.send(&region.operator(), &ec2("Action=DescribeInstances")).await.status, 200);
    let faults = region.region.faults().await;
    assert!(faults.iter().any(|fault| fault.to_string().contains("put back from a backup")), "{faults:?}");
}
