//! Telemetry over a socket: what is taken, what is not, and how each bad request is answered.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod common;

use std::io::Write;
use std::sync::Arc;

use common::telemetry::{Post, event, exchange_bytes, exchange_over, logs, ocsf, otlp};
use common::*;
use inborn_identity::AccountId;
use inborn_lake::{Lake, Query, Settings};
use inborn_region::{Foreign, KeySource, Rates, SinkError, TelemetrySettings};
use inborn_store::{SqliteStore, Store as _};
use inborn_telemetry::limits;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn start_as(telemetry: TelemetrySettings) -> Running {
    let store = Arc::new(SqliteStore::in_memory().unwrap());
    start_by(tempfile::tempdir().unwrap(), store, KeySource::Ephemeral, Rates::default(), telemetry).await
}

#[tokio::test]
async fn events_are_kept_under_the_identity_that_signed() {
    let store = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_on(Arc::clone(&store) as _, KeySource::Ephemeral).await;
    let id = running.launch().await;
    let machine = running.machine(id);
    let lie = r#"{"class_uid":1007,"metadata":{"uid":"b"},"device":{"uid":"i-other"},"cloud":{"account":{"uid":"1"}}}"#;
    let reply = running.post(&machine, &logs(JSON, otlp(&[&event("a"), lie]))).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
    assert_eq!(reply.header("content-type"), Some(JSON));
    let events = running.kept.events();
    assert_eq!(events.len(), 2);
    for event in &events {
        assert_eq!(event["device"]["uid"], id.to_string());
        assert_eq!(event["cloud"]["account"]["uid"], "123456789012");
        assert_eq!(event["cloud"]["region"], "eu-central-1");
    }
    assert_eq!(events[1]["unmapped"]["claimed"]["device"]["uid"], "i-other");
    let batch = running.kept.batches.lock().unwrap()[0].clone();
    assert_eq!((batch.source.instance, batch.received_at), (id, NOW));
    let report = loop {
        // It is written down beside the answer.
        if let Some(report) = store.agent_reports().await.unwrap().pop() {
            break report;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!((report.agent_name.as_str(), report.agent_version.as_str()), ("a", "1"));
    assert_eq!((report.instance, report.last_at), (id, NOW));
}

#[tokio::test]
async fn every_form_and_encoding_is_taken_and_answered_in_kind() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let lines = format!("{}\n{}\n", event("a"), event("b"));
    let array = format!("[{},{}]", event("a"), event("b"));
    let record = |uid: &str| {
        [
            &[0x12, 2 + 2 + event(uid).len() as u8, 0x2a, 2 + event(uid).len() as u8, 0x0a][..],
            &[event(uid).len() as u8],
            event(uid).as_bytes(),
        ]
        .concat()
    };
    let scope = [record("a"), record("b")].concat();
    let nest = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8], bytes].concat();
    let protobuf = nest(0x0a, &nest(0x12, &scope));
    for post in [
        logs(PROTOBUF, protobuf.clone()),
        logs(JSON, otlp(&[&event("a"), &event("b")])),
        logs("application/json; charset=utf-8", otlp(&[&event("a"), &event("b")])),
        ocsf(lines.clone()),
        Post { content_type: JSON, ..ocsf(array) },
        Post { encoding: "gzip", ..logs(PROTOBUF, gzip(&protobuf)) },
        Post { encoding: "gzip", ..ocsf(gzip(lines.as_bytes())) },
        Post { encoding: "zstd", ..ocsf(zstd::encode_all(lines.as_bytes(), 1).unwrap()) },
        Post { host: "GuardDuty-Data-FIPS.eu-central-1.amazonaws.com".to_owned(), ..ocsf(lines.clone()) },
        // Clients that were given an address.
        Post { host: running.address.to_string(), ..ocsf(lines.clone()) },
    ] {
        let what = format!("{} {} {} {}", post.path, post.content_type, post.encoding, post.host);
        running.kept.batches.lock().unwrap().clear();
        let reply = running.post(&machine, &post).await;
        assert_eq!(reply.status, 200, "{what}: {}", reply.body);
        let (kind, body) = if post.content_type == PROTOBUF { (PROTOBUF, "") } else { (JSON, "{}") };
        assert_eq!((reply.header("content-type"), reply.body.as_str()), (Some(kind), body), "{what}");
        let uids: Vec<Value> = running.kept.events().iter().map(|event| event["metadata"]["uid"].clone()).collect();
        assert_eq!(uids, ["a", "b"], "{what}");
    }
}

