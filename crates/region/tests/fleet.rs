//! Several region servers over one store: what one has done, the others know; who has not heard says so.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use common::agent::{Agent, session};
use common::hosts::{launch_on, serve, today};
use common::verdict::*;
use common::*;
use inborn_credential::Delivery;
use inborn_fleet::{MACHINES, WAIT_SECONDS};
use inborn_identity::{InstanceId, UnixTime};
use inborn_region::{EpochSettings, FleetSettings, KeySource, Opening, Rates, StalePolicy, TelemetrySettings};
use inborn_store::{CutOff, CutOffScope, RecordedCutOff, SqliteStore, Store};
use inborn_testkit::FaultyStore;
use serde_json::json;

/// Two servers over one store, each as a program of its own.
struct Fleet {
    a: Running,
    b: Running,
    /// What `b` has of the store.
    of_b: Arc<FaultyStore>,
    store: Arc<dyn Store>,
    _keys: tempfile::TempDir,
}

async fn fleet(stale: &[(&str, StalePolicy)]) -> Fleet {
    fleet_at(stale, NOW).await
}

async fn fleet_at(stale: &[(&str, StalePolicy)], now: UnixTime) -> Fleet {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("epoch.key");
    let server = async |name: &str, store: Arc<FaultyStore>| {
        let directory = tempfile::tempdir().unwrap();
        let stale: BTreeMap<_, _> = stale.iter().map(|(service, policy)| ((*service).to_owned(), *policy)).collect();
        let opening = Opening {
            identity: identity(),
            key_source: KeySource::File(key_file.clone()),
            audit_file: directory.path().join("audit.jsonl"),
            rates: Rates::default(),
            telemetry: TelemetrySettings::default(),
            epochs: EpochSettings::DEFAULT,
            accept_older_store: false,
            fleet: Some(FleetSettings { name: name.to_owned(), stale }),
        };
        start_at(directory, store, opening, now).await
    };
    let a = server("a", Arc::new(FaultyStore::of_another_program(Arc::clone(&store)))).await;
    let of_b = Arc::new(FaultyStore::of_another_program(Arc::clone(&store)));
    let b = server("b", Arc::clone(&of_b)).await;
    Fleet { a, b, of_b, store, _keys: keys }
}

