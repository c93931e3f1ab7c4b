//! GuardDuty over a real socket, the clock set by hand.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use inborn_detect::finding::{InstanceDetails, Resource};
use inborn_detect::{Finding, FindingType, Severity};
use inborn_identity::InstanceId;
use inborn_region::{Appending, DetectionSettings, FindingOutput, Kept, KeySource, Sink};
use inborn_store::{SqliteStore, Store};
use inborn_telemetry::Batch;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes everything.
struct Takes;

impl Sink for Takes {
    fn append(&self, batch: Batch) -> Appending<'_> {
        Box::pin(async { Ok(Kept { new: batch.into(), duplicates: 0 }) })
    }
}

/// A call as it stands, and the status and body of its answer.
async fn ask(running: &Running, method: &'static str, target: &str, body: &str) -> (u16, Value) {
    let headers = vec![("content-type", "application/json".to_owned())];
    let call = Call { method, target: target.to_owned(), headers, ..call("guardduty", body) };
    let reply = running.send(&running.operator(), &call).await;
    (reply.status, serde_json::from_str(&reply.body).unwrap_or_default())
}

async fn get(running: &Running, target: &str) -> Value {
    let (status, body) = ask(running, "GET", target, "").await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn post(running: &Running, target: &str, body: Value) -> Value {
    let (status, body) = ask(running, "POST", target, &body.to_string()).await;
    assert_eq!(status, 200, "{body}");
    body
}

/// A machine's sign of life.
async fn alive(running: &Running, instance: InstanceId) {
    let headers = vec![("content-type", "application/x-protobuf".to_owned())];
    let host = "guardduty-data.eu-central-1.amazonaws.com".to_owned();
    let call = Call { target: "/v1/logs".to_owned(), host, headers, ..call("guardduty", "") };
    let reply = running.send(&running.machine(instance), &call).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// Waits until the region has made what it makes beside its answers.
async fn detector(running: &Running) -> String {
    let begun = Instant::now();
    loop {
        if let Some(id) = get(running, "/detector").await["detectorIds"][0].as_str() {
            return id.to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "no detector");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn coverage(running: &Running, detector: &str) -> Vec<(String, String, Value)> {
    let answer = post(running, &format!("/detector/{detector}/coverage"), json!({})).await;
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let resources = answer["resources"].as_array().unwrap().iter();
    resources.map(|one| (text(one, "resourceId"), text(one, "coverageStatus"), one["issue"].clone())).collect()
}

fn finding(running: &Running, instance: InstanceId) -> Finding {
    let identity = running.region.identity();
    Finding {
        kind: FindingType::named("Execution:Runtime/ReverseShell").unwrap(),
        severity: Severity::High,
        title: "a shell".to_owned(),
        description: "a shell is tied to a connection".to_owned(),
        partition: identity.partition,
        account: identity.account,
        region: identity.region.clone(),
        resource: Resource { instance: Some(InstanceDetails::of(instance)), ..Resource::default() },
        action: None,
        runtime: None,
        threat_lists: Vec::new(),
        rule: None,
        subject: "a".to_owned(),
        count: 1,
        first_seen: NOW,
        last_seen: NOW,
    }
}

#[tokio::test]
async fn coverage_is_told_from_facts_and_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let key = || KeySource::File(directory.path().join("key"));
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_on(Arc::clone(&store), key()).await;
    running.region.telemetry().keep_in(Arc::new(Takes));
    let (speaks, silent) = (running.launch().await, running.launch().await);
    alive(&running, speaks).await;
    let id = detector(&running).await;
    let healthy = (speaks.to_string(), "HEALTHY".to_owned(), Value::Null);
    let never = (silent.to_string(), "UNHEALTHY".to_owned(), json!("No Agent Reporting"));
    let gone = (speaks.to_string(), "UNHEALTHY".to_owned(), json!("No Agent Reporting: Agent disconnected"));
    let sorted = |mut all: Vec<_>| {
        all.sort_by_key(|one: &(String, String, Value)| one.0.clone());
        all
    };
    let expect = |first: &(String, String, Value)| sorted(vec![first.clone(), never.clone()]);
    assert_eq!(coverage(&running, &id).await, expect(&healthy));
    running.clock.set(NOW.plus(599));
    assert_eq!(coverage(&running, &id).await, expect(&healthy));
    running.clock.set(NOW.plus(600));
    assert_eq!(coverage(&running, &id).await, expect(&gone));
    alive(&running, speaks).await;
    assert_eq!(coverage(&running, &id).await, expect(&healthy));
    running.region.tidy().await;

    let again = start_on(store, key()).await;
    again.clock.set(NOW.plus(601));
    assert_eq!(coverage(&again, &id).await, expect(&healthy));
    // A machine that is off says nothing, and one that is gone is nobody's.
    let stop = ec2(&format!("Action=StopInstances&InstanceId.1={speaks}"));
    assert_eq!(again.send(&again.operator(), &stop).await.status, 200);
    assert_eq!(coverage(&again, &id).await, expect(&gone));
    let end = ec2(&format!("Action=TerminateInstances&InstanceId.1={speaks}"));
    assert_eq!(again.send(&again.operator(), &end).await.status, 200);
    assert_eq!(coverage(&again, &id).await, vec![never]);
}

/// Passes on what it is told.
struct Tells(mpsc::Sender<(Value, Value)>);

impl FindingOutput for Tells {
    fn recorded(&self, line: &Arc<str>) {
        let line: Value = serde_json::from_str(line).unwrap();
        let _ = self.0.try_send((line["finding_info"]["types"][0].clone(), line["activity_name"].clone()));
    }
}

#[tokio::test]
async fn what_is_found_is_stored_within_a_moment_and_told() {
    let running = start().await;
    let instance = running.launch().await;
    let (tell, mut told) = mpsc::channel(10);
    running.region.keep_findings();
    running.region.detection().tell(vec![Arc::new(Tells(tell))]);
    running.region.detect(DetectionSettings::default());
    for activity in ["Create", "Update"] {
        running.region.detection().found(finding(&running, instance));
        let heard = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
        assert_eq!(heard, (json!("Execution:Runtime/ReverseShell"), json!(activity)));
    }
    let id = detector(&running).await;
    let ids = post(&running, &format!("/detector/{id}/findings"), json!({})).await["findingIds"].clone();
    let found = post(&running, &format!("/detector/{id}/findings/get"), json!({"findingIds": ids})).await;
    let [found] = found["findings"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!(found["service"]["count"], 2);
    // What the region knows of the machine is added.
    let details = &found["resource"]["instanceDetails"];
    assert_eq!((&details["instanceId"], &details["instanceState"]), (&json!(instance.to_string()), &json!("running")));
    assert_eq!(details["imageId"], "ami-12345678");
}

/// A detector that is off wants nothing, and what it does not want is told to nobody.
#[tokio::test]
async fn what_a_detector_does_not_want_is_not_told() {
    let running = start().await;
    let instance = running.launch().await;
    let id = post(&running, "/detector", json!({"enable": false})).await["detectorId"].as_str().unwrap().to_owned();
    let (tell, mut told) = mpsc::channel(10);
    running.region.keep_findings();
    running.region.detection().tell(vec![Arc::new(Tells(tell))]);
    running.region.detect(DetectionSettings::default());
    running.region.detection().found(finding(&running, instance));
    assert!(tokio::time::timeout(Duration::from_millis(700), told.recv()).await.is_err());
    post(&running, &format!("/detector/{id}"), json!({"enable": true})).await;
    running.region.detection().found(finding(&running, instance));
    let heard = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    assert_eq!(heard.1, "Create");
}

#[tokio::test]
async fn refusals_have_one_code_and_another_word_in_the_body() {
    let running = start().await;
    let id = post(&running, "/detector", json!({"enable": true})).await["detectorId"].as_str().unwrap().to_owned();
    for (method, target, body, text) in [
        ("GET", "/detector/x".to_owned(), "", "because the input detectorId is not owned by the current account"),
        ("POST", "/detector".to_owned(), "{}", "because the required parameter enable is not specified"),
        ("POST", "/detector".to_owned(), r#"{"enable":"yes"}"#, "because the parameter enable has an invalid value"),
        ("POST", "/detector".to_owned(), r#"{"enable":true,"x":1}"#, "because the parameter x has an invalid value"),
        ("GET", "/detector?maxResults=51".to_owned(), "", "because the parameter maxResults has an invalid value"),
        ("GET", format!("/detector/{id}/filter/nobody"), "", "since no such resource found"),
        ("GET", "/tags/arn%3Aaws%3Aec2".to_owned(), "", "because the parameter resourceArn has an invalid value"),
    ] {
        let (status, answer) = ask(&running, method, &target, body).await;
        let expected =
            json!({"__type": "InvalidInputException", "message": format!("The request is rejected {text}.")});
        assert_eq!((status, answer), (400, expected), "{method} {target} {body}");
    }
    let (status, answer) = ask(&running, "GET", "/detector?x=1", "").await;
    assert_eq!((status, &answer["message"]), (400, &json!("The parameter x is not recognized")));
    assert_eq!(ask(&running, "POST", "/detector", "{").await.0, 400);
    assert_eq!(ask(&running, "PUT", "/detector", "").await.0, 404);
}

#[tokio::test]
async fn names_in_paths_and_lists_in_queries_are_read_as_they_are_meant() {
    let running = start().await;
    let id = post(&running, "/detector", json!({"enable": true, "tags": {"a": "1", "b c": "2", "d": "3"}})).await;
    let id = id["detectorId"].as_str().unwrap();
    let identity = running.region.identity();
    let arn = format!("arn:aws:guardduty:{}:{}:detector/{id}", identity.region, identity.account);
    let target = format!("/tags/{}", arn.replace(':', "%3A").replace('/', "%2F"));
    let (status, _) = ask(&running, "DELETE", &format!("{target}?tagKeys=a&tagKeys=b%20c"), "").await;
    assert_eq!(status, 204);
    assert_eq!(get(&running, &target).await, json!({"tags": {"d": "3"}}));
    let (status, _) = ask(&running, "DELETE", &format!("{target}?tagKeys=d&other=1"), "").await;
    assert_eq!(status, 400);
    assert_eq!(get(&running, &target).await, json!({"tags": {"d": "3"}}));
}

#[tokio::test]
async fn comments_about_findings_are_not_recorded() {
    let running = start().await;
    let id = post(&running, "/detector", json!({"enable": true})).await["detectorId"].as_str().unwrap().to_owned();
    let kinds = json!({"findingTypes": ["Execution:Runtime/ReverseShell"]});
    post(&running, &format!("/detector/{id}/findings/create"), kinds).await;
    let ids = post(&running, &format!("/detector/{id}/findings"), json!({})).await["findingIds"].clone();
    let feedback = json!({"findingIds": ids, "feedback": "USEFUL", "comments": "it was our own admin"});
    post(&running, &format!("/detector/{id}/findings/feedback"), feedback).await;
    let lines = running.audit();
    let line = lines.iter().find(|line| line["eventName"] == "UpdateFindingsFeedback").unwrap();
    assert_eq!(line["requestParameters"]["comments"], "<sensitiveDataRemoved>");
    assert_eq!(line["requestParameters"]["feedback"], "USEFUL");
    assert_eq!(line["eventSource"], "guardduty.amazonaws.com");
}
