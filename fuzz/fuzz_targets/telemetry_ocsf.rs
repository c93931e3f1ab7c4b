//! Any bytes as OCSF events: refused, or events that are JSON on one line and of the machine that signed. Never a panic.
#![no_main]

use inborn_identity::{AccountId, UnixTime};
use inborn_telemetry::{Foreign, Form, Source, Stamp, decode, limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let instance = "i-0123456789abcdef0";
    let source = Source {
        account: AccountId::new(123_456_789_012).expect("twelve digits"),
        instance: instance.parse().expect("an id"),
        region: "us-east-1".parse().expect("a region"),
    };
    let received_at = UnixTime::from_secs(1_800_000_000);
    let stamp = Stamp { source: &source, received_at, sha256: |_| [7; 32], foreign: Foreign::Accept };
    let Ok(decoded) = decode(Form::Ocsf, body, &stamp, &mut |_| true) else { return };
    assert!(decoded.records.len() + decoded.rejected <= limits::RECORDS_MAX);
    for record in decoded.records {
        assert!(!record.json.contains(['\n', '\r']) && record.json.len() <= limits::RECORD_BYTES_MAX);
        let event: serde_json::Value = serde_json::from_str(&record.json).expect("an event is JSON");
        assert_eq!(event["device"]["uid"], instance);
        assert_eq!(event["cloud"]["account"]["uid"], "123456789012");
        assert_eq!(event["metadata"]["uid"], *record.uid);
        assert_eq!((event["time"].as_i64(), event["class_uid"].as_u64()), (Some(record.time_ms), Some(record.class.0.into())));
    }
});
