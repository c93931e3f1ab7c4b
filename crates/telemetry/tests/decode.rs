//! Requests as clients encode them, by the clients' own types: both encodings of OTLP, and lines.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use inborn_identity::{AccountId, UnixTime};
use inborn_telemetry::{Agent, Decoded, Foreign, Form, Malformed, Source, Stamp, decode, limits};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const INSTANCE: &str = "i-0123456789abcdef0";

fn toy_digest(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let sum = bytes.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    out[..8].copy_from_slice(&sum.to_be_bytes());
    out
}

fn source() -> Source {
    Source {
        account: AccountId::new(123_456_789_012).unwrap(),
        instance: INSTANCE.parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
    }
}

fn read(form: Form, body: &[u8]) -> Result<Decoded, Malformed> {
    let source = source();
    decode(form, body, &stamp_of(&source, Foreign::Accept), &mut |_| true)
}

fn stamp_of(source: &Source, foreign: Foreign) -> Stamp<'_> {
    Stamp { source, received_at: UnixTime::from_secs(NOW), sha256: toy_digest, foreign }
}

fn text(value: &str) -> AnyValue {
    AnyValue { value: Some(Any::StringValue(value.to_owned())) }
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// A JSON value as OTLP has it.
fn otlp(value: &Value) -> AnyValue {
    let value = match value {
        Value::Null => None,
        Value::Bool(value) => Some(Any::BoolValue(*value)),
        Value::Number(number) => {
            Some(number.as_i64().map_or_else(|| Any::DoubleValue(number.as_f64().unwrap()), Any::IntValue))
        }
        Value::String(text) => Some(Any::StringValue(text.clone())),
        Value::Array(values) => Some(Any::ArrayValue(ArrayValue { values: values.iter().map(otlp).collect() })),
        Value::Object(members) => {
            let values = members.iter().map(|(key, value)| pair(key, otlp(value))).collect();
            Some(Any::KvlistValue(KeyValueList { values }))
        }
    };
    AnyValue { value }
}

fn request(resource: Vec<KeyValue>, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }] }
}

fn of_body(body: AnyValue) -> LogRecord {
    LogRecord { body: Some(body), ..LogRecord::default() }
}

/// Both encodings, which must be read alike.
fn both(request: &ExportLogsServiceRequest) -> Result<Decoded, Malformed> {
    let protobuf = read(Form::OtlpProtobuf, &request.encode_to_vec());
    let json = read(Form::OtlpJson, &serde_json::to_vec(request).unwrap());
    assert_eq!(protobuf.as_ref().ok(), json.as_ref().ok());
    protobuf
}

#[test]
fn texts_and_lists_of_keys_and_values_are_events() {
    let event = json!({"class_uid": 1007, "activity_id": 1, "process": {"pid": 7, "args": ["a", 1, true, null, 1.5]}});
    let resource = vec![
        pair("service.name", text("agent")),
        pair("service.version", text("1.2")),
        pair("host.id", text(INSTANCE)),
        pair("cloud.region", text("eu-central-1")),
    ];
    let records = vec![of_body(text(&event.to_string())), of_body(otlp(&event))];
    let decoded = both(&request(resource, records)).unwrap();
    assert_eq!((decoded.records.len(), decoded.rejected, decoded.foreign_hosts), (2, 0, 0));
    assert_eq!(decoded.agent, Agent { name: Some("agent".into()), version: Some("1.2".into()) });
    for record in &decoded.records {
        let json: Value = serde_json::from_str(&record.json).unwrap();
        assert_eq!(json["process"], event["process"]);
        assert_eq!(json["metadata"]["product"]["name"], "agent");
        assert_eq!(json["unmapped"], Value::Null);
    }
}

#[test]
fn a_host_that_is_another_is_counted_and_kept_as_a_claim() {
    let resource = vec![
        pair("host.id", text("i-0ffffffffffffffff")),
        pair("cloud.account.id", text("999999999999")),
        pair("host.id", text("i-0fffffffffffffffe")),
    ];
    let event = json!({"class_uid": 1007}).to_string();
    let decoded = both(&request(resource, vec![of_body(text(&event))])).unwrap();
    assert_eq!(decoded.foreign_hosts, 1);
    let json: Value = serde_json::from_str(&decoded.records[0].json).unwrap();
    assert_eq!(json["device"]["uid"], INSTANCE);
    let claimed = json!({"host.id": "i-0fffffffffffffffe", "cloud.account.id": "999999999999"});
    assert_eq!(json["unmapped"]["claimed"], claimed);
}

