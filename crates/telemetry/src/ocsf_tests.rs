use inborn_identity::{AccountId, UnixTime};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Source;

const NOW: u64 = 1_800_000_000;
const INSTANCE: &str = "i-0123456789abcdef0";

fn source() -> Source {
    Source {
        account: AccountId::new(123_456_789_012).unwrap(),
        instance: INSTANCE.parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
    }
}

/// Enough to tell texts apart.
fn toy_digest(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let sum = bytes.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    out[..8].copy_from_slice(&sum.to_be_bytes());
    out
}

fn taken_beside(text: &str, beside: Beside<'_>) -> Result<Taken, Rejection> {
    let source = source();
    let by =
        Stamp { source: &source, received_at: UnixTime::from_secs(NOW), sha256: toy_digest, foreign: Foreign::Accept };
    stamp(text, beside, &Own::new(&by), &mut Scratch::default())
}

fn taken(text: &str) -> Result<(Value, Taken), Rejection> {
    let taken = taken_beside(text, Beside::default())?;
    let json: Value = serde_json::from_str(&taken.record.json).unwrap();
    assert_eq!(json["metadata"]["uid"], *taken.record.uid);
    assert_eq!(json["time"], taken.record.time_ms);
    assert!(!taken.record.json.contains(['\n', '\r']));
    Ok((json, taken))
}

fn event(change: Value) -> String {
    let mut event = json!({
        "class_uid": 1007, "activity_id": 1, "severity_id": 1, "time": NOW * 1000 - 5,
        "metadata": {"version": "1.3.0", "uid": "u-1", "product": {"name": "p", "vendor_name": "v"}},
    });
    for (name, value) in change.as_object().unwrap() {
        event[name] = value.clone();
    }
    event.to_string()
}

#[test]
fn an_event_is_stamped_and_otherwise_kept() {
    let (json, taken) = taken(&event(json!({"process": {"pid": 1, "cmd_line": "a\n\"b\""}}))).unwrap();
    assert_eq!(taken.record.class, ClassUid(1007));
    assert_eq!(
        json,
        json!({
            "class_uid": 1007, "category_uid": 1, "activity_id": 1, "type_uid": 100_701, "severity_id": 1,
            "time": NOW * 1000 - 5,
            "metadata": {
                "version": "1.3.0", "uid": "u-1", "processed_time": NOW * 1000, "profiles": ["cloud", "host"],
                "product": {"name": "p", "vendor_name": "v"},
            },
            "device": {"uid": INSTANCE, "instance_uid": INSTANCE, "region": "eu-central-1", "type_id": 0},
            "cloud": {"provider": "Inborn", "account": {"uid": "123456789012"}, "region": "eu-central-1"},
            "process": {"pid": 1, "cmd_line": "a\n\"b\""},
        })
    );
}

#[test]
fn identity_wins_and_claims_are_kept_apart() {
    let text = event(json!({
        "device": {"uid": "i-other", "instance_uid": INSTANCE, "region": "mars", "type_id": 6, "hostname": "web"},
        "cloud": {"provider": "AWS", "account": {"uid": "999999999999"}, "region": "eu-central-1", "zone": "z"},
        "metadata": {"version": "1.1.0", "profiles": ["host", "container"], "uid": "x"},
        "unmapped": {"mine": 1, "claimed": {"device": {"uid": "made up"}}},
    }));
    let (json, _) = taken(&text).unwrap();
    assert_eq!(
        json["device"],
        json!({
            "uid": INSTANCE, "instance_uid": INSTANCE, "region": "eu-central-1", "type_id": 6, "hostname": "web"
        })
    );
    assert_eq!(
        json["cloud"],
        json!({"provider": "Inborn", "account": {"uid": "123456789012"}, "region": "eu-central-1"})
    );
    assert_eq!(json["metadata"]["version"], "1.3.0");
    assert_eq!(json["metadata"]["profiles"], json!(["cloud", "host", "container"]));
    assert_eq!(json["metadata"]["product"], json!({"name": "unknown", "vendor_name": "unknown"}));
    assert_eq!(
        json["unmapped"],
        json!({"mine": 1, "claimed": {
            "metadata": {"version": "1.1.0"},
            "device": {"uid": "i-other", "region": "mars"},
            "cloud": {"provider": "AWS", "account": {"uid": "999999999999"}, "zone": "z"},
            "claimed": {"device": {"uid": "made up"}},
        }})
    );
}