#[tokio::test]
async fn the_good_ones_of_a_bad_batch_are_kept() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let reply = running.post(&machine, &logs(JSON, otlp(&["a line", &event("a"), "{}"]))).await;
    assert_eq!(reply.status, 200);
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    let partial = json!({"rejectedLogRecords": "2", "errorMessage": "record 1: it is not JSON"});
    assert_eq!(body, json!({ "partialSuccess": partial }));
    let mut lines = format!("{}\nX{}\n", event("b"), event("c")).into_bytes();
    let at = lines.iter().position(|byte| *byte == b'X').unwrap();
    lines[at] = 0xff;
    let reply = running.post(&machine, &ocsf(lines)).await;
    assert!(reply.status == 200 && reply.body.contains("record 2: it is not UTF-8"), "{}", reply.body);
    assert_eq!(running.kept.events().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_the_encoding_of_the_request() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let deep = format!("{{\"resourceLogs\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let many = vec![event("a"); limits::RECORDS_MAX + 1].join("\n");
    let bomb = gzip(&vec![b'['; 20 << 20]);
    let gzipped = |body: &[u8]| Post { encoding: "gzip", ..ocsf(body) };
    for (what, post, status, code) in [
        ("no protobuf", logs(PROTOBUF, "hello"), 400, "BadRequestException"),
        ("no JSON", logs(JSON, "hello"), 400, "BadRequestException"),
        ("deep JSON", logs(JSON, deep), 400, "BadRequestException"),
        ("not UTF-8", logs(JSON, b"{\"a\":\"\xff\"}".as_slice()), 400, "BadRequestException"),
        ("no lines", ocsf("hello"), 400, "BadRequestException"),
        ("too many", ocsf(many), 413, "RequestEntityTooLargeException"),
        ("a bomb", gzipped(&bomb), 413, "RequestEntityTooLargeException"),
        ("no gzip", gzipped(event("a").as_bytes()), 400, "BadRequestException"),
        ("gzip unsaid", ocsf(gzip(event("a").as_bytes())), 400, "BadRequestException"),
        ("cut off", gzipped(&gzip(event("a").as_bytes())[..20]), 400, "BadRequestException"),
        ("another encoding", Post { encoding: "br", ..ocsf(event("a")) }, 415, "UnsupportedMediaTypeException"),
        ("another type", logs("text/plain", "x"), 415, "UnsupportedMediaTypeException"),
        ("protobuf as OCSF", Post { content_type: PROTOBUF, ..ocsf("") }, 415, "UnsupportedMediaTypeException"),
    ] {
        let reply = running.post(&machine, &post).await;
        assert_eq!((reply.status, reply.header("x-amzn-errortype")), (status, Some(code)), "{what}: {}", reply.body);
        if post.content_type == PROTOBUF && post.path == "/v1/logs" {
            assert_eq!(reply.header("content-type"), Some(PROTOBUF), "{what}");
            assert!(reply.body.starts_with('\u{12}'), "google.rpc.Status has its message in field 2");
        } else {
            assert!(reply.body.starts_with("{\"message\":\""), "{what}: {}", reply.body);
        }
    }
    assert!(running.kept.events().is_empty());
    let errors: Vec<Value> =
        running.audit().into_iter().filter(|line| line["eventName"] == "SendSecurityTelemetry").collect();
    assert_eq!(errors.len(), 13, "refusals are audited");
    assert_eq!(errors[0]["eventSource"], "guardduty.amazonaws.com");
}

#[tokio::test]
async fn a_body_is_as_long_as_it_may_be() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    for (length, status) in
        [(limits::WIRE_BYTES_MAX - 1, 200), (limits::WIRE_BYTES_MAX, 200), (limits::WIRE_BYTES_MAX + 1, 413)]
    {
        let body = format!("{}{}", event("a"), " ".repeat(length - event("a").len()));
        // One line is longer than an event may be: it is left out, the request is taken.
        assert_eq!(running.post(&machine, &ocsf(body)).await.status, status, "{length}");
    }
}

