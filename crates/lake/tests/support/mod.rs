//! Events to append.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses its part, and fails by panicking")]

use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_lake::{Lake, Settings};
use inborn_telemetry::{Batch, ClassUid, Record, Source};
use std::path::Path;

/// 2027-01-15T08:00:00Z.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn source(machine: u8) -> Source {
    Source {
        account: AccountId::new(123_456_789_012).unwrap(),
        instance: InstanceId::from_bytes([machine; InstanceId::BYTES]),
        region: "eu-west-1".parse().unwrap(),
    }
}

/// A process that was started, `at` milliseconds after `NOW`.
pub(crate) fn launch(machine: u8, uid: &str, at: i64) -> Record {
    let time = i64::try_from(NOW).unwrap() * 1000 + at;
    let instance = source(machine).instance;
    let json = format!(
        r#"{{"activity_id":1,"category_uid":1,"class_uid":1007,"type_uid":100701,"severity_id":1,"time":{time},"metadata":{{"version":"1.3.0","uid":"{uid}","product":{{"name":"t","vendor_name":"t"}}}},"device":{{"type_id":6,"uid":"{instance}"}},"cloud":{{"provider":"AWS","region":"eu-west-1","account":{{"uid":"123456789012"}}}},"actor":{{"process":{{"pid":1,"name":"init"}}}},"process":{{"pid":{at},"cmd_line":"run {uid}","file":{{"name":"run","type_id":1,"path":"/bin/run"}}}}}}"#
    );
    Record { uid: uid.into(), time_ms: time, class: ClassUid(1007), json: json.into() }
}

pub(crate) fn batch(machine: u8, uids: impl IntoIterator<Item = String>) -> Batch {
    let records = uids.into_iter().enumerate().map(|(at, uid)| launch(machine, &uid, i64::try_from(at).unwrap()));
    Batch { source: source(machine), received_at: UnixTime::from_secs(NOW), records: records.collect() }
}

pub(crate) fn settings() -> Settings {
    Settings { free_bytes_min: 0, ..Settings::default() }
}

pub(crate) fn open(directory: &Path) -> Lake {
    Lake::open(directory, settings(), UnixTime::from_secs(NOW)).unwrap()
}

/// Every Parquet file below a lake, in order.
pub(crate) fn files(place: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![place.join("ext")];
    while let Some(directory) = left.pop() {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}