async fn change(at: &Running, action: &str, id: InstanceId) {
    let reply = at.send(&at.operator(), &ec2(&format!("Action={action}&InstanceId.1={id}"))).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// Whether what was to be done within five seconds of silence took so long that it may have been too late, and may be tried again.
fn is_late(times: &[Duration]) -> bool {
    times.len() < 5 && times.last().is_some_and(|time| *time > Duration::from_secs(3))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_does_the_other_knows() {
    let Fleet { a, b, .. } = &fleet(&[]).await;
    let id = a.launch().await;
    let machine = a.machine(id);
    // Without a wait: who asks for a machine that is not known yet waits for the news.
    assert_eq!(verdict(b, &machine).await, (200, String::new()));
    assert_eq!(b.machine(id).secret, machine.secret, "both issue the same");
    change(a, "StopInstances", id).await;
    until("a stop is known", async || whoami(b, &machine).await == expired()).await;
    for clock in [&a.clock, &b.clock] {
        clock.advance(1);
    }
    change(b, "StartInstances", id).await;
    let second = b.machine(id);
    assert_eq!(verdict(a, &second).await, (200, String::new()));
    assert_eq!(verdict(a, &machine).await, expired(), "what was before stays ended");
    change(a, "TerminateInstances", id).await;
    assert_eq!(verdict(a, &second).await, unknown());
    until("a termination is known", async || whoami(b, &second).await == unknown()).await;
    assert!(b.region.machines().get(id).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_heard_refuses_changes_and_says_so() {
    let Fleet { a, b, of_b, .. } =
        &fleet(&[("iam", StalePolicy::RefuseAll), ("ec2-instance-connect", StalePolicy::Serve)]).await;
    let id = a.launch().await;
    let machine = a.machine(id);
    assert_eq!(verdict(b, &machine).await, (200, String::new()));
    let launch = ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1");
    let roles =
        Call { headers: vec![("content-type", FORM.to_owned())], ..call("iam", "Action=ListRoles&Version=2010-05-08") };
    let roles = Call { region: "us-east-1".to_owned(), host: "iam.amazonaws.com".to_owned(), ..roles };
    let mut times = Vec::new();
    loop {
        let begun = tokio::time::Instant::now();
        of_b.deafen().await;
        // Five seconds are not too long yet: the clock has whole seconds, and one of them may be almost nothing.
        b.clock.advance(6);
        let told = (b.send(&b.operator(), &launch).await.status, b.region.faults().await);
        times.push(begun.elapsed());
        if told == (200, Vec::new()) {
            break;
        }
        // The seconds that a busy computer takes count as well.
        assert!(is_late(&times), "{told:?} {times:?}");
        of_b.silence(false);
        until("it hears again", async || b.region.faults().await.is_empty()).await;
    }
    b.clock.advance(1);
    let refused = b.send(&b.operator(), &launch).await;
    assert_eq!((refused.status, between(&refused.body, "<Code>", "</Code>")), (503, "Unavailable"));
    assert_eq!(whoami(b, &machine).await, (200, String::new()), "by what was heard last");
    assert_eq!(b.send(&b.operator(), &roles).await.status, 503);
    assert_eq!(b.send(&b.operator(), &ec2("Action=DescribeInstances")).await.status, 200);
    let faults = b.region.faults().await;
    assert!(faults.iter().any(|fault| fault.to_string().starts_with("fleet: nothing was heard")), "{faults:?}");
    assert_eq!(a.send(&a.operator(), &launch).await.status, 200, "the other one has heard");

    of_b.silence(false);
    until("it hears again", async || b.region.faults().await.is_empty()).await;
    assert_eq!(b.send(&b.operator(), &launch).await.status, 200);
    assert_eq!(b.send(&b.operator(), &roles).await.status, 200);
}

/// A database that is read as ever and acknowledges no beat may be a primary that was replaced: what is read there is not all that others
/// change.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_acknowledged_no_beat_has_not_heard_however_well_it_reads() {
    let Fleet { a, b, of_b, .. } = &fleet_at(&[], today()).await;
    let (at_a, at_b) = (serve(a).await, serve(b).await);
    let host = common::hosts::Host::joined(a, &at_a).await;
    let id = launch_on(a, host.id()).await;
    until("the host is known", async || host.credentials(&at_b, &[id]).await.0 == 200).await;
    let machine = a.machine(id);
    let launch = ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1");
    let launches = async || b.send(&b.operator(), &launch).await.status;
    let gives = || b.region.issue(id, Delivery::V2, b.region.now()).is_some();
    assert_eq!((whoami(b, &machine).await.0, gives()), (200, true));
    let mut times = Vec::new();
    let held = loop {
        let begun = tokio::time::Instant::now();
        let held = of_b.hold_beats().await;
        until("a beat has no answer", async || of_b.held_beats() > 0).await;
        // Five seconds are not too long yet: the clock has whole seconds, and one of them may be almost nothing.
        b.clock.advance(6);
        let told = (launches().await, gives(), b.region.faults().await);
        times.push(begun.elapsed());
        if told == (200, true, Vec::new()) {
            break held;
        }
        // The seconds that a busy computer takes count as well.
        assert!(is_late(&times), "{told:?} {times:?}");
        drop(held);
        until("a beat is acknowledged", async || b.region.faults().await.is_empty()).await;
    };
    b.clock.advance(1);
    for _ in 0..2 {
        assert_eq!((launches().await, gives()), (503, false));
        assert_eq!(host.credentials(&at_b, &[id]).await.0, 503, "nor are hosts given any");
        assert_eq!(whoami(b, &machine).await, (200, String::new()), "by what was heard last");
        let faults = b.region.faults().await;
        assert!(faults.iter().any(|fault| fault.to_string().contains("no beat acknowledged")), "{faults:?}");
        // It reads meanwhile, which changes nothing.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut registry = prometheus_client::registry::Registry::default();
    b.region.metrics().register(&mut registry);
    let metrics = inborn_region::encode_metrics(&registry).unwrap();
    assert!(metrics.contains(r#"inborn_stale_calls_total{service="sts",outcome="served"} 2"#), "{metrics}");
    assert_eq!((whoami(a, &machine).await.0, a.region.faults().await.len()), (200, 0), "the other one is acknowledged");
    b.clock.advance(9);
    assert_eq!(whoami(b, &machine).await, (200, String::new()), "fifteen seconds are not too long yet");
    b.clock.advance(1);
    assert_eq!(whoami(b, &machine).await, (503, "ServiceUnavailable".to_owned()));

    drop(held);
    until("a beat is acknowledged", async || b.region.faults().await.is_empty()).await;
    assert_eq!((launches().await, gives(), whoami(b, &machine).await.0), (200, true, 200));
    assert_eq!(host.credentials(&at_b, &[id]).await.0, 200);
}

/// A server that hears again while somebody is judged: they may have been judged by what was known before, and are refused once more.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_stale_before_somebody_was_judged_does_not_let_them_in() {
    let Fleet { a, b, of_b, .. } = &fleet(&[("sts", StalePolicy::RefuseAll)]).await;
    // On a busy computer a call may come only when it has heard, or wait in vain.
    let mut seen = Vec::new();
    while !seen.contains(&(503, true)) {
        assert!(seen.len() < 5, "{seen:?}");
        of_b.deafen().await;
        let machine = a.machine(a.launch().await);
        b.clock.advance(7);
        // Until a beat is acknowledged by the new time: from then on it is stale for nothing but what it does not read. The first may
        // have been begun before, and one is begun when the one before it has its answer.
        let writes = of_b.writes();
        until("a beat is acknowledged", async || of_b.writes() >= writes + 3).await;
        let begun = tokio::time::Instant::now();
        let asks = async { (whoami(b, &machine).await, begun.elapsed()) };
        let hears = async {
            // The call waits for it by then: of this machine nothing is known here yet.
            tokio::time::sleep(Duration::from_millis(300)).await;
            of_b.silence(false);
        };
        let (((status, code), took), ()) = tokio::join!(asks, hears);
        assert!(status == 200 || (status, code.as_str()) == (503, "ServiceUnavailable"), "{status} {code}");
        // Whoever was answered by what it heard; who waits in vain does so for a second.
        seen.push((status, (Duration::from_millis(300)..Duration::from_secs(1)).contains(&took)));
        until("it has heard", async || b.region.faults().await.is_empty()).await;
        assert_eq!(verdict(b, &machine).await, (200, String::new()));
    }
}

/// A server that is behind, and not for long enough to be stale: it does not know who was launched or started elsewhere meanwhile, and
/// says that it cannot tell, not that they are nobody.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_behind_refuses_nobody_for_good() {
    let Fleet { a, b, of_b, .. } = &fleet(&[]).await;
    let stopped = a.launch().await;
    change(a, "StopInstances", stopped).await;
    let ended = a.launch().await;
    let of_ended = a.machine(ended);
    change(a, "TerminateInstances", ended).await;
    until("it is known", async || whoami(b, &of_ended).await == unknown()).await;
    of_b.deafen().await;
    let launched = a.machine(a.launch().await);
    change(a, "StartInstances", stopped).await;
    let started = a.machine(stopped);
    assert_eq!(whoami(a, &launched).await.0, 200);
    for machine in [&launched, &started] {
        assert_eq!(whoami(b, machine).await, (503, "ServiceUnavailable".to_owned()));
    }
    assert_eq!(whoami(b, &of_ended).await, unknown(), "that does not come back");
    of_b.silence(false);
    for machine in [&launched, &started] {
        until("it hears again", async || whoami(b, machine).await.0 == 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_too_long_reads_everything_again() {
    let Fleet { a, b, of_b, store, .. } = &fleet(&[]).await;
    let (ended, living) = (a.launch().await, a.launch().await);
    let machine = a.machine(ended);
    assert_eq!(verdict(b, &machine).await, (200, String::new()));
    of_b.deafen().await;
    change(a, "TerminateInstances", ended).await;
    let launched = a.launch().await;
    // All that was told is forgotten, and the machine with it.
    store.forget_news(NOW.plus(1_000_000), NOW).await.unwrap();
    assert_eq!(store.purge(NOW.plus(1)).await, Ok(1));
    assert_eq!(whoami(b, &machine).await, (200, String::new()), "it does not know yet");
    of_b.silence(false);
    until("the end is known", async || whoami(b, &machine).await == unknown()).await;
    // What is gone goes first; who came meanwhile comes with the same reading, and who was there stays.
    assert!(b.region.machines().get(living).is_some());
    until("the launch is known", async || b.region.machines().get(launched).is_some()).await;
}

/// Whoever is in quarantine is let in nowhere and given nothing, at every server, and its release brings nothing back.
#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_is_one_at_every_server() {
    let Fleet { a, b, of_b, .. } = &fleet(&[]).await;
    let reads = of_b.cut_off_reads();
    let (id, _agent, role) = a.managed().await;
    let machine = a.machine(id);
    until("the agent is known", async || whoami(b, &role).await.0 == 200).await;
    let mut control = b.control_channel(&role, id).await;
    let quarantine_at = async |at: &Running, action: &str| {
        at.send(&at.operator(), &ec2(&format!("Action={action}&Subject.1={id}"))).await.status
    };
    let quarantine = async |action: &str| quarantine_at(a, action).await;
    assert_eq!(quarantine("Inborn.PutQuarantine").await, 200);
    until("the quarantine is known", async || whoami(b, &machine).await == unknown()).await;
    assert_eq!(control.closed().await, 1000);
    assert!(b.region.issue(id, Delivery::V2, NOW).is_none());
    for clock in [&a.clock, &b.clock] {
        clock.advance(400);
    }
    for server in [a, b] {
        until("both hear", async || server.region.faults().await.is_empty()).await;
    }
    assert_eq!(quarantine("Inborn.EndQuarantine").await, 200);
    // From the moment at which the other one gives something again, nothing of before is good there.
    let mut seen = unknown();
    until("the release is known", async || {
        seen = whoami(b, &machine).await;
        seen != unknown() && seen.0 != 503
    })
    .await;
    assert_eq!(seen, expired());
    for clock in [&a.clock, &b.clock] {
        clock.advance(1);
    }
    assert_eq!(b.machine(id).secret, a.machine(id).secret, "both issue the same");
    assert_eq!(whoami(a, &b.machine(id)).await, (200, String::new()));
    // There may be a million cut-offs: they are not all read each time.
    for action in ["Inborn.PutQuarantine", "Inborn.EndQuarantine"] {
        assert_eq!(quarantine_at(b, action).await, 200);
    }
    assert_eq!(of_b.cut_off_reads(), reads);
}

/// Whoever is named: one machine, all of a host, all of an account, or all; and no others.
#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_of_many_is_one_at_every_server() {
    let Fleet { a, b, .. } = &fleet_at(&[], today()).await;
    let host = common::hosts::Host::joined(a, &serve(a).await).await.id();
    let done = async |at: &Running, who: &Signer, what: &str| {
        let reply = at.send(who, &ec2(what)).await;
        assert_eq!(reply.status, 200, "{what}: {}", reply.body);
        reply.body
    };
    let owner = a.operator();
    done(a, &owner, "Action=Inborn.CreateAccount&AccountId=210987654321").await;
    let made = done(a, &owner, "Action=Inborn.CreateOperator&AccountId=210987654321&Name=other").await;
    let text = |tag: &str| between(&made, &format!("<{tag}>"), &format!("</{tag}>")).to_owned();
    let other = Signer { access_key_id: text("accessKeyId"), secret: text("secretAccessKey"), token: None };
    let launched = done(a, &other, "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1").await;
    let in_other: InstanceId = between(&launched, "<instanceId>", "</instanceId>").parse().unwrap();
    let (placed, elsewhere) = (launch_on(a, host).await, a.launch().await);
    let all = [placed, elsewhere, in_other];
    for (subject, covers) in [
        (placed.to_string(), [true, false, false]),
        (host.to_string(), [true, false, false]),
        (identity().account.to_string(), [true, true, false]),
        ("%2A".to_owned(), [true; 3]),
    ] {
        let gives = |at: &Running, id| at.region.issue(id, Delivery::V2, at.region.now()).is_some();
        until("both know all", async || all.iter().all(|id| gives(a, *id) && gives(b, *id))).await;
        let machines = all.map(|id| a.machine(id));
        for machine in &machines {
            // Who is not known yet is waited for; what a release has ended is heard of within a round.
            until("the machine is let in", async || whoami(b, machine).await == (200, String::new())).await;
        }
        done(a, &owner, &format!("Action=Inborn.PutQuarantine&Subject.1={subject}")).await;
        let first = machines.iter().zip(covers).find(|(_, is_covered)| *is_covered).unwrap().0;
        until("the quarantine is known", async || whoami(b, first).await == unknown()).await;
        for ((id, machine), is_covered) in all.iter().zip(&machines).zip(covers) {
            let expected = if is_covered { unknown() } else { (200, String::new()) };
            assert_eq!(verdict(b, machine).await, expected, "{subject}: {id}");
            assert_eq!(gives(b, *id), !is_covered, "{subject}: {id}");
        }
        // Who comes later is in it, too.
        if subject != placed.to_string() {
            let late = launch_on(b, host).await;
            assert!(!gives(b, late), "{subject}");
        }
        // Whoever is released at once, at a server that may not have heard yet, is released.
        done(a, &owner, &format!("Action=Inborn.EndQuarantine&Subject.1={subject}")).await;
        done(a, &owner, &format!("Action=Inborn.PutQuarantine&Subject.1={subject}")).await;
        done(b, &b.operator(), &format!("Action=Inborn.EndQuarantine&Subject.1={subject}")).await;
        for (machine, is_covered) in machines.iter().zip(covers) {
            let expected = if is_covered { expired() } else { (200, String::new()) };
            assert_eq!(verdict(b, machine).await, expected, "{subject}");
        }
    }
}

/// What a host waits for at one server ends with its eviction at the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_waits_hears_of_its_eviction_elsewhere() {
    // It would be told when its wait is over, at the latest.
    within(Duration::from_secs(WAIT_SECONDS / 2), eviction_is_heard_of).await;
}

async fn eviction_is_heard_of() -> Duration {
    let Fleet { a, b, .. } = &fleet_at(&[], today()).await;
    let (at_a, at_b) = (serve(a).await, serve(b).await);
    let host = common::hosts::Host::joined(a, &at_a).await;
    let id = launch_on(a, host.id()).await;
    until("the host is known", async || host.credentials(&at_b, &[id]).await.0 == 200).await;
    let known: BTreeMap<String, String> = host
        .machines(&at_b)
        .await
        .changed
        .into_iter()
        .map(|one| (one.machine.instance.to_string(), one.version))
        .collect();
    let asked = json!({ "known": known });
    let waits = async { (host.call(&at_b, MACHINES, &asked).await, tokio::time::Instant::now()) };
    let evicts = async {
        // So long it has waited by then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let evict = format!("Action=Inborn.EvictHost&HostId={}", host.id());
        assert_eq!(a.send(&a.operator(), &ec2(&evict)).await.status, 200);
        tokio::time::Instant::now()
    };
    let ((answer, heard), evicted) = tokio::join!(waits, evicts);
    let (status, answer) = answer.unwrap();
    assert!(status != 200 && answer["code"] == "evicted", "{answer}");
    heard.saturating_duration_since(evicted)
}

/// Where the store is slow, a quarantine may have come and gone before a server reads which there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_nobody_saw_has_ended_what_was_before_it() {
    let Fleet { a, b, of_b, .. } = &fleet(&[]).await;
    let id = a.launch().await;
    let machine = a.machine(id);
    assert_eq!(verdict(b, &machine).await, (200, String::new()));
    let quarantine =
        async |action: &str| a.send(&a.operator(), &ec2(&format!("Action={action}&Subject.1={id}"))).await.status;
    let held = of_b.hold_quarantines().await;
    assert_eq!(quarantine("Inborn.PutQuarantine").await, 200);
    until("the list is about to be read", async || of_b.held_up() == 1).await;
    assert_eq!(quarantine("Inborn.EndQuarantine").await, 200);
    // Of the release it hears nothing but what the list says.
    of_b.silence(true);
    drop(held);
    until("the release is known", async || whoami(b, &machine).await == expired()).await;
}

/// A server that nobody tells of an end closes what is open, unless it is told to serve all the same.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_heard_for_long_closes_what_is_open() {
    for (stale, is_closed) in [(&[][..], true), (&[("ssmmessages", StalePolicy::Serve)], false)] {
        let Fleet { a, b, of_b, .. } = &fleet(stale).await;
        let (id, _agent, role) = a.managed().await;
        until("the agent is known", async || whoami(b, &role).await.0 == 200).await;
        let mut control = b.control_channel(&role, id).await;
        of_b.deafen().await;
        b.clock.advance(8);
        control.ping().await;
        b.clock.advance(9);
        if is_closed {
            assert_eq!(control.closed().await, 1000);
        } else {
            tokio::time::sleep(Duration::from_secs(2)).await;
            control.ping().await;
        }
    }
}

/// A cut-off by time closes what was opened before it, wherever it is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_closes_what_is_open() {
    let Fleet { a, b, store, .. } = &fleet(&[]).await;
    let (id, _agent, role) = a.managed().await;
    until("the agent is known", async || whoami(b, &role).await.0 == 200).await;
    let mut control = b.control_channel(&role, id).await;
    control.ping().await;
    let before = NOW.plus(120);
    let scope = CutOffScope::Instance(id);
    store.put_cut_off(RecordedCutOff { cut_off: CutOff::IssuedBefore { scope, before }, at: NOW }).await.unwrap();
    assert_eq!(control.closed().await, 1000);
}

/// A role that is gone, and the setting that passed it, end sessions at every server.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_sessions_of_the_management_role_ends_them_everywhere() {
    let Fleet { a, b, .. } = &fleet(&[]).await;
    let default = "AWSSystemsManagerDefaultEC2InstanceManagementRole";
    assert_eq!(a.pass_role(&format!("service-role/{default}")).await.status, 200);
    until("the setting is known", async || {
        let body = format!(r#"{{"SettingId":"{SETTING}"}}"#);
        b.send(&b.operator(), &json("ssm", "AmazonSSM.GetServiceSetting", &body)).await.body.contains(default)
    })
    .await;
    let role = Call { region: "us-east-1".to_owned(), host: "iam.amazonaws.com".to_owned(), ..call("iam", "") };
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ssm.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
    let trust: String = trust.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let create = Call {
        body: format!("Action=CreateRole&Version=2010-05-08&RoleName=agents&AssumeRolePolicyDocument={trust}"),
        ..role.clone()
    };
    let list = Call { body: "Action=ListRoles&Version=2010-05-08".to_owned(), ..role.clone() };
    let delete = Call { body: "Action=DeleteRole&Version=2010-05-08&RoleName=agents".to_owned(), ..role };
    let reply = a.send(&a.operator(), &create).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let has_it = async || b.send(&b.operator(), &list).await.body.contains("<RoleName>agents<");
    until("a role is known", has_it).await;
    assert_eq!(a.send(&a.operator(), &delete).await.status, 200);
    until("its end is known", async || !has_it().await).await;
}

/// A release dates what is given next ahead of every clock. That ends with the registration, and with the setting, like all else that was given:
/// wherever it was asked for, and whichever server is told of the end and of what comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_dated_ahead_ends_with_its_registration_and_its_setting() {
    let Fleet { a, b, .. } = &fleet(&[]).await;
    let (id, agent, known) = a.managed().await;
    until("the role is known", async || whoami(b, &known).await == good()).await;
    for action in ["PutQuarantine", "EndQuarantine"] {
        let reply = a.send(&a.operator(), &ec2(&format!("Action=Inborn.{action}&Subject.1={id}"))).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    until("the release is known", async || whoami(b, &known).await == expired()).await;
    let given = async |at: &Running, agent: &Agent| {
        until("a session is given", async || at.role_token(agent, id).await.status == 200).await;
        session(&at.role_token(agent, id).await)
    };
    let stolen = given(b, &agent).await;
    assert_eq!(verdict(a, &stolen).await, good());

    let ssm = async |operation: &str, body: serde_json::Value| {
        let reply = a.send(&a.operator(), &json("ssm", &format!("AmazonSSM.{operation}"), &body.to_string())).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    ssm("DeregisterManagedInstance", json!({"InstanceId": id.to_string()})).await;
    assert_eq!(verdict(a, &stolen).await, expired());
    let agent = Agent::new();
    assert_eq!(a.register(&agent, id).await.status, 200);
    assert_eq!(verdict(a, &stolen).await, expired(), "it was given for another registration");
    let next = given(b, &agent).await;
    assert_eq!((verdict(a, &next).await, verdict(b, &next).await), (good(), good()));
    assert_eq!(verdict(b, &stolen).await, expired());

    ssm("ResetServiceSetting", json!({"SettingId": SETTING})).await;
    assert_eq!(verdict(a, &next).await, expired());
    assert_eq!(a.pass_role(inborn_identity::MANAGEMENT_ROLE_NAME).await.status, 200);
    assert_eq!(verdict(a, &next).await, expired(), "it was given by another setting");
    let last = given(a, &agent).await;
    until("the setting is known", async || whoami(b, &next).await == expired()).await;
    assert_eq!((verdict(a, &last).await, verdict(b, &last).await), (good(), good()));
}

/// Also where the server that was told of it ends no machine any more: what counts is that the host's end is known.
#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_at_one_is_known_everywhere() {
    within(Duration::from_secs(5), eviction_is_known).await;
}

async fn eviction_is_known() -> Duration {
    let Fleet { a, b, store, .. } = &fleet(&[]).await;
    let digest = |secret: &[u8]| inborn_sigv4::sha256(secret);
    let accounts = [identity().account].into();
    let token = inborn_store::JoinToken { digest: digest(b"s"), accounts, created_at: NOW, expires_at: NOW.plus(60) };
    store.put_join_token(token).await.unwrap();
    let host = "h-0123456789abcdef0".parse().unwrap();
    let (name, public_key) = ("kvm-1".to_owned(), vec![4; 65]);
    let join = inborn_store::HostJoin { digest: digest(b"s"), id: host, name, public_key, at: NOW };
    // As another server does it: both hear of it.
    b.region.store().join_host(join).await.unwrap();
    let id = common::hosts::launch_on(a, host).await;
    let machine = a.machine(id);
    assert_eq!(verdict(b, &machine).await, (200, String::new()));
    let begun = std::time::Instant::now();
    store.change_host(host, inborn_store::HostChange::Evict).await.unwrap();
    b.region.store().change_host(host, inborn_store::HostChange::Evict).await.unwrap();
    until("an eviction is known", async || whoami(a, &machine).await == unknown()).await;
    let took = begun.elapsed();
    assert!(a.region.issue(id, inborn_credential::Delivery::V2, a.region.now()).is_none());
    // Whoever was to end its machines may have died over it.
    a.region.tidy().await;
    assert!(a.region.machines().get(id).is_none());
    took
}

/// A host that changes from one server to another must not lose a machine of which the other has not heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_told_nothing_by_who_has_not_heard() {
    let Fleet { a, b, of_b, .. } = &fleet_at(&[], today()).await;
    let (at_a, at_b) = (serve(a).await, serve(b).await);
    let host = common::hosts::Host::joined(a, &at_a).await;
    let before = launch_on(a, host.id()).await;
    until("the host is known", async || host.credentials(&at_b, &[before]).await.0 == 200).await;
    of_b.deafen().await;
    assert_eq!(host.credentials(&at_b, &[before]).await.0, 200, "what it knows for certain it gives");
    let id = launch_on(a, host.id()).await;
    let known: BTreeMap<String, String> = host
        .machines(&at_a)
        .await
        .changed
        .into_iter()
        .map(|one| (one.machine.instance.to_string(), one.version))
        .collect();
    assert_eq!(known.len(), 2);
    let ask = async || host.call(&at_b, MACHINES, &json!({ "known": known })).await.unwrap();
    let is_unavailable =
        |(status, answer): &(u16, serde_json::Value)| *status == 503 && answer["code"] == "unavailable";
    let (mut told, mut given) = (ask().await, host.credentials(&at_b, &[id]).await);
    assert!(is_unavailable(&told) && is_unavailable(&given), "{told:?} {given:?}");
    change(a, "TerminateInstances", before).await;
    of_b.silence(false);
    // Without a wait, but for what it takes to hear.
    until("it can tell", async || {
        given = host.credentials(&at_b, &[id]).await;
        !is_unavailable(&given)
    })
    .await;
    assert_eq!(given.0, 200, "{given:?}");
    until("it can tell", async || {
        told = ask().await;
        !is_unavailable(&told)
    })
    .await;
    let (status, told) = told;
    assert_eq!((status, &told["gone"], &told["changed"]), (200, &json!([before.to_string()]), &json!([])));
}