#[tokio::test]
async fn nobody_else_may_and_nobody_is_believed_unsigned() {
    let running = start().await;
    let id = running.launch().await;
    let machine = running.machine(id);
    let post = ocsf(event("a"));
    let denied = running.post(&running.operator(), &post).await;
    assert_eq!((denied.status, denied.header("x-amzn-errortype")), (403, Some("AccessDeniedException")));
    assert!(denied.body.contains("guardduty:SendSecurityTelemetry"), "{}", denied.body);
    let signed = String::from_utf8(running.signed_post(&machine, &post)).unwrap();
    for (from, to, code) in [
        ("authorization: ", "x-authorization: ", "MissingAuthenticationTokenException"),
        ("\"pid\":1", "\"pid\":2", "InvalidSignatureException"),
        ("x-amz-security-token: ", "x-amz-security-token: A", "UnrecognizedClientException"),
    ] {
        let reply = exchange_bytes(running.address, signed.replacen(from, to, 1).as_bytes()).await;
        let is_text = reply.header("content-type") == Some(JSON);
        assert_eq!((reply.status, reply.header("x-amzn-errortype"), is_text), (403, Some(code), true), "{from}");
    }
    running.clock.advance(15 * 60 + 1);
    let reply = exchange_bytes(running.address, signed.as_bytes()).await;
    assert_eq!((reply.status, reply.header("x-amzn-errortype")), (403, Some("InvalidSignatureException")), "stale");
    let elsewhere = Post { service: "guardduty-data", ..post.clone() };
    let reply = running.post(&running.machine(id), &elsewhere).await;
    assert_eq!(reply.status, 403, "signed for another name: {}", reply.body);
    assert!(running.kept.events().is_empty());
}

#[tokio::test]
async fn the_settings_say_what_is_signed_for_and_which_accounts_may() {
    let signing_name = "sensors".to_owned();
    let running = start_as(TelemetrySettings { signing_name, ..TelemetrySettings::default() }).await;
    let machine = running.machine(running.launch().await);
    let post = ocsf(event("a"));
    assert_eq!(running.post(&machine, &Post { service: "sensors", ..post.clone() }).await.status, 200);
    // What is signed for the API of GuardDuty is a call of that: it has no such path.
    assert_eq!(running.post(&machine, &post).await.status, 404);

    for (account, status) in [(123_456_789_012, 200), (999_999_999_999, 403)] {
        let accounts = vec![AccountId::new(account).unwrap()];
        let running = start_as(TelemetrySettings { accounts, ..TelemetrySettings::default() }).await;
        let machine = running.machine(running.launch().await);
        let reply = running.post(&machine, &post).await;
        assert_eq!(reply.status, status, "{account}");
        assert_eq!(reply.body.contains("with an explicit deny in a VPC endpoint policy"), status == 403);
    }
}

#[tokio::test]
async fn who_is_put_off_is_told_for_how_long() {
    let running = start_as(TelemetrySettings { quota: 100, ..TelemetrySettings::default() }).await;
    let (one, other) = (running.machine(running.launch().await), running.machine(running.launch().await));
    let large = ocsf(vec![event("a"); 20].join("\n"));
    assert_eq!(running.post(&one, &large).await.status, 200, "a burst");
    let reply = running.post(&one, &large).await;
    assert_eq!((reply.status, reply.header("x-amzn-errortype")), (429, Some("ThrottlingException")));
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 1, "{seconds}");
    assert_eq!(running.post(&other, &large).await.status, 200, "each has its own");
    running.clock.advance(seconds);
    assert_eq!(running.post(&one, &large).await.status, 200);

    running.clock.advance(600);
    for (refuse, seconds) in [
        ((|| SinkError::Busy) as fn() -> SinkError, "1"),
        (|| SinkError::Full, "30"),
        (|| SinkError::Failed("disk".to_owned()), "1"),
    ] {
        *running.kept.refusing.lock().unwrap() = Some(refuse);
        let post = logs(PROTOBUF, "");
        let reply = running.post(&one, &post).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some(seconds)));
        assert_eq!(reply.header("content-type"), Some(PROTOBUF));
    }
    *running.kept.refusing.lock().unwrap() = None;
    assert_eq!(running.post(&one, &logs(PROTOBUF, "")).await.status, 200, "an empty request is a heartbeat");
}

