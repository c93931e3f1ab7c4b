//! Hosts: who is let in, what each is given, and that one that is cut off gets nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use core::time::Duration;
use std::sync::Arc;

use common::hosts::{Endpoint, Host, join_token, launch_on, serve, today};
use common::*;
use inborn_fleet::{CREDENTIALS, CREDENTIALS_MAX, DOCUMENT, JOIN, MACHINES, RENEW};
use inborn_identity::{Clock, InstanceId};
use inborn_pki::{HOST_LIFE_SECONDS, HostCertificate, HostKey, HostsAuthority};
use inborn_region::{EpochSettings, FleetSettings, KeySource, Opening, Rates, TelemetrySettings};
use inborn_store::{SqliteStore, Store};
use inborn_testkit::FaultyStore;
use serde_json::json;

async fn region() -> (Running, Endpoint) {
    region_over(Arc::new(SqliteStore::in_memory().unwrap()), None).await
}

async fn region_over(store: Arc<dyn Store>, fleet: Option<FleetSettings>) -> (Running, Endpoint) {
    let directory = tempfile::tempdir().unwrap();
    let opening = Opening {
        identity: identity(),
        key_source: KeySource::Ephemeral,
        audit_file: directory.path().join("audit.jsonl"),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
        fleet,
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
    };
    let running = start_at(directory, store, opening, today()).await;
    let endpoint = serve(&running).await;
    (running, endpoint)
}

fn refused(code: &str) -> impl Fn(&(u16, serde_json::Value)) -> bool {
    move |(status, answer)| *status != 200 && answer["code"] == code
}

async fn operate(running: &Running, parameters: &str) -> (u16, String) {
    let reply = running.send(&running.operator(), &ec2(parameters)).await;
    let code = if reply.status == 200 { String::new() } else { between(&reply.body, "<Code>", "</Code>").to_owned() };
    (reply.status, code)
}

#[tokio::test]
async fn a_token_lets_one_host_in_and_no_second() {
    let (running, at) = region().await;
    let token = join_token(&running, "").await;
    assert_eq!(token.authority(), at.authority, "the host knows whom to trust");
    let host = Host::new();
    let mut wrong = *token.secret();
    wrong[0] ^= 1;
    assert!(refused("join-token-refused")(&host.join(&at, &wrong).await), "a wrong one");
    let (status, answer) = host.join(&at, token.secret()).await;
    assert_eq!((status, answer["region"].as_str()), (200, Some("eu-central-1")), "{answer}");
    let certificate = HostCertificate::from_pem(answer["certificate"].as_str().unwrap()).unwrap();
    assert_eq!(certificate.host.to_string(), answer["host"]);
    assert_eq!(certificate.public_key, host.key.public_key());
    assert!(refused("join-token-refused")(&Host::new().join(&at, token.secret()).await), "a used one");
    let audit = running.audit();
    let joined: Vec<_> = audit.iter().filter(|line| line["eventName"] == "Inborn.HostJoined").collect();
    assert_eq!(joined.len(), 1, "who was refused has not joined: {joined:?}");
    assert_eq!(joined[0]["requestParameters"]["hostId"], answer["host"]);
    assert_eq!(joined[0]["sourceIPAddress"], "127.0.0.1");
    let token = join_token(&running, "&Seconds=60").await;
    running.clock.advance(60);
    assert!(refused("join-token-refused")(&Host::new().join(&at, token.secret()).await), "one that has ended");
    let token = join_token(&running, "&Seconds=60").await;
    running.clock.advance(59);
    assert_eq!(Host::new().join(&at, token.secret()).await.0, 200, "one that ends in a second");
}

/// A token that may be in other hands is worth nothing any more, and nobody need know which they are.
#[tokio::test]
async fn tokens_are_revoked_all_at_once() {
    let (running, at) = region().await;
    let tokens = [join_token(&running, "").await, join_token(&running, "&Seconds=86400").await];
    let revoked = running.send(&running.operator(), &ec2("Action=Inborn.RevokeJoinTokens")).await;
    assert_eq!((revoked.status, between(&revoked.body, "<revokedTokenCount>", "<")), (200, "2"), "{}", revoked.body);
    for token in tokens {
        assert!(refused("join-token-refused")(&Host::new().join(&at, token.secret()).await));
    }
    let next = join_token(&running, "").await;
    assert_eq!(Host::new().join(&at, next.secret()).await.0, 200);
}

