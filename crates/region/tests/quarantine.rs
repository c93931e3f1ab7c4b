//! Quarantine: who is in it is let in nowhere and given nothing, what it had open is closed, and its release brings nothing
//! back that it had before.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use std::sync::Arc;

use common::session::{Scene, scene};
use common::verdict::*;
use common::*;
use inborn_credential::Delivery;
use inborn_identity::{AccountId, Clock, HostId, InstanceId};
use inborn_region::KeySource;
use inborn_store::{
    Conflict, HostJoin, Instance, JoinToken, LaunchRequest, Quarantine, QuarantineBasis, QuarantineScope, SqliteStore,
    Store, StoreError,
};
use inborn_testkit::{Fault, FaultyStore};

/// From the beginning of a quarantine on, nothing is good for so long that may have been prepared before.
const GIVEN_AFTER_SECONDS: u64 = 370;
/// How far clocks of servers may be apart.
const CLOCKS_APART_SECONDS: u64 = 60;

fn account() -> AccountId {
    identity().account
}

async fn put(at: &Running, subject: &str) -> Reply {
    let subject = subject.replace('*', "%2A");
    at.send(&at.operator(), &ec2(&format!("Action=Inborn.PutQuarantine&Subject.1={subject}&Reason=a%20test"))).await
}

async fn end(at: &Running, subject: &str) -> Reply {
    let subject = subject.replace('*', "%2A");
    at.send(&at.operator(), &ec2(&format!("Action=Inborn.EndQuarantine&Subject.1={subject}"))).await
}

#[tokio::test]
async fn a_machine_in_quarantine_is_unknown_and_given_nothing() {
    let running = start().await;
    let (id, agent, role) = running.managed().await;
    let other = running.launch().await;
    let (machine, others) = (running.machine(id), running.machine(other));
    assert_eq!(put(&running, &id.to_string()).await.status, 200);
    assert_eq!(whoami(&running, &machine).await, unknown());
    assert_eq!(whoami(&running, &role).await, unknown(), "its agent too");
    assert_eq!(running.twice_signed(&agent, &machine, "RequestManagedInstanceRoleToken", "{}").await.status, 400);
    assert!(running.region.issue(id, Delivery::V2, NOW).is_none());
    assert!(running.region.issue_management(id, NOW).is_none());
    assert_eq!(whoami(&running, &others).await, good());

    let described = running.send(&running.operator(), &ec2("Action=DescribeInstances")).await.body;
    assert_eq!(described.matches("<code>Inborn.Quarantine</code>").count(), 1, "{described}");
    let by = format!("arn:aws:iam::{}:user/operator", account());
    let expected = format!("Inborn.Quarantine: a test (of {id}, since 2027-01-15T08:00:00Z, by {by})");
    assert!(described.contains(&expected), "{described}");
    let listed = running.send(&running.operator(), &ec2("Action=Inborn.DescribeQuarantines")).await.body;
    assert_eq!(between(&listed, "<subject>", "</subject>"), id.to_string());
    assert_eq!(between(&listed, "<by>", "</by>"), by);

    for (name, reason) in [("Inborn.PutQuarantine", Some("a test")), ("Inborn.EndQuarantine", None)] {
        if reason.is_none() {
            assert_eq!(end(&running, &id.to_string()).await.status, 200);
        }
        let record = running.audit().into_iter().rfind(|line| line["eventName"] == name).unwrap();
        assert_eq!(record["readOnly"], false);
        assert_eq!(record["userIdentity"]["arn"], by);
        assert_eq!(record["responseElements"]["subjectSet"]["items"][0]["subject"], id.to_string());
        assert_eq!(record["requestParameters"]["Reason"].as_str(), reason, "{record}");
    }
}

