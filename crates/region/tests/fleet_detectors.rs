//! Detectors over several region servers: what is set up at one counts at all, and no server writes over what another has set up.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::fleet::{Server, two, until};
use common::*;
use inborn_store::{Store, StoreError};
use inborn_testkit::Fault;
use serde_json::{Value, json as value};

/// What an operator asks, and what is answered.
async fn ask(at: &Server, method: &'static str, target: &str, body: &Value) -> (u16, Value) {
    let body = if method == "POST" { body.to_string() } else { String::new() };
    let headers = vec![("content-type", "application/json".to_owned())];
    let call = Call { method, target: target.to_owned(), headers, ..call("guardduty", &body) };
    let reply = at.send(&at.operator(), &call).await;
    (reply.status, serde_json::from_str(&reply.body).unwrap_or_default())
}

async fn done(at: &Server, method: &'static str, target: &str, body: &Value) -> Value {
    let (status, answer) = ask(at, method, target, body).await;
    assert_eq!(status, 200, "{method} {target} {answer}");
    answer
}

async fn created(at: &Server) -> String {
    let answer = done(at, "POST", "/detector", &value!({"enable": true, "tags": {"owner": "a"}})).await;
    answer["detectorId"].as_str().unwrap().to_owned()
}

fn filter(name: &str) -> Value {
    value!({"name": name, "findingCriteria": {"criterion": {"severity": {"gte": 9}}}})
}

async fn filters(at: &Server, id: &str) -> Value {
    done(at, "GET", &format!("/detector/{id}/filter"), &value!({})).await["filterNames"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_up_at_one_is_set_up_at_the_other() {
    let (_fleet, a, b) = two().await;
    let id = created(&a).await;
    let detector = format!("/detector/{id}");
    until("the other has it", async || ask(&b, "GET", &detector, &value!({})).await.0 == 200).await;
    assert_eq!(done(&b, "GET", &detector, &value!({})).await["tags"]["owner"], "a");
    done(&b, "POST", &detector, &value!({"enable": false})).await;
    until("it is off", async || done(&a, "GET", &detector, &value!({})).await["status"] == "DISABLED").await;
    done(&a, "POST", &format!("{detector}/filter"), &filter("one")).await;
    until("its filter is there", async || filters(&b, &id).await == value!(["one"])).await;
    done(&b, "DELETE", &format!("{detector}/filter/one"), &value!({})).await;
    until("its filter is gone", async || filters(&a, &id).await == value!([])).await;
    done(&a, "DELETE", &detector, &value!({})).await;
    until("it is gone", async || ask(&b, "GET", &detector, &value!({})).await.0 == 400).await;
    // Who makes another has not to wait for the news.
    let again = created(&b).await;
    assert_ne!(again, id);
    until("another is there", async || ask(&a, "GET", &format!("/detector/{again}"), &value!({})).await.0 == 200).await;
}

/// Lets one hear of all that another has done, and then of nothing again: who has not heard for five seconds changes nothing.
async fn hears_once(at: &Server, other: &Server) {
    at.link.silence(false);
    let id = other.launch().await;
    until("it hears", async || at.region.machines().get(id).is_some()).await;
    at.link.deafen().await;
}

/// A server that has not heard decides by what is there, not by what it remembers.
#[tokio::test(flavor = "multi_thread")]
async fn no_server_writes_over_what_another_has_set_up() {
    let (fleet, a, b) = two().await;
    let id = created(&a).await;
    let detector = format!("/detector/{id}");
    until("the other has it", async || ask(&b, "GET", &detector, &value!({})).await.0 == 200).await;
    b.link.deafen().await;
    done(&a, "POST", &detector, &value!({"findingPublishingFrequency": "ONE_HOUR"})).await;
    done(&a, "POST", &format!("{detector}/filter"), &filter("of-a")).await;
    done(&b, "POST", &detector, &value!({"enable": false})).await;
    done(&b, "POST", &format!("{detector}/filter"), &filter("of-b")).await;
    let shown = done(&b, "GET", &detector, &value!({})).await;
    assert_eq!((&shown["status"], &shown["findingPublishingFrequency"]), (&value!("DISABLED"), &value!("ONE_HOUR")));
    until("both have both", async || filters(&a, &id).await == value!(["of-a", "of-b"])).await;
    let shown = done(&a, "GET", &detector, &value!({})).await;
    assert_eq!((&shown["status"], &shown["findingPublishingFrequency"]), (&value!("DISABLED"), &value!("ONE_HOUR")));

    // A filter of which this one does not know yet is there all the same.
    hears_once(&b, &a).await;
    done(&a, "POST", &format!("{detector}/filter"), &filter("third")).await;
    let (status, refused) = ask(&b, "POST", &format!("{detector}/filter"), &filter("third")).await;
    assert_eq!((status, refused["message"].as_str().unwrap().contains("already exists")), (400, true), "{refused}");
    done(&a, "DELETE", &format!("{detector}/filter/third"), &value!({})).await;
    let (status, refused) = ask(&b, "POST", &format!("{detector}/filter/third"), &value!({"rank": 2})).await;
    assert_eq!(status, 400, "what was deleted does not come back by a change: {refused}");
    // And one that was deleted is made anew, though this one has not heard of the end.
    hears_once(&b, &a).await;
    done(&a, "DELETE", &detector, &value!({})).await;
    let again = created(&b).await;
    assert_eq!(fleet.store.detectors().await.unwrap().len(), 1);
    b.link.silence(false);
    until("it is known", async || ask(&a, "GET", &format!("/detector/{again}"), &value!({})).await.0 == 200).await;
}

/// A change of which nobody knows whether it was made is read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_was_lost_is_known_everywhere() {
    let (_fleet, a, b) = two().await;
    let id = created(&a).await;
    let detector = format!("/detector/{id}");
    until("the other has it", async || ask(&b, "GET", &detector, &value!({})).await.0 == 200).await;
    let lost = Fault::After(StoreError::Io("lost".to_owned()));
    // Beats are writes too.
    until("a change is lost", async || {
        b.link.fail_next(lost.clone());
        ask(&b, "POST", &detector, &value!({"enable": false})).await.0 == 500
    })
    .await;
    for server in [&a, &b] {
        until("it is off", async || done(server, "GET", &detector, &value!({})).await["status"] == "DISABLED").await;
    }
}
