use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inborn_detect::finding::{Action, AwsApiCall, FINDINGS_OF_A_TYPE_MAX, IpDetails};
use inborn_detect::{Finding, FindingKey, FindingType, Recorded};
use inborn_identity::{AccountId, Clock, InstanceId, Partition, UnixTime};
use inborn_store::{PartKind, SqliteStore, StoreError};
use inborn_telemetry::{Batch, ClassUid, Record, Source};
use inborn_testkit::ManualClock;
use serde_json::{Value, json};

use crate::guardduty::SetChange;
use crate::guardduty::fixtures::finding;
use crate::guardduty::settings::{AddressSet, Tags};

use super::{Counted, DetectionSettings, FindingOutput, FindingSink, Recording};
use crate::{KeySource, Opening, Rates, RegionIdentity, RegionServer, TelemetrySettings};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps findings in memory, and fails as often as it is told.
#[derive(Default)]
struct Kept {
    findings: Mutex<BTreeMap<FindingKey, Finding>>,
    stored: Mutex<usize>,
    failures: Mutex<usize>,
}

impl FindingSink for Kept {
    fn record<'a>(&'a self, finding: &'a Finding, _: Option<Counted>, now: UnixTime) -> Recording<'a> {
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
            if finding.title.starts_with("unwanted") {
                return Ok(None);
            }
            Ok(Some(Recorded {
                detector: "0".repeat(32).into(),
                id: "1".repeat(32).into(),
                created_at: now,
                updated_at: now,
                archived: false,
                first,
            }))
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
        epochs: crate::EpochSettings::DEFAULT,
        accept_older_store: false,
        fleet: None,
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

/// Waits until `is_so`; gives how long that took.
async fn until(is_so: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "nothing was found");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn a_reverse_shell_is_found_within_two_seconds_and_counted_up() {
    let shells = vec![harmless(), reverse_shell(), reverse_shell(), harmless(), reverse_shell()];
    let mut times = Vec::new();
    // A busy computer is slow now and then; a detection that waits too long always is.
    let setup = loop {
        let setup = start(DetectionSettings::default()).await;
        setup.region.telemetry.tell(batch(&shells));
        let first = until(|| setup.lines.0.lock().unwrap().len() == 1).await;
        setup.region.telemetry.tell(batch(&[reverse_shell()]));
        let again = until(|| setup.lines.0.lock().unwrap().len() == 2).await;
        times.push(first.max(again));
        if first.max(again) < Duration::from_secs(2) {
            break setup;
        }
        assert!(times.len() < 3, "{times:?}");
    };
    let line = setup.lines.0.lock().unwrap()[0].clone();
    assert_eq!((&line["class_uid"], &line["type_uid"], &line["count"]), (&json!(2004), &json!(200_401), &json!(3)));
    assert_eq!(line["finding_info"]["types"], json!(["Execution:Runtime/ReverseShell"]));
    assert_eq!(line["resources"][0]["uid"], machine().to_string());

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
        setup.region.telemetry.tell(batch(&[reverse_shell(), reverse_shell()]));
    }
    let counted = || setup.kept.findings.lock().unwrap().values().map(|finding| finding.count).sum::<u32>();
    until(|| counted() == 100).await;
    assert!(*setup.kept.stored.lock().unwrap() <= 10, "{}", setup.kept.stored.lock().unwrap());
}

#[tokio::test]
async fn a_finding_that_cannot_be_stored_is_stored_later() {
    let setup = start(DetectionSettings::default()).await;
    *setup.kept.failures.lock().unwrap() = 1;
    setup.region.telemetry.tell(batch(&[reverse_shell()]));
    until(|| !setup.lines.0.lock().unwrap().is_empty()).await;
    assert_eq!(setup.kept.findings.lock().unwrap().values().next().unwrap().count, 1);
    assert_eq!(setup.region.metrics.detection.lost.get(), 0);
}

#[tokio::test]
async fn events_that_no_rule_can_read_stop_nothing() {
    let setup = start(DetectionSettings::default()).await;
    let mut odd = Batch::clone(&batch(&[harmless(), reverse_shell()]));
    odd.records[0].json = "{\"class_uid\":1007,".into();
    setup.region.telemetry.tell(odd);
    until(|| setup.lines.0.lock().unwrap().len() == 1).await;
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
    setup.region.telemetry.tell(batch(&[harmless(), reverse_shell()]));
    until(|| setup.lines.0.lock().unwrap().len() == 1).await;
    let line = setup.lines.0.lock().unwrap()[0].clone();
    assert_eq!(line["finding_info"]["analytic"]["uid"], "mine");
    assert_eq!(line["finding_info"]["types"], json!(["Inborn:Runtime/RuleMatched"]));
    let metrics = &setup.region.metrics.detection;
    assert_eq!((metrics.rules.get(), metrics.rule_errors.get()), (1, 1));
}

fn shell_to(number: usize) -> Value {
    let mut shell = reverse_shell();
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    shell["unmapped"]["dup"]["dst_endpoint"]["ip"] = json!(format!("10.0.{high}.{low}"));
    shell
}

fn away(subject: &str) -> Finding {
    Finding { kind: FindingType::EXFILTRATION_OUTSIDE, title: subject.to_owned(), ..finding(subject, NOW) }
}

#[tokio::test]
async fn a_flood_of_different_findings_hides_nothing_and_is_counted() {
    let setup = start(DetectionSettings::default()).await;
    let flood: Vec<Value> = (0..2000).map(shell_to).collect();
    setup.region.telemetry.tell(batch(&flood));
    let mut others = Batch::clone(&batch(&[reverse_shell()]));
    others.source.instance = "i-00000000000000002".parse().unwrap();
    setup.region.telemetry.tell(others);
    setup.region.detection().found(away("192.0.2.1"));
    let counted = || setup.kept.findings.lock().unwrap().values().map(|finding| finding.count).sum::<u32>();
    until(|| counted() == 2002).await;
    let findings = setup.kept.findings.lock().unwrap();
    let of = |kind: &str, number: &str| {
        let is_of =
            |finding: &&Finding| finding.kind.as_str() == kind && finding.instance().unwrap().to_string() == number;
        findings.values().filter(is_of).count()
    };
    assert_eq!(of("Execution:Runtime/ReverseShell", &machine().to_string()), FINDINGS_OF_A_TYPE_MAX + 1);
    assert_eq!(of("Execution:Runtime/ReverseShell", "i-00000000000000002"), 1);
    assert_eq!(of(FindingType::EXFILTRATION_OUTSIDE.as_str(), &machine().to_string()), 1);
    assert_eq!(setup.region.metrics.detection.lost.get(), 0);
}

#[tokio::test]
async fn what_nobody_wants_is_told_to_nobody() {
    let setup = start(DetectionSettings::default()).await;
    setup.region.detection().found(away("unwanted"));
    until(|| *setup.kept.stored.lock().unwrap() == 1).await;
    setup.region.detection().found(away("wanted"));
    until(|| !setup.lines.0.lock().unwrap().is_empty()).await;
    let lines = setup.lines.0.lock().unwrap();
    assert_eq!((lines.len(), &lines[0]["message"]), (1, &json!("wanted")));
    assert_eq!(setup.region.metrics.detection.findings.get(), 1);
}

fn connection(to: &str) -> Value {
    json!({
        "class_uid": 4001, "activity_id": 1, "connection_info": { "direction_id": 2 }, "dst_endpoint": { "ip": to, "port": 443 },
        "actor": { "process": { "pid": 7, "file": { "path": "/usr/bin/curl" } } },
    })
}

fn query(name: &str) -> Value {
    json!({ "class_uid": 4003, "activity_id": 1, "query": { "hostname": name } })
}

#[tokio::test]
async fn lists_of_the_account_make_findings_and_trusted_addresses_make_none() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bad.txt"), "192.0.2.0/24\nevil.example\n").unwrap();
    fs::write(directory.path().join("good.txt"), "192.0.2.7\n127.0.0.1\n").unwrap();
    // Rules of nobody: the lists are asked all the same.
    let setup = start(DetectionSettings { own_rules: false, ..DetectionSettings::default() }).await;
    let guardduty = setup.region.guardduty();
    guardduty.read_lists_from(directory.path().to_owned());
    let account = AccountId::new(123_456_789_012).unwrap();
    let detector = guardduty.ensure(account, NOW).await.unwrap().unwrap().id.clone();
    for (kind, name) in [(PartKind::ThreatIntelSet, "bad"), (PartKind::IpSet, "good")] {
        let set = AddressSet {
            name: name.to_owned(),
            format: "TXT".to_owned(),
            location: format!("file:{name}.txt"),
            is_active: true,
            bucket_owner: None,
            tags: Tags::new(),
            client_token: None,
        };
        let change = |_: Option<&AddressSet>, _: &BTreeMap<_, _>| Ok::<_, ()>(SetChange::To(set.clone()));
        assert!(guardduty.put_set((account, &detector, kind), None, change).await.is_ok());
    }
    setup.region.detection().found(Finding { action: Some(remote("127.0.0.1")), ..away("trusted") });
    let events = [connection("192.0.2.1"), connection("192.0.2.7"), connection("203.0.113.1"), query("a.evil.example")];
    setup.region.telemetry.tell(batch(&events));
    until(|| setup.lines.0.lock().unwrap().len() == 2).await;
    until(|| setup.region.metrics.detection.trusted.get() == 2).await;
    let lines = setup.lines.0.lock().unwrap();
    let kinds: BTreeSet<&str> = lines.iter().map(|line| line["finding_info"]["types"][0].as_str().unwrap()).collect();
    let expected = ["Impact:EC2/MaliciousDomainRequest.Custom", "UnauthorizedAccess:EC2/MaliciousIPCaller.Custom"];
    assert_eq!(kinds, BTreeSet::from(expected));
    let findings = setup.kept.findings.lock().unwrap();
    assert!(findings.values().all(|finding| finding.threat_lists[0].name == "bad"));
}

fn remote(address: &str) -> Action {
    Action::AwsApiCall(AwsApiCall {
        api: "GetCallerIdentity".to_owned(),
        service: "sts.amazonaws.com".to_owned(),
        user_agent: None,
        remote: IpDetails(address.parse().unwrap()),
        error_code: None,
    })
}

#[tokio::test]
async fn overload_is_counted_and_delays_nobody() {
    let events = vec![reverse_shell(); 500];
    let one = batch(&events);
    let mut times = Vec::new();
    // A busy computer is slow now and then; whoever waits for the rules always is.
    let setup = loop {
        let setup = start(DetectionSettings::default()).await;
        let begun = Instant::now();
        for _ in 0..2000 {
            setup.region.telemetry.tell(Arc::clone(&one));
        }
        let took = begun.elapsed();
        times.push(took);
        if took < Duration::from_secs(2) {
            break setup;
        }
        assert!(times.len() < 3, "accepting waited for the rules: {times:?}");
    };
    // What is left out is counted with the next batch that is judged.
    until(|| setup.region.metrics.detection.skipped.get() > 0).await;
}