#[tokio::test]
async fn each_request_is_audited_only_if_it_is_asked_for() {
    for is_audited in [false, true] {
        let running = start_as(TelemetrySettings { is_audited, ..TelemetrySettings::default() }).await;
        let machine = running.machine(running.launch().await);
        assert_eq!(running.post(&machine, &ocsf(event("a"))).await.status, 200);
        let lines = running.audit().into_iter().filter(|line| line["eventName"] == "SendSecurityTelemetry").count();
        assert_eq!(lines, usize::from(is_audited));
    }
}

#[tokio::test]
async fn who_listens_is_told_of_what_is_kept() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let mut listening = running.region.telemetry().listen();
    *running.kept.refusing.lock().unwrap() = Some(|| SinkError::Busy);
    assert_eq!(running.post(&machine, &ocsf(event("lost"))).await.status, 503);
    *running.kept.refusing.lock().unwrap() = None;
    assert_eq!(running.post(&machine, &ocsf("")).await.status, 200);
    assert_eq!(running.post(&machine, &ocsf(event("a"))).await.status, 200);
    let heard = listening.next().await.unwrap();
    assert_eq!(heard.records.len(), 1);
    assert_eq!(&*heard.records[0].uid, "a");
    assert_eq!(listening.skipped(), 0);
}

#[tokio::test]
async fn what_is_sent_again_is_not_told_again() {
    let directory = tempfile::tempdir().unwrap();
    let running = start().await;
    let machine = running.machine(running.launch().await);
    assert!(running.kept.lake.set(Lake::open(directory.path(), Settings::default(), NOW).unwrap()).is_ok());
    let mut listening = running.region.telemetry().listen();
    for (events, told) in [(["a", "b"], &["a", "b"][..]), (["a", "b"], &[]), (["b", "c"], &["c"])] {
        assert_eq!(running.post(&machine, &ocsf(events.map(event).join("\n"))).await.status, 200);
        if told.is_empty() {
            continue;
        }
        let heard = listening.next().await.unwrap();
        let uids: Vec<&str> = heard.records.iter().map(|record| &*record.uid).collect();
        assert_eq!(uids, told, "batches without anything new are not told at all");
    }
}