/// What was stolen stays dead, what was prepared ahead of its time too, and what comes after is good.
#[tokio::test]
async fn a_release_brings_nothing_back() {
    let running = start().await;
    let id = running.launch().await;
    let before = running.machine(id);
    // What a host prepares: the generation that begins within the next five minutes.
    let next_at = running.region.issue(id, Delivery::V2, NOW).unwrap().next_at;
    running.clock.set(next_at.minus(300));
    let prepared: Signer = (&running.region.issue(id, Delivery::V2, next_at).unwrap().credential).into();
    let since = running.clock.now();
    assert_eq!(put(&running, &id.to_string()).await.status, 200);
    running.clock.advance(1);
    assert_eq!(end(&running, &id.to_string()).await.status, 200);
    for old in [&before, &prepared] {
        assert_eq!(whoami(&running, old).await, expired());
    }
    running.clock.set(next_at.plus(1));
    assert_eq!(whoami(&running, &prepared).await, expired(), "its time has come, and it is dead");
    let issued = running.region.issue(id, Delivery::V2, running.clock.now()).unwrap().credential;
    assert_eq!(issued.issued_at, since.plus(GIVEN_AFTER_SECONDS + CLOCKS_APART_SECONDS));
    assert_eq!(whoami(&running, &(&issued).into()).await, good(), "dated ahead, and good at once");
    running.clock.set(issued.issued_at);
    assert_eq!(whoami(&running, &(&issued).into()).await, good());

    // After a longer one nothing of that is left but what clocks may be apart.
    assert_eq!(put(&running, &id.to_string()).await.status, 200);
    running.clock.advance(GIVEN_AFTER_SECONDS);
    assert_eq!(end(&running, &id.to_string()).await.status, 200);
    assert_eq!(whoami(&running, &(&issued).into()).await, expired());
    running.clock.advance(1);
    let issued = running.region.issue(id, Delivery::V2, running.clock.now()).unwrap().credential;
    assert_eq!(issued.issued_at, running.clock.now().plus(CLOCKS_APART_SECONDS));
    assert_eq!(whoami(&running, &(&issued).into()).await, good());

    // At once again: what was issued behind the last cut-off is ended, too.
    assert_eq!(put(&running, &id.to_string()).await.status, 200);
    assert_eq!(end(&running, &id.to_string()).await.status, 200);
    assert_eq!(whoami(&running, &(&issued).into()).await, expired());
    assert_eq!(whoami(&running, &running.machine(id)).await, good());
}

#[tokio::test]
async fn what_was_open_is_closed() {
    for subject in ["*", "123456789012", "machine"] {
        let Scene { running, id, role, mut control, session, token } = scene().await;
        let mut agent = running.agent_side(&role, &session).await;
        let mut client = running.client_side(&session, &token).await;
        let subject = if subject == "machine" { id.to_string() } else { subject.to_owned() };
        assert_eq!(put(&running, &subject).await.status, 200);
        // Without a word from the agent.
        assert_eq!(control.closed().await, 1000, "{subject}");
        agent.closed().await;
        client.closed().await;
        let sessions = running.done("DescribeSessions", serde_json::json!({"State": "History"})).await;
        assert_eq!(sessions["Sessions"][0]["Details"], "The agent's session was cut off.", "{subject}: {sessions}");
    }
}

/// A machine that is placed on a host, beside another.
async fn on_a_host(store: &Arc<dyn Store>, key_source: KeySource) -> (HostId, InstanceId, InstanceId) {
    let running = start_on(Arc::clone(store), key_source).await;
    let elsewhere = running.launch().await;
    let token = JoinToken { digest: [1; 32], accounts: [account()].into(), created_at: NOW, expires_at: NOW.plus(60) };
    store.put_join_token(token).await.unwrap();
    let id: HostId = "h-0123456789abcdef0".parse().unwrap();
    let join = HostJoin { digest: [1; 32], id, name: "one".into(), public_key: vec![1], at: NOW };
    store.join_host(join).await.unwrap();
    let template = store.instance(elsewhere).await.unwrap().unwrap();
    let placed: InstanceId = "i-00000000000000abc".parse().unwrap();
    let reservation_id = "r-00000000000000abc".to_owned();
    let instance = Instance {
        id: placed,
        host: Some(id),
        reservation_id: reservation_id.clone(),
        client_token: None,
        attachment: None,
        mac: None,
        ..template
    };
    let launch = LaunchRequest {
        account: account(),
        client_token: None,
        fingerprint: [0; 32],
        reservation_id,
        instances: vec![instance],
    };
    store.launch(launch).await.unwrap();
    (id, placed, elsewhere)
}