/// Accounts and keys that are made at one server count at the other within two seconds, and so do their ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_off_is_off_everywhere() {
    within(Duration::from_secs(2), longest_until_known).await;
}

async fn longest_until_known() -> Duration {
    let Fleet { a, b, .. } = &fleet(&[]).await;
    let owner = a.operator();
    let done = async |call: &str| {
        let reply = a.send(&owner, &ec2(call)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    };
    done("Action=Inborn.CreateAccount&AccountId=210987654321").await;
    let made = done("Action=Inborn.CreateOperator&AccountId=210987654321&Name=admin").await;
    let other = Signer {
        access_key_id: between(&made, "<accessKeyId>", "</accessKeyId>").to_owned(),
        secret: between(&made, "<secretAccessKey>", "</secretAccessKey>").to_owned(),
        token: None,
    };
    let is_let_in = async |at: &Running| at.send(&other, &call("sts", WHOAMI)).await.status == 200;
    let mut times = Vec::new();
    let mut known = async |expected: bool, what: &str| {
        let begun = tokio::time::Instant::now();
        until(what, async || is_let_in(b).await == expected).await;
        times.push(begun.elapsed());
    };
    known(true, "made").await;
    let change =
        |state: &str| format!("Action=Inborn.ModifyOperator&AccessKeyId={}&State={state}", other.access_key_id);
    done(&change("disabled")).await;
    assert!(!is_let_in(a).await);
    known(false, "disabled").await;
    done(&change("enabled")).await;
    known(true, "enabled").await;

    // What the other server launches in the account, and what it has there, ends with the account.
    let launch = ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1");
    let launched = b.send(&other, &launch).await;
    let id: InstanceId = between(&launched.body, "<instanceId>", "</instanceId>").parse().unwrap();
    let machine = b.machine(id);
    assert_eq!(b.send(&other, &ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"))).await.status, 200);
    let begun = tokio::time::Instant::now();
    let close = ec2("Action=Inborn.CloseAccount&AccountId=210987654321");
    until("it can be closed", async || a.send(&owner, &close).await.status == 200).await;
    let closed = begun.elapsed();
    known(false, "closed").await;
    assert_ne!(b.send(&machine, &call("sts", WHOAMI)).await.status, 200);
    times.into_iter().fold(closed, Duration::max)
}

/// An agent asks whichever server its call comes to, also the moment after it registered at another one.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_registered_elsewhere_is_known_at_once() {
    let Fleet { a, b, of_b, .. } = &fleet(&[]).await;
    let (_, _, known) = a.managed().await;
    until("the role is known", async || whoami(b, &known).await == good()).await;
    let (id, agent, stranger) = (a.launch().await, Agent::new(), Agent::new());
    until("the machine is known", async || whoami(b, &a.machine(id)).await == good()).await;
    of_b.deafen().await;
    assert_eq!(a.register(&agent, id).await.status, 200);
    let given = session(&a.role_token(&agent, id).await);
    let other = b.role_token(&stranger, id).await;
    assert_eq!(other.status, 400, "{}", other.body);
    // Once: it takes a second of the five after which it would answer nobody.
    assert_eq!(whoami(b, &given).await.0, 503, "who cannot tell says so, and nobody else makes it look");
    let reply = b.role_token(&agent, id).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(whoami(b, &session(&reply)).await, good());
    assert_eq!(whoami(b, &given).await, good());

    of_b.silence(false);
    until("it hears again", async || b.region.faults().await.is_empty()).await;
    let (_, role) = a.node().await;
    assert_eq!(verdict(b, &role).await, good(), "without a wait");
    let (id, _) = a.node().await;
    let sent = json!({
        "InstanceIds": [id.to_string()], "DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]},
    });
    let mut status = 503;
    until("it can tell", async || {
        status = b.ssm("SendCommand", sent.clone()).await.status;
        status != 503
    })
    .await;
    assert_eq!(status, 200);
}

/// Who is behind does not know which hosts have joined elsewhere, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_behind_does_not_say_that_a_host_is_not_there() {
    let Fleet { b, of_b, .. } = &fleet(&[]).await;
    let launch = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Placement.HostId=h-0123456789abcdef0";
    let launched = async || {
        let reply = b.send(&b.operator(), &ec2(launch)).await;
        (reply.status, between(&reply.body, "<Code>", "</Code>").to_owned())
    };
    of_b.deafen().await;
    assert_eq!(launched().await, (503, "Unavailable".to_owned()));
    of_b.silence(false);
    until("it hears again", async || launched().await == (400, "InvalidHostID.NotFound".to_owned())).await;
}