/// Who guesses at secrets is told to wait, and whoever comes from the same address: each guess costs a transaction. A good token costs nothing.
#[tokio::test]
async fn those_who_guess_at_tokens_are_bounded() {
    let (running, at) = region().await;
    for _ in 0..3 {
        assert_eq!(Host::new().join(&at, join_token(&running, "").await.secret()).await.0, 200);
    }
    let (host, token) = (Host::new(), join_token(&running, "").await);
    for _ in 0..60 {
        assert!(refused("join-token-refused")(&host.join(&at, &[0; 32]).await));
    }
    assert!(refused("busy")(&host.join(&at, &[0; 32]).await));
    assert!(refused("busy")(&host.join(&at, token.secret()).await));
    running.clock.advance(1);
    assert_eq!(host.join(&at, token.secret()).await.0, 200);
}

#[tokio::test]
async fn what_is_no_key_costs_no_token() {
    let (running, at) = region().await;
    let token = join_token(&running, "").await;
    let secret = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(token.secret())
    };
    for (name, key) in [("kvm-1", "BAAA"), ("", "BAAA"), ("a b", "BAAA")] {
        let asked = json!({ "secret": secret, "name": name, "public_key": key });
        let answer = Host::new().call(&at, JOIN, &asked).await.unwrap();
        assert!(refused("malformed")(&answer), "{answer:?}");
    }
    assert_eq!(Host::new().join(&at, token.secret()).await.0, 200);
}

#[tokio::test]
async fn the_life_of_a_token_below_at_and_above_the_limits() {
    let (running, _) = region().await;
    for (seconds, is_fine) in [(59, false), (60, true), (86_400, true), (86_401, false)] {
        let (status, _) = operate(&running, &format!("Action=Inborn.CreateJoinToken&Seconds={seconds}")).await;
        assert_eq!(status == 200, is_fine, "{seconds}");
    }
    let accounts = |count: u64| {
        let list: String = (1..=count).map(|number| format!("&AccountId.{number}={number:012}")).collect();
        format!("Action=Inborn.CreateJoinToken{list}")
    };
    // A host would serve nobody of an account that is not there, or was closed.
    assert_eq!(operate(&running, &accounts(1)).await, (400, "InvalidAccountId.NotFound".to_owned()));
    for number in 1..=102 {
        let (status, said) =
            operate(&running, &format!("Action=Inborn.CreateAccount&Name=n&AccountId={number:012}")).await;
        assert_eq!(status, 200, "{said}");
    }
    assert_eq!(operate(&running, &accounts(100)).await.0, 200);
    assert_eq!(operate(&running, &accounts(101)).await, (400, "InvalidParameterValue".to_owned()));
    assert_eq!(operate(&running, "Action=Inborn.CloseAccount&AccountId=000000000102").await.0, 200);
    let closed = operate(&running, "Action=Inborn.CreateJoinToken&AccountId.1=000000000102").await;
    assert_eq!(closed, (400, "InvalidAccountId.NotFound".to_owned()));
    let audit = std::fs::read_to_string(running.directory.path().join("audit.jsonl")).unwrap();
    assert!(audit.contains("Inborn.CreateJoinToken") && !audit.contains("inbj1_"), "no token is in the audit");
}

