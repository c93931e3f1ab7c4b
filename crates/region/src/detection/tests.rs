use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inborn_detect::{Finding, FindingKey, Recorded};
use inborn_identity::{AccountId, Clock, InstanceId, Partition, UnixTime};
use inborn_store::{SqliteStore, StoreError};
use inborn_telemetry::{Batch, ClassUid, Record, Source};
use inborn_testkit::ManualClock;
use serde_json::{Value, json};

use super::{DetectionSettings, FindingOutput, FindingSink, Recording};
use crate::{KeySource, Opening, Rates, RegionIdentity, RegionServer, TelemetrySettings};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// Keeps findings in memory, and fails as often as it is told.
#[derive(Default)]
struct Kept {
    findings: Mutex<BTreeMap<FindingKey, Finding>>,
    stored: Mutex<usize>,
    failures: Mutex<usize>,
}

impl FindingSink for Kept {
    fn record<'a>(&'a self, finding: &'a Finding, now: UnixTime) -> Recording<'a> {
        Box::pin(async move {
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(StoreError::Invalid("a fault"));
            }
            *self.stored.lock().unwrap() += 1;
            let mut findings = self.findings.lock().unwrap();
            let first = !findings.contains_key(&finding.key());
            match findings.get_mut(&finding.key()) {
                Some(earlier) => earlier.absorb(finding.clone()),
                None => drop(findings.insert(finding.key(), finding.clone())),
            }
            Ok(Recorded {
                detector: "0".repeat(32).into(),
                id: "1".repeat(32).into(),
                created_at: now,
                updated_at: now,
                archived: false,
                first,
            })
        })
    }
}

#[derive(Default)]
struct Lines(Mutex<Vec<Value>>);

impl FindingOutput for Lines {
    fn recorded(&self, line: &Arc<str>) {
        self.0.lock().unwrap().push(serde_json::from_str(line).unwrap());
    }
}

struct Setup {
    region: Arc<RegionServer>,
    kept: Arc<Kept>,
    lines: Arc<Lines>,
    _directory: tempfile::TempDir,
}

async fn start(settings: DetectionSettings) -> Setup {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOW));
    let opening = Opening {
        identity: RegionIdentity {
            partition: Partition::Aws,
            region: "eu-central-1".parse().unwrap(),
            account: AccountId::new(123_456_789_012).unwrap(),
            domain: "amazonaws.com".to_owned(),
        },
        key_source: KeySource::Ephemeral,
        audit_file: directory.path().join("audit.jsonl"),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
    };
    let store = Arc::new(SqliteStore::in_memory().unwrap());
    let region = RegionServer::open(store, opening, clock as Arc<dyn Clock>).await.unwrap();
    let (kept, lines) = (Arc::new(Kept::default()), Arc::new(Lines::default()));
    region.detection().record_to(Arc::clone(&kept) as Arc<dyn FindingSink>);
    region.detection().tell(vec![Arc::clone(&lines) as Arc<dyn FindingOutput>]);
    region.detect(settings);
    Setup { region, kept, lines, _directory: directory }
}

fn machine() -> InstanceId {
    "i-0123456789abcdef0".parse().unwrap()
}

fn batch(events: &[Value]) -> Arc<Batch> {
    let source = Source {
        account: AccountId::new(123_456_789_012).unwrap(),
        instance: machine(),
        region: "eu-central-1".parse().unwrap(),
    };
    let record = |event: &Value| Record {
        uid: "u".into(),
        time_ms: 1_799_999_999_000,
        class: ClassUid(u32::try_from(event["class_uid"].as_u64().unwrap()).unwrap()),
        json: event.to_string().into(),
    };
    Arc::new(Batch { source, received_at: NOW, records: events.iter().map(record).collect() })
}

fn reverse_shell() -> Value {
    json!({
        "class_uid": 1003, "activity_id": 4, "time": 1_799_999_999_000_u64, "kernel": { "name": "dup" },
        "actor": { "process": { "pid": 9, "file": { "path": "/usr/bin/bash" } } },
        "unmapped": { "dup": { "new_fd": 0, "fds": [0, 1, 2], "dst_endpoint": { "ip": "127.0.0.1", "port": 4444 } } },
    })
}

fn harmless() -> Value {
    json!({ "class_uid": 1007, "activity_id": 1, "process": { "file": { "path": "/usr/bin/ls" } } })
}