#[test]
fn what_is_wrong_with_one_record_is_none_of_the_others_business() {
    let good = json!({"class_uid": 1007}).to_string();
    let many = (0..=limits::ATTRIBUTES_MAX).map(|n| pair(&n.to_string(), text("x"))).collect();
    let deep = (0..33).fold(json!(1), |value, _| json!([value]));
    let records = vec![
        of_body(text("a line of a log")),
        LogRecord::default(),
        of_body(AnyValue { value: Some(Any::IntValue(5)) }),
        LogRecord { attributes: many, ..of_body(text(&good)) },
        of_body(otlp(&json!({"class_uid": 1007, "deep": deep}))),
        of_body(text(&good)),
    ];
    let decoded = both(&request(vec![], records)).unwrap();
    assert_eq!((decoded.records.len(), decoded.rejected), (1, 5));
    assert_eq!(decoded.complaint.unwrap(), "record 1: it is not JSON");
}

#[test]
fn a_text_that_is_not_utf8_is_one_record_and_not_all() {
    let good = json!({"class_uid": 1007}).to_string();
    let records = vec![of_body(text("LIE")), of_body(text(&good))];
    let mut body = request(vec![], records).encode_to_vec();
    let at = body.windows(3).position(|bytes| bytes == b"LIE").unwrap();
    body[at] = 0xff;
    let decoded = read(Form::OtlpProtobuf, &body).unwrap();
    assert_eq!((decoded.records.len(), decoded.rejected), (1, 1));
    assert_eq!(decoded.complaint.unwrap(), "record 1: it is not UTF-8");
    let json = br#"{"resourceLogs":[{"schemaUrl":"\xff"}]}"#;
    let json: Vec<u8> = json.iter().map(|byte| if *byte == b'\\' { 0xff } else { *byte }).collect();
    assert!(read(Form::OtlpJson, &json).is_err(), "JSON is one text");
}

#[test]
fn so_many_records_and_no_more() {
    let good = json!({"class_uid": 1007}).to_string();
    let of = |count: usize| request(vec![], vec![of_body(text(&good)); count]).encode_to_vec();
    for count in [limits::RECORDS_MAX - 1, limits::RECORDS_MAX] {
        assert_eq!(read(Form::OtlpProtobuf, &of(count)).unwrap().records.len(), count);
    }
    assert_eq!(read(Form::OtlpProtobuf, &of(limits::RECORDS_MAX + 1)), Err(Malformed::TooMany));
    // Two bytes each, which would be hundreds if they were built.
    let empty = [0x12, 0].repeat(7_000_000);
    let mut scope = vec![0x12];
    prost::encode_length_delimiter(empty.len(), &mut scope).unwrap();
    scope.extend(empty);
    let mut body = vec![0x0a];
    prost::encode_length_delimiter(scope.len(), &mut body).unwrap();
    body.extend(scope);
    assert_eq!(read(Form::OtlpProtobuf, &body), Err(Malformed::TooMany));
}

/// Records that are short as they come, and long by what their resource claims.
fn many_with_claims(count: usize) -> Vec<u8> {
    let claim = || text(&"\u{1}".repeat(limits::AGENT_BYTES_MAX));
    let resource = ["host.id", "cloud.account.id", "cloud.region"].map(|key| pair(key, claim())).to_vec();
    request(resource, vec![of_body(text("{\"class_uid\":1007}")); count]).encode_to_vec()
}

/// What the events of a request take by the account that is kept of them.
fn taken_by(decoded: &Decoded) -> usize {
    let texts = decoded.records.iter().map(|record| record.json.len() + record.uid.len());
    texts.map(|bytes| bytes + limits::RECORD_OVERHEAD_BYTES).sum()
}