#[tokio::test]
async fn a_host_is_its_machines_and_no_others() {
    let keys = tempfile::tempdir().unwrap();
    let key_source = || KeySource::File(keys.path().join("epoch.key"));
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let (host, placed, elsewhere) = on_a_host(&store, key_source()).await;
    let running = start_on(Arc::clone(&store), key_source()).await;
    let (machine, other) = (running.machine(placed), running.machine(elsewhere));
    assert_eq!(put(&running, &host.to_string()).await.status, 200);
    assert_eq!(whoami(&running, &machine).await, unknown());
    assert_eq!(whoami(&running, &other).await, good());
    // Two at a time: the release of the one is not that of the other.
    assert_eq!(put(&running, &placed.to_string()).await.status, 200);
    assert_eq!(end(&running, &host.to_string()).await.status, 200);
    assert!(running.region.issue(placed, Delivery::V2, NOW).is_none());
    assert_eq!(whoami(&running, &machine).await, expired(), "cut off with the release of its host");
    assert_eq!(end(&running, &placed.to_string()).await.status, 200);
    assert_eq!(whoami(&running, &machine).await, expired());
    assert_eq!(whoami(&running, &other).await, good());
}

#[tokio::test]
async fn it_lasts_over_a_restart() {
    let keys = tempfile::tempdir().unwrap();
    let key_source = || KeySource::File(keys.path().join("epoch.key"));
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_on(Arc::clone(&store), key_source()).await;
    let id = running.launch().await;
    let machine = running.machine(id);
    assert_eq!(put(&running, &id.to_string()).await.status, 200);
    let again = start_on(Arc::clone(&store), key_source()).await;
    assert_eq!(whoami(&again, &machine).await, unknown());
    assert_eq!(end(&again, &id.to_string()).await.status, 200);
    let third = start_on(store, key_source()).await;
    assert_eq!(whoami(&third, &machine).await, expired());
}

#[tokio::test]
async fn who_cannot_be_named_is_refused_and_nothing_happens() {
    let running = start().await;
    let id = running.launch().await;
    for subject in ["i-00000000000000001", "h-00000000000000001", "999999999999", "web", "*&Subject.2=x"] {
        let reply = put(&running, subject).await;
        assert_eq!(reply.status, 400, "{subject}: {}", reply.body);
    }
    assert_eq!(end(&running, &id.to_string()).await.status, 400, "not in quarantine");
    assert!(running.region.store().quarantines().await.unwrap().is_empty());
    let long = "r".repeat(Quarantine::REASON_BYTES_MAX + 1);
    for (reason, status) in [(long.as_str(), 400), (&long[1..], 200), ("a%0Ab", 400)] {
        let text = format!("Action=Inborn.PutQuarantine&Subject.1={id}&Reason={reason}");
        assert_eq!(running.send(&running.operator(), &ec2(&text)).await.status, status);
    }
}

