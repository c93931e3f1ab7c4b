//! Any bytes as a log of audit: each line is taken apart or passed over, and what comes out is lines of OCSF.
#![no_main]

use inborn_guest::sensor::audit::convert;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut out = Vec::new();
    convert(input, &mut out).unwrap();
    for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: serde_json::Value = serde_json::from_slice(line).unwrap();
        let class = event["class_uid"].as_u64().unwrap();
        assert_eq!(event["type_uid"].as_u64().unwrap(), class * 100 + event["activity_id"].as_u64().unwrap());
    }
});