#[test]
fn names_written_otherwise_are_the_same_names() {
    let text = r#"{"class\u005fuid":1007,"d\u0065vice":{"ui\u0064":"i-other"},"metadata":{}}"#;
    let (json, _) = taken(text).unwrap();
    assert_eq!(json["device"]["uid"], INSTANCE);
    assert_eq!(json["unmapped"]["claimed"]["device"]["uid"], "i-other");
    let twice = r#"{"class_uid":1007,"device":{},"d\u0065vice":{"uid":"i-other"}}"#;
    assert_eq!(taken(twice).err(), Some(Rejection::Twice("device")));
    let twice = r#"{"class_uid":1007,"metadata":{"uid":"a","uid":"b"}}"#;
    assert_eq!(taken(twice).err(), Some(Rejection::Twice("metadata.uid")));
}

#[test]
fn what_can_be_derived_need_not_be_said() {
    let (json, _) = taken(r#"{"type_uid":400302,"class_uid":4003}"#).unwrap();
    assert_eq!((&json["activity_id"], &json["category_uid"], &json["severity_id"]), (&json!(2), &json!(4), &json!(0)));
    assert_eq!(json["time"], NOW * 1000);
    let (json, _) = taken(r#"{"class_uid":201001,"activity_id":null}"#).unwrap();
    assert_eq!((&json["category_uid"], &json["type_uid"]), (&json!(1), &json!(20_100_100)));
    let beside =
        Beside { time: NOW * 1_000_000_000 + 7_000_000, severity: 17, service: Some("s\"1"), ..Beside::default() };
    let taken = taken_beside(r#"{"class_uid":1001}"#, beside).unwrap();
    let json: Value = serde_json::from_str(&taken.record.json).unwrap();
    assert_eq!((&json["time"], &json["severity_id"]), (&json!(NOW * 1000 + 7), &json!(4)));
    assert_eq!(json["metadata"]["product"], json!({"name": "s\"1", "vendor_name": "unknown"}));
}

#[test]
fn what_is_no_event_says_why() {
    use Rejection::{Inconsistent, Kind, Missing, Scan, TooLong};
    for (text, rejection) in [
        (r#"{"message":"hello"}"#.to_owned(), Missing("class_uid")),
        ("hello".to_owned(), Scan(ScanError::Syntax)),
        ("[]".to_owned(), Scan(ScanError::NotAnObject)),
        (event(json!({"class_uid": "1007"})), Kind("class_uid")),
        (event(json!({"class_uid": 7})), Kind("class_uid")),
        (event(json!({"class_uid": -1007})), Kind("class_uid")),
        (event(json!({"category_uid": 2})), Inconsistent("category_uid")),
        (event(json!({"type_uid": 100_702})), Inconsistent("type_uid")),
        (event(json!({"type_uid": 400_101})), Inconsistent("type_uid")),
        (event(json!({"type_uid": 100_800, "activity_id": null})), Inconsistent("type_uid")),
        (event(json!({"activity_id": 100})), Kind("activity_id")),
        (event(json!({"severity_id": 7})), Kind("severity_id")),
        (event(json!({"time": "2026-01-01T00:00:00Z"})), Kind("time")),
        (event(json!({"metadata": []})), Kind("metadata")),
        (event(json!({"metadata": {"uid": 5}})), Kind("metadata.uid")),
        (event(json!({"metadata": {"product": "p"}})), Kind("metadata.product")),
        (event(json!({"metadata": {"profiles": [1]}})), Kind("metadata.profiles")),
        (event(json!({"device": "web"})), Kind("device")),
        (event(json!({"device": {"type_id": "x"}})), Kind("device.type_id")),
        (event(json!({"unmapped": 1})), Kind("unmapped")),
        (event(json!({"message": "x".repeat(RECORD_BYTES_MAX)})), TooLong),
    ] {
        assert_eq!(taken(&text).err(), Some(rejection), "{}", &text[..text.len().min(200)]);
    }
}

#[test]
fn an_event_is_as_long_as_it_may_be() {
    let empty = taken(&event(json!({"message": ""}))).unwrap().1.record.json.len();
    let with =
        |length: usize| taken(&event(json!({"message": "x".repeat(length)}))).map(|(_, it)| it.record.json.len());
    for short in [1, 0] {
        assert_eq!(with(RECORD_BYTES_MAX - empty - short), Ok(RECORD_BYTES_MAX - short));
    }
    assert_eq!(with(RECORD_BYTES_MAX - empty + 1), Err(Rejection::TooLong));
}

#[test]
fn levels_of_an_event() {
    let nested = |depth: usize| {
        let value = format!("{}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"{{"class_uid":1007,"x":{value}}}"#)
    };
    assert!(taken(&nested(DEPTH_MAX - 1)).is_ok() && taken(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(taken(&nested(DEPTH_MAX + 1)).err(), Some(Rejection::Scan(ScanError::TooDeep)));
}

#[test]
fn a_clock_that_is_far_off_is_not_believed() {
    let (now, age, ahead) = (NOW as i64 * 1000, AGE_SECONDS_MAX as i64 * 1000, AHEAD_SECONDS_MAX as i64 * 1000);
    for (time, is_off) in [
        (now - age + 1, false),
        (now - age, false),
        (now - age - 1, true),
        (now + ahead - 1, false),
        (now + ahead, false),
        (now + ahead + 1, true),
        (i64::MIN, true),
        (i64::MAX, true),
        // Seconds instead of milliseconds.
        (now / 1000, true),
    ] {
        let (json, taken) = taken(&event(json!({"time": time, "time_dt": "2026-01-01T00:00:00Z"}))).unwrap();
        assert_eq!(taken.is_time_off, is_off, "{time}");
        if is_off {
            assert_eq!(json["time"], now);
            assert_eq!(json["unmapped"]["claimed"], json!({"time": time, "time_dt": "2026-01-01T00:00:00Z"}));
            assert_eq!(json["time_dt"], Value::Null);
        } else {
            assert_eq!((&json["time"], &json["time_dt"]), (&json!(time), &json!("2026-01-01T00:00:00Z")));
        }
    }
    assert!(taken(r#"{"class_uid":1007,"time":1e300}"#).unwrap().1.is_time_off);
    assert_eq!(taken(&format!(r#"{{"class_uid":1007,"time":{now}.75}}"#)).unwrap().1.record.time_ms, now);
}

#[test]
fn uids_come_from_the_record_then_the_event_then_its_content() {
    let text = event(json!({}));
    let uid = |text: &str, beside: Beside<'_>| taken_beside(text, beside).unwrap().record;
    let named = Beside { uid: Some("r-1"), ..Beside::default() };
    let record = uid(&text, named);
    assert_eq!(&*record.uid, "r-1");
    let json: Value = serde_json::from_str(&record.json).unwrap();
    assert_eq!(json["metadata"]["uid"], "r-1");
    assert_eq!(json["unmapped"]["claimed"]["metadata"]["uid"], "u-1");
    let plain = r#"{"class_uid":1007}"#;
    let at = |time| Beside { time, ..Beside::default() };
    assert_eq!(uid(plain, at(0)).uid, uid(plain, at(0)).uid, "the same bytes have the same uid");
    assert_ne!(uid(plain, at(NOW * 1_000_000_000)).uid, uid(plain, at(NOW * 1_000_000_000 + 1)).uid);
    assert_ne!(uid(plain, at(0)).uid, uid(r#"{"class_uid":1006}"#, at(0)).uid);
    for length in [UID_BYTES_MAX - 1, UID_BYTES_MAX] {
        let long = "u".repeat(length);
        assert_eq!(*uid(plain, Beside { uid: Some(&long), ..Beside::default() }).uid, *long);
    }
    let long = "u".repeat(UID_BYTES_MAX + 1);
    assert_eq!(uid(plain, Beside { uid: Some(&long), ..Beside::default() }).uid.len(), 32);
    let empty = Beside { uid: Some(""), ..Beside::default() };
    assert_eq!(uid(plain, empty).uid.len(), 32, "no uid at all");
}

#[test]
fn lines_stay_lines() {
    let text = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&event(json!({"a": "x\ny"}))).unwrap());
    let (json, _) = taken(&text.unwrap().replace('\n', "\r\n")).unwrap();
    assert_eq!(json["a"], "x\ny");
}

proptest! {
    /// Whatever an event says, identity and time are ours, and the output is JSON on one line.
    #[test]
    fn no_event_lies_about_its_machine(
        uid in ".{0,8}", account in ".{0,8}", time in any::<i64>(), odd in ".{0,8}",
    ) {
        let text = event(json!({
            "time": time, "device": {"uid": uid, odd.clone(): odd}, "cloud": {"account": {"uid": account}},
            odd.clone(): [odd], "unmapped": {odd.clone(): 1},
        }));
        let Ok((json, taken)) = taken(&text) else { return Ok(()) };
        prop_assert_eq!(&json["device"]["uid"], INSTANCE);
        prop_assert_eq!(&json["cloud"]["account"]["uid"], "123456789012");
        prop_assert!(taken.record.time_ms >= (NOW - AGE_SECONDS_MAX) as i64 * 1000);
        prop_assert!(taken.record.time_ms <= (NOW + AHEAD_SECONDS_MAX) as i64 * 1000);
    }
}