#[tokio::test]
async fn quarantines_below_at_and_above_the_most() {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let keys = tempfile::tempdir().unwrap();
    let key_source = KeySource::File(keys.path().join("epoch.key"));
    // Whose they were nobody knows any more: they are in nobody's way.
    for number in 0..3 {
        let scope = QuarantineScope::Instance(id_of(0xfe, number));
        let quarantine = Quarantine { scope, reason: String::new(), by: String::new(), since: NOW };
        store.put_quarantine(quarantine, QuarantineBasis::Any).await.unwrap();
    }
    for thousand in 0..10_u64 {
        let machine = |number| Instance {
            id: id_of(0xff, number),
            account: account(),
            ami_launch_index: u32::try_from(number % 1000).unwrap(),
            reservation_id: format!("r-{thousand:017x}"),
            ..inborn_store::conformance::samples::bare(1)
        };
        let instances: Vec<Instance> = (thousand * 1000..thousand * 1000 + 1000).map(machine).collect();
        let (reservation_id, client_token) = (instances[0].reservation_id.clone(), None);
        let request =
            LaunchRequest { account: account(), client_token, fingerprint: [0; 32], reservation_id, instances };
        store.launch(request).await.unwrap();
    }
    for number in 0..9_998_u64 {
        let scope = QuarantineScope::Instance(id_of(0xff, number));
        let quarantine = Quarantine { scope, reason: String::new(), by: String::new(), since: NOW };
        store.put_quarantine(quarantine, QuarantineBasis::Any).await.unwrap();
    }
    let running = start_on(store, key_source).await;
    let ids = [running.launch().await, running.launch().await, running.launch().await];
    for (id, status) in [(ids[0], 200), (ids[1], 200), (ids[2], 400), (ids[0], 200)] {
        assert_eq!(put(&running, &id.to_string()).await.status, status);
    }
    assert!(put(&running, &ids[2].to_string()).await.body.contains("<Code>QuarantineLimitExceeded</Code>"));
    // Another account has its own, and what is wider is never refused.
    let other = running.operator_of(OTHER).await;
    let launch = ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1");
    let others = running.send(&other, &launch).await.body;
    let others = between(&others, "<instanceId>", "</instanceId>");
    let put_theirs = ec2(&format!("Action=Inborn.PutQuarantine&Subject.1={others}"));
    assert_eq!(running.send(&other, &put_theirs).await.status, 200);
    for subject in [OTHER, "*"] {
        assert_eq!(put(&running, subject).await.status, 200, "{subject}");
    }
    let count = || async { running.region.store().quarantines().await.unwrap().len() };
    assert_eq!(count().await, 10_000 + 3 + 1 + 2);
    running.region.tidy().await;
    assert_eq!(count().await, 10_000 + 1 + 2, "machines that are gone need none");
}

fn id_of(kind: u8, number: u64) -> InstanceId {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    InstanceId::from_bytes([kind, a, b, c, d, e, f, g, h])
}

const OTHER: &str = "210987654321";

/// What the region has against an account, a stolen key of the account must not undo; what the account did itself, it may.
#[tokio::test]
async fn an_account_in_quarantine_by_the_region_cannot_release_itself() {
    let running = start().await;
    let other = running.operator_of(OTHER).await;
    let (put_it, end_it) = (
        ec2(&format!("Action=Inborn.PutQuarantine&Subject.1={OTHER}")),
        ec2(&format!("Action=Inborn.EndQuarantine&Subject.1={OTHER}")),
    );
    for call in [&put_it, &put_it, &end_it] {
        assert_eq!(running.send(&other, call).await.status, 200, "its own");
    }
    assert_eq!(put(&running, OTHER).await.status, 200);
    for call in [&put_it, &end_it] {
        let reply = running.send(&other, call).await;
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains("only they can change that"), "{}", reply.body);
    }
    assert!(running.send(&other, &ec2("Action=Inborn.DescribeQuarantines")).await.body.contains(OTHER), "it sees why");
    assert_eq!(end(&running, OTHER).await.status, 200);
    assert_eq!(end(&running, OTHER).await.status, 400, "it was released");
}

/// After a write of which nobody knows whether it took effect, nobody is let in whom it may have ended.
#[tokio::test]
async fn a_store_that_fails() {
    let inner: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let store = Arc::new(FaultyStore::new(inner));
    let running = start_on(Arc::clone(&store) as _, KeySource::Ephemeral).await;
    let id = running.launch().await;
    let machine = running.machine(id);
    let subject = id.to_string();
    store.fail_next(Fault::io_before());
    assert_eq!(put(&running, &subject).await.status, 500);
    assert_eq!(whoami(&running, &machine).await, good());
    store.fail_next(Fault::io_after());
    assert_eq!(put(&running, &subject).await.status, 500);
    assert_eq!(whoami(&running, &machine).await, unknown());
    store.fail_next(Fault::io_before());
    assert_eq!(end(&running, &subject).await.status, 500);
    assert_ne!(whoami(&running, &machine).await, good());
    store.fail_next(Fault::io_after());
    assert_eq!(end(&running, &subject).await.status, 500);
    assert_ne!(whoami(&running, &machine).await, good());
    // It has taken effect, and whoever asks again learns so.
    assert_eq!(end(&running, &subject).await.status, 400);
    assert_eq!(whoami(&running, &machine).await, expired());
}

