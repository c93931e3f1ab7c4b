//! A store that was put back from a backup: a region notices, at its start and while it runs, and lets nobody in by what it
//! says unless somebody has said that it shall; then nothing that was issued before is good.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::agent::Agent;
use common::verdict::*;
use common::{hosts, *};
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

/// Whatever has ended is counted, so that no older store brings it back unnoticed.
#[tokio::test]
async fn every_end_is_counted() {
    const OTHER: &str = "AccountId=210987654321";
    const TRUST: &str = "%7B%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C%22Principal%22%3A%7B%22Service%22%3A%22\
        ssm.amazonaws.com%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%7D";
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let running = start_at(tempfile::tempdir().unwrap(), open(data), opening(data, false), hosts::today()).await;
    let at = hosts::serve(&running).await;
    let text = |reply: &Reply, tag: &str| between(&reply.body, &format!("<{tag}>"), &format!("</{tag}>")).to_owned();
    let ask = async |call: Call| {
        let reply = running.send(&running.operator(), &call).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply
    };
    let ec2 = async |what: String| ask(ec2(&format!("Action={what}"))).await;
    let iam = async |what: String| ask(call("iam", &format!("Action={what}&Version=2010-05-08"))).await;
    let (ended, stopped) = (running.launch().await, running.launch().await);
    let (id, agent, _) = running.managed().await;
    let host = hosts::Host::joined(&running, &at).await;
    iam(format!("CreateRole&RoleName=Agents&AssumeRolePolicyDocument={TRUST}")).await;
    ec2(format!("Inborn.CreateAccount&{OTHER}")).await;
    let operators = [
        ec2(format!("Inborn.CreateOperator&{OTHER}&Name=first")).await,
        ec2(format!("Inborn.CreateOperator&{OTHER}&Name=second")).await,
    ];
    let [first, second] = operators.map(|reply| text(&reply, "accessKeyId"));
    let setting = async |operation: &str, value: &str| {
        let id = "/ssm/managed-instance/default-ec2-instance-management-role";
        let body = format!(r#"{{"SettingId":"{id}"{value}}}"#);
        ask(json("ssm", &format!("AmazonSSM.{operation}"), &body)).await
    };
    // When nothing that was done before is still to be counted.
    let settled = async || {
        let (mut before, mut since) = (count(data), Instant::now());
        while since.elapsed() < Duration::from_millis(1300) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if count(data) != before {
                (before, since) = (count(data), Instant::now());
            }
        }
        before
    };
    for what in [
        "a machine ends",
        "a machine stops",
        "a quarantine",
        "its release",
        "a host is evicted",
        "a join token is used",
        "another role is passed",
        "none is passed",
        "a role is deleted",
        "an agent changes its key",
        "an agent is forgotten",
        "a key is switched off",
        "a key is deleted",
        "an account is closed",
        "an epoch comes",
    ] {
        let before = settled().await;
        match what {
            "a machine ends" => drop(ec2(format!("TerminateInstances&InstanceId.1={ended}")).await),
            "a machine stops" => drop(ec2(format!("StopInstances&InstanceId.1={stopped}")).await),
            "a quarantine" => drop(ec2(format!("Inborn.PutQuarantine&Subject.1={stopped}&Reason=x")).await),
            "its release" => drop(ec2(format!("Inborn.EndQuarantine&Subject.1={stopped}")).await),
            "a host is evicted" => drop(ec2(format!("Inborn.EvictHost&HostId={}", host.id())).await),
            "a join token is used" => drop(hosts::Host::joined(&running, &at).await),
            "another role is passed" => drop(setting("UpdateServiceSetting", r#","SettingValue":"Agents""#).await),
            "none is passed" => drop(setting("ResetServiceSetting", "").await),
            "a role is deleted" => drop(iam("DeleteRole&RoleName=Agents".to_owned()).await),
            "an agent changes its key" => {
                let body = format!(r#"{{"NewPublicKey":"{}","NewPublicKeyType":"Rsa"}}"#, Agent::new().public_key());
                let operation = "UpdateManagedInstancePublicKey";
                let reply = running.twice_signed(&agent, &running.machine(id), operation, &body).await;
                assert_eq!(reply.status, 200, "{}", reply.body);
            }
            "an agent is forgotten" => {
                let body = format!(r#"{{"InstanceId":"{id}"}}"#);
                ask(json("ssm", "AmazonSSM.DeregisterManagedInstance", &body)).await;
            }
            "a key is switched off" => {
                ec2(format!("Inborn.ModifyOperator&AccessKeyId={first}&State=disabled")).await;
            }
            "a key is deleted" => drop(ec2(format!("Inborn.DeleteOperator&AccessKeyId={second}")).await),
            "an account is closed" => drop(ec2(format!("Inborn.CloseAccount&{OTHER}")).await),
            _ => drop(ec2("Inborn.RotateEpoch".to_owned()).await),
        }
        until(what, async || count(data) > before).await;
    }
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

/// What this server has seen it has seen, whether its own disk takes it down or not; and that is tried again.
#[tokio::test]
async fn a_store_that_goes_back_while_the_mark_cannot_be_written() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let region = running(data, false).await;
    let (first, second) = (region.launch().await, region.launch().await);
    let machine = region.machine(second);
    let store = Arc::clone(region.region.store());
    let mark = async || store.setting("high-water").await.unwrap().unwrap();
    let (file, before) = (data.join("high-water.json"), mark().await);
    // Nothing can be put where a directory is.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let end = ec2(&format!("Action=TerminateInstances&InstanceId.1={first}"));
    assert_eq!(region.send(&region.operator(), &end).await.status, 200);
    until("the end is counted", async || mark().await != before).await;
    let counted = mark().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(mark().await, counted, "an end is counted once, however often the file is tried");
    std::fs::remove_dir(&file).unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&counted).unwrap();
    until("the file is written again", async || file.exists() && seen["count"] == count(data)).await;

    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let end = ec2(&format!("Action=TerminateInstances&InstanceId.1={second}"));
    let other = region.launch().await;
    let alive = region.machine(other);
    assert_eq!(region.send(&region.operator(), &end).await.status, 200);
    until("the second end is counted", async || mark().await != counted).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(whoami(&region, &alive).await, 200);
    assert_ne!(whoami(&region, &machine).await, 200);
    let expected = Some(mark().await);
    store.put_setting(SettingChange { name: "high-water".to_owned(), expected, value: counted }).await.unwrap();
    until("it notices", async || whoami(&region, &alive).await == 503).await;
}

/// Whoever has stolen a host has its certificate still, and the store of before its eviction takes it for a host.
#[tokio::test]
async fn no_host_is_given_anything_by_an_accepted_store_until_it_is_released() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let running =
        async |accept| start_at(tempfile::tempdir().unwrap(), open(data), opening(data, accept), hosts::today()).await;
    let done = async |at: &Running, what: &str| {
        let reply = at.send(&at.operator(), &ec2(what)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    };
    let first = running(false).await;
    let at = hosts::serve(&first).await;
    let mut all = Vec::new();
    for _ in 0..4 {
        let host = hosts::Host::joined(&first, &at).await;
        let id = hosts::launch_on(&first, host.id()).await;
        all.push((host, id));
    }
    let [(stolen, on_stolen), (trusted, on_trusted), (suspect, _), (gone, _)] = all.try_into().ok().unwrap();
    let ended = hosts::launch_on(&first, trusted.id()).await;
    done(&first, &format!("Action=Inborn.PutQuarantine&Subject.1={}&Reason=mining", suspect.id())).await;
    done(&first, &format!("Action=Inborn.EvictHost&HostId={}", gone.id())).await;
    stop(first).await;
    std::fs::copy(data.join("inborn.db"), data.join("yesterday.db")).unwrap();

    let second = running(false).await;
    let before = count(data);
    done(&second, &format!("Action=Inborn.EvictHost&HostId={}", stolen.id())).await;
    done(&second, &format!("Action=TerminateInstances&InstanceId.1={ended}")).await;
    until("the ends are counted", async || count(data) > before).await;
    stop(second).await;
    std::fs::copy(data.join("yesterday.db"), data.join("inborn.db")).unwrap();

    let third = running(true).await;
    let at = hosts::serve(&third).await;
    third.clock.advance(1);
    let given = async |host: &hosts::Host, id| {
        let (status, answer) = host.credentials(&at, &[id]).await;
        assert_eq!(status, 200, "{answer}");
        answer["generations"].as_array().map_or(0, Vec::len)
    };
    for (host, id) in [(&stolen, on_stolen), (&trusted, on_trusted), (&trusted, ended)] {
        let records = host.machines(&at).await.changed;
        assert!(!records.is_empty() && records.iter().all(|record| record.machine.is_withheld), "{records:?}");
        assert_eq!(given(host, id).await, 0, "{id}");
        assert!(third.region.is_quarantined(id), "{id}");
    }
    let listed = done(&third, "Action=Inborn.DescribeQuarantines").await;
    assert_eq!(listed.matches("<by>--accept-older-store</by>").count(), 2, "{listed}");
    assert!(listed.contains("<reason>mining</reason>"), "what was known stays: {listed}");
    let shown = done(&third, "Action=Inborn.DescribeHosts").await;
    assert_eq!(shown.matches("<isQuarantined>true</isQuarantined>").count(), 3, "{shown}");
    assert_eq!(gone.credentials(&at, &[]).await.1["code"], "evicted", "and so does an eviction");

    // It ends by nothing that the host does, and by no time.
    let (status, answer) = stolen.call(&at, inborn_fleet::RENEW, &serde_json::json!({})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    third.clock.advance(3 * 86_400);
    assert_eq!(given(&stolen, on_stolen).await, 0);
    // What had ended is ended again first, and then the host is released: it, and no other.
    done(&third, &format!("Action=TerminateInstances&InstanceId.1={ended}")).await;
    done(&third, &format!("Action=Inborn.EndQuarantine&Subject.1={}", trusted.id())).await;
    assert!(given(&trusted, on_trusted).await > 0);
    assert_eq!(whoami(&third, &third.machine(on_trusted)).await, 200);
    assert_eq!(given(&stolen, on_stolen).await, 0);
    done(&third, &format!("Action=Inborn.EvictHost&HostId={}", stolen.id())).await;
    assert_eq!(stolen.credentials(&at, &[on_stolen]).await.1["code"], "evicted");
    stop(third).await;

    // Said once more of a store that is not older, it puts nobody there.
    let fourth = running(true).await;
    assert!(!fourth.region.is_quarantined(on_trusted));
}
