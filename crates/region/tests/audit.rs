//! What happens to calls when the audit cannot be written.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use inborn_region::KeySource;
use inborn_store::SqliteStore;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const LAUNCH: &str = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1";

async fn start_audited(directory: tempfile::TempDir) -> Running {
    start_in(directory, Arc::new(SqliteStore::in_memory().unwrap()), KeySource::Ephemeral).await
}

/// The value of a counter without labels.
fn counter(running: &Running, name: &str) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    running.region.metrics().register(&mut registry);
    let text = inborn_region::encode_metrics(&registry).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_call_that_changes_something_is_refused_when_it_cannot_be_recorded() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", directory.path().join("audit.jsonl")).unwrap();
    let running = start_audited(directory).await;
    let operator = running.operator();
    assert_eq!(running.send(&operator, &call("sts", WHOAMI)).await.status, 200, "who only looks is answered");
    assert_eq!(counter(&running, "inborn_audit_lines_lost_total"), 1);
    assert_eq!(counter(&running, "inborn_audit_mutations_refused_total"), 0);
    let reply = running.send(&operator, &ec2(LAUNCH)).await;
    assert_eq!((reply.status, between(&reply.body, "<Code>", "</Code>")), (503, "Unavailable"));
    assert_eq!(running.region.machines().count(), 0, "nothing was done");
    assert_eq!(counter(&running, "inborn_audit_lines_lost_total"), 2, "the refusal could not be recorded, either");
    assert_eq!(counter(&running, "inborn_audit_mutations_refused_total"), 1);
}

#[tokio::test]
async fn what_a_change_answered_is_recorded_as_cloudtrail_does() {
    let running = start().await;
    let id = running.launch().await;
    let elements = serde_json::json!({ "instancesSet": { "items": [{ "instanceId": id.to_string() }] } });
    assert_eq!(running.audit().pop().unwrap()["responseElements"], elements);
    running.send(&running.operator(), &ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"))).await;
    assert_eq!(running.audit().pop().unwrap()["responseElements"], elements);
}

/// The most machines that one call launches, with as much said about them as there is room for.
#[tokio::test]
async fn a_thousand_machines_are_all_in_the_record() {
    let running = start().await;
    let tags: String = (1..=50)
        .map(|n| {
            let value = "%01".repeat(255);
            format!("&TagSpecification.1.Tag.{n}.Key=k{n}&TagSpecification.1.Tag.{n}.Value={value}")
        })
        .collect();
    let launch = format!(
        "Action=RunInstances&ImageId=ami-12345678&MinCount=1000&MaxCount=1000&TagSpecification.1.ResourceType=instance{tags}"
    );
    let reply = running.send(&running.operator(), &ec2(&launch)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let event = running.audit().pop().unwrap();
    assert_eq!(event["responseElements"]["instancesSet"]["items"].as_array().map(Vec::len), Some(1000));
    assert_eq!(event["requestParameters"]["omitted"], "the record was too large");
}

/// A small disk of its own.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Self> {
        let options = c"size=4m,mode=0700";
        mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options).ok()?;
        Some(Self(at.to_owned()))
    }

    /// Takes all the space there is.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_first_stops_changes_and_loses_no_line_before_its_reserve_is_used_up() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(directory.path()) else {
        assert!(std::env::var_os("CI").is_none(), "on CI nobody reads that this was skipped");
        eprintln!("SKIPPED: mounting a small disk needs root");
        return;
    };
    let running = start_audited(directory).await;
    let operator = running.operator();
    let id = running.launch().await;
    let filler = disk.fill();
    let terminate = ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"));

    // Lines of 20 kB, from calls that only look.
    let values: String = (1..=20).map(|n| format!("&Filter.1.Value.{n}={}", "x".repeat(1000))).collect();
    let look = ec2(&format!("Action=DescribeInstances&Filter.1.Name=tag:a{values}"));
    let mut looks = 0;
    let refused = loop {
        let reply = running.send(&operator, &ec2(LAUNCH)).await;
        if reply.status != 200 {
            break reply;
        }
        assert_eq!(running.send(&operator, &look).await.status, 200);
        looks += 1;
        assert!(looks < 200, "the disk is not full");
    };
    assert!(looks >= 30, "the reserve of 1 MiB was there for {looks} lines only");
    assert_eq!((refused.status, between(&refused.body, "<Code>", "</Code>")), (503, "Unavailable"));
    assert_eq!(running.send(&operator, &terminate).await.status, 503);
    assert_eq!(counter(&running, "inborn_audit_lines_lost_total"), 0);
    assert_eq!(counter(&running, "inborn_audit_mutations_refused_total"), 2);
    let last = running.audit().pop().unwrap();
    assert_eq!((&last["eventName"], &last["errorCode"]), (&"TerminateInstances".into(), &"Server.Unavailable".into()));

    // Beyond the reserve, lines are lost, but whole.
    for _ in 0..20 {
        assert_eq!(running.send(&operator, &look).await.status, 200);
    }
    assert!(counter(&running, "inborn_audit_lines_lost_total") > 0);
    let lines = running.audit().len();

    // A rotation needs space that is not there: all goes on in the same file.
    running.clock.advance(86_400);
    assert_eq!(running.send(&operator, &call("sts", WHOAMI)).await.status, 200);
    running.region.tidy().await;
    let names: Vec<_> = fs::read_dir(&disk.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");

    fs::remove_file(filler).unwrap();
    running.clock.advance(60);
    assert_eq!(running.send(&operator, &call("sts", WHOAMI)).await.status, 200);
    assert_eq!(running.send(&operator, &terminate).await.status, 200, "space was made");
    let after = running.audit();
    assert_eq!(after.len(), 2, "in a new file");
    assert!(lines > looks);
    drop(running);
}