#[test]
fn memory_is_taken_by_what_is_stamped_and_not_by_what_came() {
    let body = many_with_claims(1000);
    let source = source();
    let mut asked = 0;
    let decoded = decode(Form::OtlpProtobuf, &body, &stamp_of(&source, Foreign::Accept), &mut |bytes| {
        asked += bytes;
        true
    });
    let taken = taken_by(&decoded.unwrap());
    assert!(taken > 50 * body.len(), "{taken} of {}", body.len());
    assert!((taken..taken + 64 * 1024).contains(&asked), "{asked} for {taken}");
    for (room, is_enough) in [(asked - 1, false), (asked, true), (asked + 1, true)] {
        let mut left = room;
        let mut room = |bytes| left.checked_sub(bytes).map(|rest| left = rest).is_some();
        let decoded = decode(Form::OtlpProtobuf, &body, &stamp_of(&source, Foreign::Accept), &mut room);
        assert_eq!(decoded.err(), (!is_enough).then_some(Malformed::NoRoom));
    }
}

#[test]
fn stamped_events_are_as_many_bytes_as_they_may_be() {
    let one = taken_by(&read(Form::OtlpProtobuf, &many_with_claims(1)).unwrap());
    let several = taken_by(&read(Form::OtlpProtobuf, &many_with_claims(3)).unwrap());
    // The second and the third have a number behind their digest, in the JSON and beside it.
    let each = (several - one) / 2;
    let fit = (limits::STAMPED_BYTES_MAX - one) / each;
    let least = fit - fit * 8 / each - 1;
    assert!(fit < limits::RECORDS_MAX);
    let below = read(Form::OtlpProtobuf, &many_with_claims(least)).unwrap();
    let left = limits::STAMPED_BYTES_MAX - taken_by(&below);
    // One more record for the rest, which is as long as can be.
    let padded = |more: usize| {
        let last = format!("{{\"class_uid\":1007,\"metadata\":{{\"uid\":\"u\"}},\"x\":\"{}\"}}", "x".repeat(more));
        [many_with_claims(least), request(vec![], vec![of_body(text(&last))]).encode_to_vec()].concat()
    };
    let short = taken_by(&read(Form::OtlpProtobuf, &padded(0)).unwrap()) - taken_by(&below);
    for (more, is_taken) in [(left - short - 1, true), (left - short, true), (left - short + 1, false)] {
        let decoded = read(Form::OtlpProtobuf, &padded(more));
        match decoded {
            Ok(decoded) => assert!(is_taken && decoded.records.len() == least + 1, "{more}"),
            Err(error) => assert_eq!((error, is_taken), (Malformed::TooLarge, false), "{more}"),
        }
    }
}

#[test]
fn events_of_another_machine_are_rejected_where_that_is_wanted() {
    let resource = |host: &str| vec![pair("host.id", text(host))];
    let event = |device: &str| of_body(text(&format!("{{\"class_uid\":1007,\"device\":{device}}}")));
    let source = source();
    let rejecting = stamp_of(&source, Foreign::Reject);
    for (host, device, complaint) in [
        (INSTANCE, "null", None),
        (INSTANCE, &*format!("{{\"uid\":\"{INSTANCE}\",\"instance_uid\":null,\"region\":\"elsewhere\"}}"), None),
        (INSTANCE, "{\"uid\":\"i-0ffffffffffffffff\"}", Some("device.uid")),
        (INSTANCE, "{\"instance_uid\":\"i-0ffffffffffffffff\"}", Some("device.uid")),
        (INSTANCE, "{\"uid\":7}", Some("device.uid")),
        ("i-0ffffffffffffffff", "null", Some("host.id")),
        ("", "null", Some("host.id")),
    ] {
        let good = request(resource(INSTANCE), vec![event("{}")]).resource_logs;
        let mut body = request(resource(host), vec![event(device)]);
        body.resource_logs.extend(good);
        let json = serde_json::to_vec(&body).unwrap();
        for (form, body) in [(Form::OtlpProtobuf, body.encode_to_vec()), (Form::OtlpJson, json)] {
            let decoded = decode(form, &body, &rejecting, &mut |_| true).unwrap();
            let rejected = usize::from(complaint.is_some());
            assert_eq!((decoded.records.len(), decoded.rejected), (2 - rejected, rejected), "{host} {device}");
            let expected =
                complaint.map(|what| format!("record 1: {what} is of another machine than the one that signed"));
            assert_eq!(decoded.complaint, expected, "{host} {device}");
            assert_eq!(read(form, &body).unwrap().rejected, 0, "unless it is not");
        }
    }
}