/// What a release would have ended that came to nothing, one server alone would know of: it would date what it issues by that.
#[tokio::test]
async fn a_release_that_came_to_nothing_ends_nothing() {
    let store = Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())));
    let running = start_on(Arc::clone(&store) as _, KeySource::Ephemeral).await;
    let id = running.launch().await;
    assert_eq!(put(&running, &id.to_string()).await.status, 200);
    let later = NOW.plus(3600);
    running.clock.set(later.plus(30));
    store.fail_next(Fault::io_before());
    assert_eq!(end(&running, &id.to_string()).await.status, 500);
    assert!(running.region.issue(id, Delivery::V2, later).is_none(), "it is in quarantine still");
    // As another server does, whose clock is behind.
    running.clock.set(later);
    assert_eq!(end(&running, &id.to_string()).await.status, 200);
    let issued = running.region.issue(id, Delivery::V2, later).unwrap().credential;
    assert_eq!(issued.issued_at, later.plus(1 + CLOCKS_APART_SECONDS));
    assert_eq!(whoami(&running, &(&issued).into()).await, good());
}

/// As a commit that waits for a standby: the quarantine says that it began when it was asked for, and until it took effect hosts were given
/// credentials ahead of their time.
#[tokio::test]
async fn a_quarantine_that_took_effect_late_is_not_undone_by_its_release() {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_on(Arc::clone(&store), KeySource::Ephemeral).await;
    let id = running.launch().await;
    let (scope, other) = (QuarantineScope::Instance(id), running.launch().await);
    let late = NOW.plus(300);
    running.clock.set(late);
    let prepared = running.region.issue(id, Delivery::V2, late.plus(GIVEN_AFTER_SECONDS)).unwrap();
    let (by, reason) = (format!("arn:aws:iam::{}:user/operator", account()), String::new());
    store.put_quarantine(Quarantine { scope, since: NOW, by, reason }, QuarantineBasis::Any).await.unwrap();
    // This server hears of it with one of its own.
    assert_eq!(put(&running, &other.to_string()).await.status, 200);
    assert!(running.region.issue(id, Delivery::V2, late).is_none());
    assert_eq!(end(&running, &id.to_string()).await.status, 200);
    let issued = running.region.issue(id, Delivery::V2, late).unwrap().credential;
    assert_eq!(issued.issued_at, late.plus(GIVEN_AFTER_SECONDS + CLOCKS_APART_SECONDS));
    assert_eq!(whoami(&running, &(&prepared.credential).into()).await, expired());
}

/// An account whose quarantine others change each time between what was read and what is written.
#[tokio::test]
async fn attempts_below_at_and_above_the_most() {
    let store = Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())));
    let running = start_on(Arc::clone(&store) as _, KeySource::Ephemeral).await;
    let other = running.operator_of(OTHER).await;
    let scope = QuarantineScope::Account(OTHER.parse().unwrap());
    for action in ["Inborn.PutQuarantine", "Inborn.EndQuarantine"] {
        for (conflicts, status) in [(9, 503), (8, 503), (7, 200)] {
            let first = store.writes();
            for write in first..first + conflicts {
                store.fail(write, Fault::Before(StoreError::Conflict(Conflict::QuarantineChanged(scope))));
            }
            let call = ec2(&format!("Action={action}&Subject.1={OTHER}"));
            assert_eq!(running.send(&other, &call).await.status, status, "{action} {conflicts}");
            assert_eq!(store.writes(), first + 8, "{action} {conflicts}");
        }
    }
    assert!(store.quarantines().await.unwrap().is_empty());
}
