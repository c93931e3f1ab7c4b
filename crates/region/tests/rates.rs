//! Rate limits over a real connection: AWS's throttling answers, and whom they do not touch.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;

use common::*;
use inborn_credential::Delivery;
use inborn_region::{KeySource, Rate, Rates};
use inborn_store::SqliteStore;

async fn limited(source: u32, principal: u32) -> Running {
    let rate = |per_second| Rate { per_second, burst: per_second };
    let rates = Rates { source: rate(source), principal: rate(principal) };
    start_with(tempfile::tempdir().unwrap(), Arc::new(SqliteStore::in_memory().unwrap()), KeySource::Ephemeral, rates)
        .await
}

#[tokio::test]
async fn a_principal_below_at_and_above_its_rate() {
    let running = limited(0, 5).await;
    let (one, two) = (running.launch().await, running.launch().await);
    let (one, two) = (running.machine(one), running.machine(two));
    let whoami = call("sts", WHOAMI);
    for call in 1..=5 {
        assert_eq!(running.send(&one, &whoami).await.status, 200, "{call}");
    }
    let reply = running.send(&one, &whoami).await;
    assert_eq!((reply.status, between(&reply.body, "<Code>", "</Code>")), (400, "Throttling"));
    assert_eq!(between(&reply.body, "<Message>", "</Message>"), "Rate exceeded");
    assert_eq!(running.send(&two, &whoami).await.status, 200, "another principal");
    running.clock.advance(1);
    assert_eq!(running.send(&one, &whoami).await.status, 200, "a second later");
}

#[tokio::test]
async fn all_keys_of_a_machine_are_one_principals() {
    let running = limited(0, 2).await;
    let id = running.launch().await;
    let by = |delivery| Signer::from(&running.region.issue(id, delivery, NOW).unwrap().credential);
    let (first, second) = (by(Delivery::V1), by(Delivery::V2));
    assert_ne!(first.access_key_id, second.access_key_id);
    let whoami = call("sts", WHOAMI);
    assert_eq!(running.send(&first, &whoami).await.status, 200);
    assert_eq!(running.send(&second, &whoami).await.status, 200);
    for signer in [&first, &second] {
        assert_eq!(between(&running.send(signer, &whoami).await.body, "<Code>", "</Code>"), "Throttling");
    }
}

#[tokio::test]
async fn services_that_are_not_here_count_too() {
    let running = limited(0, 2).await;
    let id = running.launch().await;
    let topics = call("sns", "Action=ListTopics&Version=2010-03-31");
    for code in ["InvalidClientTokenId", "InvalidClientTokenId", "Throttling"] {
        let reply = running.send(&running.machine(id), &topics).await;
        assert_eq!(between(&reply.body, "<Code>", "</Code>"), code);
    }
    let audit = running.audit();
    let told = |event: &serde_json::Value| (event["eventName"].clone(), event["errorCode"].clone());
    let last: Vec<_> = audit.iter().rev().take(2).map(told).collect();
    let expected = [("Unknown", "Throttling"), ("ListTopics", "InvalidClientTokenId")];
    assert_eq!(last, expected.map(|(name, code)| (name.into(), code.into())));
    assert!(audit.last().unwrap()["userIdentity"]["arn"].as_str().unwrap().ends_with(&id.to_string()), "who it was");
}

#[tokio::test]
async fn a_source_is_limited_before_anything_is_looked_at() {
    let running = limited(3, 0).await;
    let whoami = "POST / HTTP/1.1\r\nhost: sts.amazonaws.com\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for _ in 0..3 {
        assert_eq!(
            between(&exchange(running.address, whoami).await.body, "<Code>", "</Code>"),
            "MissingAuthenticationToken"
        );
    }
    assert_eq!(between(&exchange(running.address, whoami).await.body, "<Code>", "</Code>"), "Throttling");
}

#[tokio::test]
async fn one_who_calls_too_often_cannot_fill_the_audit() {
    let running = limited(0, 1).await;
    let machine = running.machine(running.launch().await);
    let text = running.signed(&machine, &call("sts", WHOAMI));
    for expected in std::iter::once(200).chain([400; 450]) {
        assert_eq!(exchange(running.address, &text).await.status, expected);
    }
    assert_eq!(running.audit().len(), 2 + 400, "the launch, the call, and what one source may write at once");
}

#[tokio::test]
async fn a_stranger_cannot_fill_the_audit() {
    let running = limited(0, 0).await;
    let mut forged = running.operator();
    forged.secret = "A".repeat(40);
    let text = running.signed(&forged, &call("sts", WHOAMI));
    for _ in 0..500 {
        assert_eq!(exchange(running.address, &text).await.status, 403);
    }
    assert_eq!(running.audit().len(), 400, "what one source may write at once");
    running.send(&running.operator(), &call("sts", WHOAMI)).await;
    assert_eq!(running.audit().len(), 401, "one who proved it is recorded all the same");
}