/// Waits until `is_so`, at most as long as a finding may take.
async fn within_two_seconds(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(2), "nothing was found in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_reverse_shell_is_found_within_two_seconds_and_counted_up() {
    let setup = start(DetectionSettings::default()).await;
    let shells = vec![harmless(), reverse_shell(), reverse_shell(), harmless(), reverse_shell()];
    setup.region.telemetry.tell(&batch(&shells));
    within_two_seconds(|| setup.lines.0.lock().unwrap().len() == 1).await;
    let line = setup.lines.0.lock().unwrap()[0].clone();
    assert_eq!((&line["class_uid"], &line["type_uid"], &line["count"]), (&json!(2004), &json!(200_401), &json!(3)));
    assert_eq!(line["finding_info"]["types"], json!(["Execution:Runtime/ReverseShell"]));
    assert_eq!(line["resources"][0]["uid"], machine().to_string());

    setup.region.telemetry.tell(&batch(&[reverse_shell()]));
    within_two_seconds(|| setup.lines.0.lock().unwrap().len() == 2).await;
    assert_eq!(setup.lines.0.lock().unwrap()[1]["type_uid"], 200_402);
    let findings = setup.kept.findings.lock().unwrap();
    assert_eq!(findings.values().map(|finding| finding.count).collect::<Vec<_>>(), [4]);
    assert_eq!(setup.region.metrics.detection.judged.get(), 6);
    assert_eq!(setup.region.metrics.detection.findings.get(), 4);
}

#[tokio::test]
async fn what_comes_often_is_stored_seldom() {
    let setup = start(DetectionSettings::default()).await;
    for _ in 0..50 {
        setup.region.telemetry.tell(&batch(&[reverse_shell(), reverse_shell()]));
    }
    let counted = || setup.kept.findings.lock().unwrap().values().map(|finding| finding.count).sum::<u32>();
    within_two_seconds(|| counted() == 100).await;
    assert!(*setup.kept.stored.lock().unwrap() <= 10, "{}", setup.kept.stored.lock().unwrap());
}

#[tokio::test]
async fn a_finding_that_cannot_be_stored_is_stored_later() {
    let setup = start(DetectionSettings::default()).await;
    *setup.kept.failures.lock().unwrap() = 1;
    setup.region.telemetry.tell(&batch(&[reverse_shell()]));
    let begun = Instant::now();
    while setup.lines.0.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(setup.kept.findings.lock().unwrap().values().next().unwrap().count, 1);
    assert_eq!(setup.region.metrics.detection.lost.get(), 0);
}

#[tokio::test]
async fn events_that_no_rule_can_read_stop_nothing() {
    let setup = start(DetectionSettings::default()).await;
    let mut odd = Batch::clone(&batch(&[harmless(), reverse_shell()]));
    odd.records[0].json = "{\"class_uid\":1007,".into();
    setup.region.telemetry.tell(&Arc::new(odd));
    within_two_seconds(|| setup.lines.0.lock().unwrap().len() == 1).await;
}

#[tokio::test]
async fn rules_of_the_operator_are_used_and_wrong_ones_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let rule = "title: My rule\nid: mine\nlogsource:\n  product: linux\n  category: process_creation\ndetection:\n  s:\n    Image|endswith: /ls\n  condition: s\nlevel: low\n";
    fs::write(directory.path().join("mine.yml"), rule).unwrap();
    fs::write(directory.path().join("wrong.yml"), "title: Wrong\n").unwrap();
    let settings = DetectionSettings {
        own_rules: false,
        directory: Some(directory.path().to_owned()),
        ..DetectionSettings::default()
    };
    let setup = start(settings).await;
    setup.region.telemetry.tell(&batch(&[harmless(), reverse_shell()]));
    within_two_seconds(|| setup.lines.0.lock().unwrap().len() == 1).await;
    let line = setup.lines.0.lock().unwrap()[0].clone();
    assert_eq!(line["finding_info"]["analytic"]["uid"], "mine");
    assert_eq!(line["finding_info"]["types"], json!(["Inborn:Runtime/RuleMatched"]));
    let metrics = &setup.region.metrics.detection;
    assert_eq!((metrics.rules.get(), metrics.rule_errors.get()), (1, 1));
}

#[tokio::test]
async fn overload_is_counted_and_delays_nobody() {
    let setup = start(DetectionSettings::default()).await;
    let events = vec![reverse_shell(); 500];
    let one = batch(&events);
    let begun = Instant::now();
    for _ in 0..2000 {
        setup.region.telemetry.tell(&Arc::clone(&one));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "accepting waited for the rules");
    // What is left out is counted with the next batch that is judged.
    let counted = || setup.region.metrics.detection.skipped.get() > 0;
    let begun = Instant::now();
    while !counted() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