#[tokio::test]
async fn events_of_another_machine_are_rejected_if_that_is_set() {
    let running = start_as(TelemetrySettings { foreign: Foreign::Reject, ..TelemetrySettings::default() }).await;
    let id = running.launch().await;
    let machine = running.machine(id);
    let other =
        format!(r#"{{"class_uid":1007,"metadata":{{"uid":"b"}},"device":{{"uid":"{}"}}}}"#, running.launch().await);
    let reply = running.post(&machine, &logs(JSON, otlp(&[&event("a"), &other]))).await;
    assert_eq!(reply.status, 200);
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    let message = "record 2: device.uid is of another machine than the one that signed";
    assert_eq!(body["partialSuccess"], json!({"rejectedLogRecords": "1", "errorMessage": message}));
    assert_eq!(running.kept.events().len(), 1);
}

#[tokio::test]
async fn the_management_role_may_only_if_that_is_set() {
    for (management_role, status) in [(false, 403), (true, 200)] {
        let running = start_as(TelemetrySettings { management_role, ..TelemetrySettings::default() }).await;
        let (id, _, managed) = running.managed().await;
        let reply = running.post(&managed, &ocsf(event("a"))).await;
        assert_eq!(reply.status, status, "{}", reply.body);
        if management_role {
            let events = running.kept.events();
            assert_eq!(events[0]["device"]["uid"], id.to_string(), "of its own machine");
            assert_eq!(running.post(&running.operator(), &ocsf(event("a"))).await.status, 403, "operators never may");
        } else {
            assert!(reply.body.contains("guardduty:SendSecurityTelemetry"), "{}", reply.body);
            assert!(running.kept.events().is_empty());
        }
    }
}

/// 32 MiB of bodies that are on their way, from one source.
#[tokio::test]
async fn without_room_for_a_body_a_client_is_told_to_come_again_and_nobody_else_waits() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let body = format!("{}{}", event("a"), " ".repeat(limits::WIRE_BYTES_MAX - event("a").len()));
    let full = running.signed_post(&machine, &ocsf(body));
    let head = full.len() - limits::WIRE_BYTES_MAX;
    let mut stalled = Vec::new();
    while stalled.len() < 8 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(&full[..head + 1]).await.unwrap();
        stalled.push(stream);
        // Each is asked whether it has its room: the next one has none once all have.
        tokio::task::yield_now().await;
    }
    let small = ocsf(event("b"));
    let refused = loop {
        let reply = running.post(&machine, &small).await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.body);
    assert_eq!(refused.header("x-amzn-errortype"), Some("ServiceUnavailableException"));
    // Other sources have theirs, also for a body that is as long as may be.
    let other = async |request: &[u8]| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        exchange_over(socket.connect(running.address).await.unwrap(), request).await
    };
    assert_eq!(other(&full).await.status, 200);
    assert_eq!(other(&running.signed_post(&machine, &small)).await.status, 200);
    // What has a body for another service is no worse off.
    let filler = "f".repeat(128 * 1024);
    let large = ec2(&format!("Action=DescribeInstances&Filler={filler}"));
    assert_eq!(running.send(&running.operator(), &large).await.status, 400, "it is heard to its end");
    // Who has gone gives its room back.
    drop(stalled);
    loop {
        let reply = running.post(&machine, &small).await;
        if reply.status == 200 {
            break;
        }
        assert_eq!(reply.status, 503);
    }
}

/// Short records that become long by what their resource claims.
#[tokio::test]
async fn what_becomes_of_a_request_is_bounded() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let claims: Vec<_> = ["host.id", "cloud.account.id", "cloud.region"]
        .iter()
        .map(|key| json!({"key": key, "value": {"stringValue": "\u{1}".repeat(limits::AGENT_BYTES_MAX)}}))
        .collect();
    for (count, status) in [(1000, 200), (limits::RECORDS_MAX, 413)] {
        let records = vec![json!({"body": {"stringValue": "{\"class_uid\":1007}"}}); count];
        let of = json!({"resource": {"attributes": claims}, "scopeLogs": [{"logRecords": records}]});
        let body = json!({"resourceLogs": [of]}).to_string();
        assert!(body.len() < 1024 * 1024);
        let reply = running.post(&machine, &logs(JSON, body)).await;
        assert_eq!(reply.status, status, "{count}: {}", reply.body);
        assert_eq!(status == 413, reply.body.contains("send fewer at a time"), "{}", reply.body);
    }
}

/// The real lake: acknowledged is on disk, and what is sent again is there once.
#[tokio::test]
async fn what_is_acknowledged_is_in_the_lake() {
    let directory = tempfile::tempdir().unwrap();
    let lake = Lake::open(directory.path(), Settings::default(), NOW).unwrap();
    let running = start().await;
    let machine = running.machine(running.launch().await);
    assert!(running.kept.lake.set(lake.clone()).is_ok());
    for _ in 0..2 {
        assert_eq!(running.post(&machine, &ocsf([event("a"), event("b")].join("\n"))).await.status, 200);
    }
    drop(running);
    lake.close().await;
    let lake = Lake::open(directory.path(), Settings::default(), NOW).unwrap();
    let uids: Vec<_> =
        lake.query(&Query::default()).unwrap().events.into_iter().map(|event| event.record.uid).collect();
    assert_eq!(uids.len(), 2, "{uids:?}");
}