#[test]
fn attributes_are_counted() {
    let good = json!({"class_uid": 1007}).to_string();
    let with = |count: usize| {
        let attributes = (0..count).map(|n| pair(&n.to_string(), text("x"))).collect();
        both(&request(vec![], vec![LogRecord { attributes, ..of_body(text(&good)) }])).unwrap().rejected
    };
    assert_eq!([limits::ATTRIBUTES_MAX - 1, limits::ATTRIBUTES_MAX, limits::ATTRIBUTES_MAX + 1].map(with), [0, 0, 1]);
}

#[test]
fn an_empty_request_is_a_heartbeat() {
    let decoded = both(&ExportLogsServiceRequest::default()).unwrap();
    assert_eq!(decoded, Decoded::default());
    let decoded = both(&request(vec![pair("service.name", text("agent"))], vec![])).unwrap();
    assert_eq!((decoded.records.len(), decoded.agent.name.as_deref()), (0, Some("agent")));
}

#[test]
fn json_of_other_hands() {
    // Numbers for texts and texts for numbers, names that nobody knows, absent for null, the resource at the end.
    let body = json!({"resourceLogs": [{"surprise": {"deep": [1]}, "scopeLogs": [{"scope": null, "logRecords": [
        {
            "timeUnixNano": 1_800_000_000_000_000_000_u64, "observedTimeUnixNano": "7", "severityNumber": 17, "traceId": "00",
            "body": {"stringValue": "{\"class_uid\":1007}", "new": 1},
            "attributes": [{"key": "log.record.uid", "value": {"stringValue": "u\u{e4}"}, "other": null}],
        },
        {"timeUnixNano": null, "body": {"kvlistValue": {"values": [
            {"key": "class_uid", "value": {"intValue": "1001"}},
            {"key": "size", "value": {"intValue": 5}},
            {"key": "none"},
            {"key": "half", "value": {"doubleValue": "0.5"}},
            {"key": "bytes", "value": {"bytesValue": "AAE="}},
        ]}}, "attributes": null},
    ]}], "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "late"}}]}}]});
    let decoded = read(Form::OtlpJson, body.to_string().as_bytes()).unwrap();
    assert_eq!((decoded.records.len(), decoded.complaint), (2, None));
    assert_eq!(&*decoded.records[0].uid, "uä");
    let first: Value = serde_json::from_str(&decoded.records[0].json).unwrap();
    assert_eq!((&first["time"], &first["severity_id"]), (&json!(1_800_000_000_000_u64), &json!(4)));
    assert_eq!(first["metadata"]["product"]["name"], "late");
    let second: Value = serde_json::from_str(&decoded.records[1].json).unwrap();
    assert_eq!((&second["size"], &second["none"], &second["half"]), (&json!(5), &Value::Null, &json!(0.5)));
    assert_eq!(second["bytes"], "AAE=");
    for bad in [
        "",
        "[]",
        "{",
        r#"{"resourceLogs":{}}"#,
        r#"{"resourceLogs":[1]}"#,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"x"}]}]}]}"#,
    ] {
        assert_eq!(read(Form::OtlpJson, bad.as_bytes()), Err(Malformed::Syntax("OTLP logs in JSON")), "{bad}");
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert!(read(Form::OtlpJson, deep.as_bytes()).is_err());
}

#[test]
fn lines_and_arrays() {
    let one = r#"{"class_uid":1007,"metadata":{"uid":"a"}}"#;
    let other = r#"{"class_uid":4001,"metadata":{"uid":"b"}}"#;
    let uids = |body: &str| {
        let decoded = read(Form::Ocsf, body.as_bytes()).unwrap();
        let uids: Vec<String> = decoded.records.iter().map(|record| record.uid.to_string()).collect();
        (uids.join(","), decoded.rejected)
    };
    assert_eq!(uids(&format!("{one}\n{other}\n")), ("a,b".to_owned(), 0));
    assert_eq!(uids(&format!("\r\n{one}\r\n\n  {other}")), ("a,b".to_owned(), 0));
    assert_eq!(uids(&format!(" [{one},\n{other}]\n")), ("a,b".to_owned(), 0));
    assert_eq!(uids(&format!("{one}\nno\n{{\n{other}")), ("a,b".to_owned(), 2));
    assert_eq!(uids(&format!("[{one},5,{{}}]")), ("a".to_owned(), 2));
    assert_eq!(uids(""), (String::new(), 0));
    let mut bytes = format!("{one}\n{other}").into_bytes();
    bytes[3] = 0xff;
    let decoded = read(Form::Ocsf, &bytes).unwrap();
    assert_eq!((decoded.records.len(), decoded.complaint.unwrap().as_str()), (1, "record 1: it is not UTF-8"));
    for bad in ["no", "1\n2", "\"x\"", "[1", "[1] 2", "[{]"] {
        assert!(read(Form::Ocsf, bad.as_bytes()).is_err(), "{bad}");
    }
    let many = vec![one; limits::RECORDS_MAX + 1].join("\n");
    assert_eq!(read(Form::Ocsf, many.as_bytes()), Err(Malformed::TooMany));
}

#[test]
fn the_same_event_twice_in_a_request_is_two_events_and_a_request_sent_again_is_none() {
    let body = "{\"class_uid\":1007}\n{\"class_uid\":1007}\n{\"class_uid\":1001}\n{\"class_uid\":1007}\n";
    let first = read(Form::Ocsf, body.as_bytes()).unwrap().records;
    let uids: std::collections::HashSet<_> = first.iter().map(|record| record.uid.clone()).collect();
    assert_eq!(uids.len(), 4);
    assert_eq!(first, read(Form::Ocsf, body.as_bytes()).unwrap().records);
    for record in first {
        let json: Value = serde_json::from_str(&record.json).unwrap();
        assert_eq!(json["metadata"]["uid"], *record.uid);
    }
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any_bool(),
        proptest::num::i64::ANY.prop_map(Value::from),
        // Exact in few digits: `serde_json` rounds others.
        proptest::num::i32::ANY.prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        ".{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_bool() -> impl Strategy<Value = Value> {
    proptest::bool::ANY.prop_map(Value::from)
}

proptest! {
    /// An event comes through both encodings, and as a list of keys and values, as it is.
    #[test]
    fn events_come_through(extra in json_values(), key in "x.{0,6}", uid in ".{1,20}", time in any::<u64>()) {
        let event = json!({"class_uid": 1007, "activity_id": 1, key.clone(): extra});
        let attributes = vec![pair("other", text("x")), pair("log.record.uid", text(&uid))];
        let record = |body| LogRecord { attributes: attributes.clone(), time_unix_nano: time, ..of_body(body) };
        let records = vec![record(text(&event.to_string())), record(otlp(&event))];
        let decoded = both(&request(vec![pair("service.name", text(&uid))], records)).unwrap();
        prop_assert_eq!(decoded.records.len(), 2);
        for record in decoded.records {
            prop_assert_eq!(&*record.uid, uid.as_str());
            let json: Value = serde_json::from_str(&record.json).unwrap();
            prop_assert_eq!(&json[&key], &event[&key]);
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in any::<Vec<u8>>()) {
        for form in [Form::OtlpProtobuf, Form::OtlpJson, Form::Ocsf] {
            let _ = read(form, &bytes);
        }
    }

    /// What protobuf's own reader refuses, no cut makes acceptable to ours, but for what it has no need to look at.
    #[test]
    fn cut_requests_are_no_requests(at in any::<prop::sample::Index>()) {
        let body = request(vec![], vec![of_body(text("{\"class_uid\":1007}")); 3]).encode_to_vec();
        let cut = &body[..at.index(body.len())];
        prop_assert_eq!(read(Form::OtlpProtobuf, cut).is_ok(), ExportLogsServiceRequest::decode(cut).is_ok());
    }
}