/// Only a certificate that the region gave to a host, for the key it joined with, and that has not ended.
#[tokio::test]
async fn who_is_no_host_is_told_nothing() {
    let (running, at) = region().await;
    let host = Host::joined(&running, &at).await;
    let id = launch_on(&running, host.id()).await;
    let calls = [
        (RENEW, json!({})),
        (MACHINES, json!({ "known": {} })),
        (CREDENTIALS, json!({ "instances": [id.to_string()] })),
        (DOCUMENT, json!({ "instance": id.to_string() })),
    ];
    let authority = running.region.hosts_authority();
    let (now, key) = (running.region.now(), || HostKey::generate().unwrap());
    let with = |key: HostKey, certificate: Option<String>| Host { key, certificate, id: None };
    for (path, asked) in &calls {
        let nobody = with(key(), None).call(&at, path, asked).await.unwrap();
        assert!(refused("not-joined")(&nobody), "{path}: without a certificate: {nobody:?}");
        let other = key();
        let anothers = authority.certify(host.id(), other.public_key(), now).unwrap();
        let answer = with(other, Some(anothers)).call(&at, path, asked).await.unwrap();
        assert!(refused("not-joined")(&answer), "{path}: the host's name and another key: {answer:?}");
        let other = key();
        let unknown = authority.certify("h-00000000000000001".parse().unwrap(), other.public_key(), now).unwrap();
        let answer = with(other, Some(unknown)).call(&at, path, asked).await.unwrap();
        assert!(refused("not-joined")(&answer), "{path}: a host that is not in the store: {answer:?}");
        let other = key();
        let (foreign, _) = HostsAuthority::create(&identity().region, now).unwrap();
        let own = foreign.certify(host.id(), other.public_key(), now).unwrap();
        assert!(with(other, Some(own)).call(&at, path, asked).await.is_err(), "{path}: an authority of one's own");
        let ended = authority.certify(host.id(), host.key.public_key(), now.minus(HOST_LIFE_SECONDS + 60)).unwrap();
        let again = with(HostKey::from_pkcs8(&host.key.to_pkcs8()).unwrap(), Some(ended));
        assert!(again.call(&at, path, asked).await.is_err(), "{path}: a certificate that has ended");
    }
    // A connection may last longer than its certificate.
    running.clock.advance(HOST_LIFE_SECONDS + 1);
    for (path, asked) in &calls {
        let answer = host.call(&at, path, asked).await.unwrap();
        assert!(refused("not-joined")(&answer), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_host_is_given_what_its_machines_hold() {
    let (running, at) = region().await;
    let host = Host::joined(&running, &at).await;
    let id = launch_on(&running, host.id()).await;
    let changed = host.machines(&at).await;
    assert_eq!((changed.changed.len(), changed.gone.len(), changed.more), (1, 0, false));
    assert_eq!((changed.changed[0].machine.instance, changed.changed[0].machine.is_running), (id, true));
    let (status, answer) = host.credentials(&at, &[id]).await;
    assert_eq!(status, 200, "{answer}");
    let given = &answer["generations"][0]["v2"];
    let text = |name: &str| given[name].as_str().unwrap().to_owned();
    let signer = Signer {
        access_key_id: text("access_key_id"),
        secret: text("secret_access_key"),
        token: Some(text("session_token")),
    };
    assert_eq!(signer.secret, running.machine(id).secret, "the bytes that the region itself would give");
    assert_eq!(running.send(&signer, &call("sts", WHOAMI)).await.status, 200);
    running.region.complete_signers().await.unwrap();
    let (status, answer) = host.call(&at, DOCUMENT, &json!({ "instance": id.to_string() })).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    assert!(answer["document"].as_str().unwrap().contains(&id.to_string()), "{answer}");
    let (status, answer) = host.call(&at, RENEW, &json!({})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let next = HostCertificate::from_pem(answer["certificate"].as_str().unwrap()).unwrap();
    assert_eq!((next.host, next.public_key.as_slice()), (host.id(), host.key.public_key()));
}

/// Also not in a request in which the others are its own.
#[tokio::test]
async fn a_host_gets_nothing_of_machines_that_are_not_on_it() {
    let (running, at) = region().await;
    let (host, other) = (Host::joined(&running, &at).await, Host::joined(&running, &at).await);
    let (own, others) = (launch_on(&running, host.id()).await, launch_on(&running, other.id()).await);
    let at_home = running.launch().await;
    let nowhere: InstanceId = "i-0123456789abcdef0".parse().unwrap();
    for foreign in [others, at_home, nowhere] {
        for asked in [vec![foreign], vec![own, foreign]] {
            let answer = host.credentials(&at, &asked).await;
            assert!(refused("not-placed")(&answer), "{answer:?}");
        }
        let answer = host.call(&at, DOCUMENT, &json!({ "instance": foreign.to_string() })).await.unwrap();
        assert!(refused("not-placed")(&answer), "{answer:?}");
    }
    let told = host.machines(&at).await.changed;
    assert_eq!(told.iter().map(|given| given.machine.instance).collect::<Vec<_>>(), [own]);
    // What it says that it knows does not make it the host's either.
    let known = json!({ "known": { others.to_string(): "v" } });
    let (status, answer) = host.call(&at, MACHINES, &known).await.unwrap();
    assert_eq!((status, answer["gone"][0].as_str()), (200, Some(others.to_string().as_str())));
    for (count, is_fine) in [(0, false), (1, true), (CREDENTIALS_MAX, true), (CREDENTIALS_MAX + 1, false)] {
        assert_eq!(host.credentials(&at, &vec![own; count]).await.0 == 200, is_fine, "{count}");
    }
}

/// From the moment that the operator is answered.
#[tokio::test]
async fn an_evicted_host_is_cut_off_with_all_that_was_given_to_it() {
    let (running, at) = region().await;
    let host = Host::joined(&running, &at).await;
    let (id, at_home) = (launch_on(&running, host.id()).await, running.launch().await);
    let machine = running.machine(id);
    assert_eq!(running.send(&machine, &call("sts", WHOAMI)).await.status, 200);
    let waiting = json!({ "known": { id.to_string(): host.machines(&at).await.changed[0].version } });
    let evict = async {
        // The host is waiting by then.
        tokio::time::sleep(core::time::Duration::from_millis(300)).await;
        operate(&running, &format!("Action=Inborn.EvictHost&HostId={}", host.id())).await
    };
    let (waited, evicted) = tokio::join!(host.call(&at, MACHINES, &waiting), evict);
    assert_eq!(evicted.0, 200, "{evicted:?}");
    assert!(refused("evicted")(&waited.unwrap()), "who waits is told at once");
    let reply = running.send(&machine, &call("sts", WHOAMI)).await;
    assert_eq!((reply.status, between(&reply.body, "<Code>", "</Code>")), (403, "InvalidClientTokenId"));
    assert!(running.region.machines().get(id).is_none(), "the machine has ended");
    assert!(running.region.machines().get(at_home).is_some(), "no other one");
    for (path, asked) in [
        (RENEW, json!({})),
        (MACHINES, json!({ "known": {} })),
        (CREDENTIALS, json!({ "instances": [id.to_string()] })),
        (DOCUMENT, json!({ "instance": id.to_string() })),
    ] {
        assert!(refused("evicted")(&host.call(&at, path, &asked).await.unwrap()), "{path}");
    }
    let launch =
        format!("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Placement.HostId={}", host.id());
    assert_eq!(operate(&running, &launch).await, (400, "InvalidHostState".to_owned()));
    let drain = format!("Action=Inborn.DrainHost&HostId={}", host.id());
    assert_eq!(operate(&running, &drain).await.0, 200, "and stays evicted");
    assert!(refused("evicted")(&host.call(&at, RENEW, &json!({})).await.unwrap()));
}

/// A server that has not heard the others may not know of an eviction. What counts is what it has heard when it answers, not when
/// a request began that was sent slowly.
#[tokio::test]
async fn a_body_that_comes_late_is_judged_by_what_is_so_then() {
    let shared: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let store = Arc::new(FaultyStore::of_another_program(shared));
    let (running, at) = region_over(Arc::clone(&store) as _, Some(FleetSettings::default())).await;
    let host = Host::joined(&running, &at).await;
    let id = launch_on(&running, host.id()).await;
    let asked = json!({ "instances": [id.to_string()] });
    let slowly = async |is_away: bool| {
        let meanwhile = async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if is_away {
                store.deafen().await;
                running.clock.advance(7);
            }
        };
        host.call_around(&at, CREDENTIALS, &asked, meanwhile).await.unwrap()
    };
    assert_eq!(slowly(false).await.0, 200);
    let answer = slowly(true).await;
    assert!(refused("unavailable")(&answer), "{}", answer.0);
}

#[tokio::test]
async fn a_drained_host_serves_what_it_has_and_is_given_no_more() {
    let (running, at) = region().await;
    let host = Host::joined(&running, &at).await;
    let id = launch_on(&running, host.id()).await;
    let drain = format!("Action=Inborn.DrainHost&HostId={}", host.id());
    assert_eq!(operate(&running, &drain).await.0, 200);
    let launch =
        format!("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Placement.HostId={}", host.id());
    assert_eq!(operate(&running, &launch).await, (400, "InvalidHostState".to_owned()));
    assert_eq!(host.credentials(&at, &[id]).await.0, 200);
    let reply = running.send(&running.operator(), &ec2("Action=Inborn.DescribeHosts")).await;
    assert_eq!(between(&reply.body, "<state>", "</state>"), "draining");
    assert_eq!(between(&reply.body, "<instanceCount>", "</instanceCount>"), "1");
    let terminate = format!("Action=TerminateInstances&InstanceId.1={id}");
    assert_eq!(operate(&running, &terminate).await.0, 200);
    let reply = running.send(&running.operator(), &ec2("Action=Inborn.DescribeHosts")).await;
    assert_eq!(between(&reply.body, "<instanceCount>", "</instanceCount>"), "0");
    assert!(refused("not-placed")(&host.credentials(&at, &[id]).await), "it has ended");
}

#[tokio::test]
async fn machines_are_placed_where_their_account_may_be() {
    let (running, at) = region().await;
    let launch =
        |host: &str| format!("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Placement.HostId={host}");
    assert_eq!(operate(&running, &launch("x")).await, (400, "InvalidHostID.Malformed".to_owned()));
    let nowhere = "h-0123456789abcdef0";
    assert_eq!(operate(&running, &launch(nowhere)).await, (400, "InvalidHostID.NotFound".to_owned()));
    let other = running.operator_of("999999999999").await;
    let host = Host::joined_for(&running, &at, "&AccountId.1=999999999999").await;
    let of_others = launch(&host.id().to_string());
    assert_eq!(
        operate(&running, &of_others).await,
        (400, "InvalidHostID.NotFound".to_owned()),
        "as if it were not there"
    );
    let placed = running.send(&other, &ec2(&of_others)).await;
    let placed = between(&placed.body, "<instanceId>", "</instanceId>").parse().unwrap();
    assert_eq!(host.credentials(&at, &[placed]).await.0, 200);
    let shared = Host::joined_for(&running, &at, "&AccountId.1=999999999999&AccountId.2=123456789012").await;
    for operator in [&other, &running.operator()] {
        let placed = running.send(operator, &ec2(&launch(&shared.id().to_string()))).await;
        assert_eq!(placed.status, 200, "{}", placed.body);
    }
    assert_eq!(shared.machines(&at).await.changed.len(), 2);
    let own = Host::joined(&running, &at).await;
    let lease = format!("{}&Inborn.Lease=true", launch(&own.id().to_string()));
    assert_eq!(operate(&running, &lease).await, (400, "InvalidParameterCombination".to_owned()));
    assert_eq!(
        operate(&running, "Action=Inborn.EvictHost&HostId=h-0123456789abcdef0").await.1,
        "InvalidHostID.NotFound"
    );
}

/// Who waits is told at once, and is given what the record says: nothing in quarantine, and anew after a release.
#[tokio::test]
async fn a_host_hears_of_a_quarantine_and_of_its_end() {
    let (running, at) = region().await;
    let host = Host::joined(&running, &at).await;
    let id = launch_on(&running, host.id()).await;
    let first = host.machines(&at).await.changed.remove(0);
    assert!(!first.machine.is_withheld && first.machine.credentials_since == 0);
    let mut known = first.version;
    for (action, is_withheld) in [("Inborn.PutQuarantine", true), ("Inborn.EndQuarantine", false)] {
        let waiting = json!({ "known": { id.to_string(): known } });
        let change = async {
            // The host is waiting by then.
            tokio::time::sleep(core::time::Duration::from_millis(300)).await;
            operate(&running, &format!("Action={action}&Subject.1={id}")).await
        };
        let (waited, done) = tokio::join!(host.call(&at, MACHINES, &waiting), change);
        assert_eq!(done.0, 200, "{done:?}");
        let (status, answer) = waited.unwrap();
        assert_eq!((status, answer["spread_seconds"].as_u64()), (200, Some(1)), "{answer}");
        let told = &answer["changed"][0];
        assert_eq!(told["machine"]["is_withheld"], is_withheld, "{told}");
        known = told["version"].as_str().unwrap().to_owned();
        let (status, given) = host.credentials(&at, &[id]).await;
        assert_eq!((status, given["generations"].as_array().unwrap().is_empty()), (200, is_withheld), "{given}");
        if !is_withheld {
            let since = told["machine"]["credentials_since"].as_u64().unwrap();
            let issued_at = given["generations"][0]["issued_at"].as_u64().unwrap();
            assert!(since > running.clock.now().as_secs() && issued_at >= since, "behind all that was given before");
        }
    }
}
