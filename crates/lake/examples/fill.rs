//! Makes a lake of OCSF events, one on each line of standard input, and Parquet of it: `fill DIRECTORY ACCOUNT INSTANCE`.
//! The compatibility tests look at the result with other readers of Parquet.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a person, or a test, is there to see it fail")]

use std::io::BufRead as _;
use std::path::Path;

use inborn_identity::UnixTime;
use inborn_lake::{Lake, Settings};
use inborn_telemetry::{Batch, ClassUid, Record, Source};
use serde_json::Value;

/// 2027-01-15T08:00:00Z.
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let source = Source {
        account: arguments[1].parse().unwrap(),
        instance: arguments[2].parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    };
    let records = std::io::stdin().lock().lines().map(|line| record(&line.unwrap())).collect();
    let batch = Batch { source, received_at: NOW, records };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let lake = Lake::open(Path::new(&arguments[0]), Settings::default(), NOW).unwrap();
        lake.append(batch).await.unwrap();
        lake.compact().unwrap();
        lake.close().await;
    });
}

fn record(line: &str) -> Record {
    let event: Value = serde_json::from_str(line).unwrap();
    Record {
        uid: event["metadata"]["uid"].as_str().unwrap().into(),
        time_ms: event["time"].as_i64().unwrap(),
        class: ClassUid(u32::try_from(event["class_uid"].as_u64().unwrap()).unwrap()),
        json: line.into(),
    }
}
