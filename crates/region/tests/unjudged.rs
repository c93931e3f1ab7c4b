//! A region that is killed with SIGKILL between the acknowledgement of events and their judgement, and one that is killed after
//! it: what the events tell of is found by the next one, and counted once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use inborn_identity::InstanceId;
use inborn_lake::{Lake, Settings};
use inborn_region::{DetectionSettings, KeySource, encode_metrics};
use inborn_store::SqliteStore;
use inborn_telemetry::{Batch, ClassUid, Record, Source};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

const PLACE: &str = "INBORN_UNJUDGED_TEST_PLACE";
const EVENTS: &str = "INBORN_UNJUDGED_TEST_EVENTS";
/// How often the finding is to be seen before the process is killed. 0: it is killed before anything is judged.
const SEEN: &str = "INBORN_UNJUDGED_TEST_SEEN";
/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// A region over a store and a lake that outlive it.
struct Server {
    running: Running,
    lake: Lake,
}

impl Server {
    async fn start(place: &Path) -> Self {
        let store = Arc::new(SqliteStore::open(&place.join("inborn.db")).unwrap());
        let running = start_on(store, KeySource::File(place.join("epoch.key"))).await;
        let lake = Lake::open(&place.join("telemetry"), Settings { free_bytes_min: 0, ..Settings::default() }, NOW);
        let lake = lake.unwrap();
        running.region.keep_findings();
        running.region.telemetry().keep_in_lake(lake.clone());
        running.region.detect(DetectionSettings::default());
        Self { running, lake }
    }

    /// How often what the events tell of was seen, of each finding.
    async fn counts(&self) -> Vec<u64> {
        let ask = |method, target: String, body: &str| {
            let headers = vec![("content-type", "application/json".to_owned())];
            let call = Call { method, target, headers, ..call("guardduty", body) };
            async move {
                let reply = self.running.send(&self.running.operator(), &call).await;
                assert_eq!(reply.status, 200, "{}", reply.body);
                serde_json::from_str::<Value>(&reply.body).unwrap()
            }
        };
        let detectors = ask("GET", "/detector".to_owned(), "").await;
        let Some(detector) = detectors["detectorIds"][0].as_str() else { return Vec::new() };
        let found = ask("POST", format!("/detector/{detector}/findings"), "{}").await;
        let body = json!({ "findingIds": found["findingIds"] }).to_string();
        let found = ask("POST", format!("/detector/{detector}/findings/get"), &body).await;
        let found = found["findings"].as_array().unwrap();
        assert!(found.iter().all(|finding| finding.get("inbornCounted").is_none()), "that is ours alone");
        found.iter().map(|finding| finding["service"]["count"].as_u64().unwrap()).collect()
    }

    async fn until_seen(&self, often: u64) {
        self.until(async || self.counts().await == [often]).await;
    }

    async fn until(&self, is_so: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !is_so().await {
            assert!(begun.elapsed() < PATIENCE, "found: {:?}", self.counts().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many events were judged that an earlier process had not.
    fn late(&self) -> u64 {
        let mut registry = Registry::default();
        self.running.region.metrics().register(&mut registry);
        let text = encode_metrics(&registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("inborn_detection_events_late_total "));
        line.unwrap().parse().unwrap()
    }

    /// Ends it as a stop does.
    async fn stop(self) {
        self.lake.close().await;
        self.running.region.store().close().await.unwrap();
    }
}

/// Runs on one thread, and ends everything that goes on beside it.
fn alone(all: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(all);
}

/// The segment of the bookmark on the disk.
fn bookmark(place: &Path) -> u64 {
    let bytes = fs::read(place.join("telemetry/judged")).unwrap();
    u64::from_le_bytes(bytes[8..16].try_into().unwrap())
}

/// The last segment of the log.
fn last_segment(place: &Path) -> u64 {
    let names = fs::read_dir(place.join("telemetry/log")).unwrap().map(|entry| entry.unwrap().path());
    let logs = names.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap()).max().unwrap()
}

/// A shell that is tied to a connection, so many times.
fn shells(name: &str, count: u32) -> Batch {
    let event = json!({
        "class_uid": 1003, "activity_id": 4, "time": 1_799_999_999_000_u64, "kernel": { "name": "dup" },
        "actor": { "process": { "pid": 9, "file": { "path": "/usr/bin/bash" } } },
        "unmapped": { "dup": { "new_fd": 0, "fds": [0, 1, 2], "dst_endpoint": { "ip": "127.0.0.1", "port": 4444 } } },
    });
    let record = |number: u32| Record {
        uid: format!("{name}-{number}").into(),
        time_ms: 1_799_999_999_000,
        class: ClassUid(1003),
        json: event.to_string().into(),
    };
    let source = Source {
        account: identity().account,
        instance: "i-0123456789abcdef0".parse::<InstanceId>().unwrap(),
        region: identity().region,
    };
    Batch { source, received_at: NOW, records: (0..count).map(record).collect() }
}

/// The child: takes events in, and stands still for ever once they are acknowledged, or found as often as it is told. Nothing else
/// runs on its one thread then: what was not recorded is not recorded.
fn take_in_and_stand_still(place: &Path, events: &str, seen: u64) {
    let begun = Instant::now();
    alone(async {
        let server = Server::start(place).await;
        server.lake.append(shells(events, 2)).await.unwrap();
        if seen > 0 {
            server.until_seen(seen).await;
        }
        let said = format!("stands still after ms {}\n", begun.elapsed().as_millis());
        std::io::stdout().write_all(said.as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
        loop {
            std::thread::sleep(PATIENCE);
        }
    });
}

/// Gives whether the child was killed before it wrote down by itself how far it had come, which it does after five seconds.
fn run_and_kill(place: &Path, events: &str, seen: u64) -> bool {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "what_was_acknowledged_is_judged_once", "--nocapture"])
        .env(PLACE, place)
        .env(EVENTS, events)
        .env(SEEN, seen.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let took = lines.find_map(|line| line.strip_prefix("stands still after ms ")?.parse::<u64>().ok());
    let took = took.unwrap_or_else(|| panic!("the child ended by itself"));
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "the child ended by itself: {status}");
    took < 4000
}

/// Until it is on the disk that everything was judged which was there at the start.
async fn settled(server: &Server, place: &Path) {
    server.until(async || bookmark(place) > last_segment(place)).await;
}

#[test]
fn what_was_acknowledged_is_judged_once() {
    if let (Some(place), Ok(events), Ok(seen)) = (env::var_os(PLACE), env::var(EVENTS), env::var(SEEN)) {
        return take_in_and_stand_still(Path::new(&place), &events, seen.parse().unwrap());
    }
    let mut directories = (0..5).map(|_| tempfile::tempdir().unwrap());
    let is_in_time = |directory: &tempfile::TempDir| {
        let place = directory.path();
        // Killed before anything was judged: nothing is found. Then one judges it, takes more in that is judged, and is killed before
        // anything of that is on the disk but the finding.
        run_and_kill(place, "a", 0) && run_and_kill(place, "b", 4)
    };
    let directory = directories.find(is_in_time).unwrap_or_else(|| panic!("no child was in time"));
    let place = directory.path();
    alone(async {
        let server = Server::start(place).await;
        settled(&server, place).await;
        assert_eq!((server.counts().await, server.late()), (vec![4], 4), "all is judged again, and nothing counted");
        server.lake.append(shells("c", 2)).await.unwrap();
        server.until_seen(6).await;
        server.stop().await;
    });
    // The place on the disk is of nobody: the whole log is judged again, and nothing counted.
    fs::write(place.join("telemetry/judged"), b"no bookmark").unwrap();
    alone(async {
        let server = Server::start(place).await;
        settled(&server, place).await;
        assert_eq!((server.counts().await, server.late()), (vec![6], 6));
        server.stop().await;
    });
    // The log is gone meanwhile, and what it held is Parquet: there is nothing to judge, and what comes is.
    alone(async {
        let lake = Lake::open(&place.join("telemetry"), Settings::default(), NOW).unwrap();
        lake.append(shells("unseen", 2)).await.unwrap();
        lake.compact().unwrap();
        lake.close().await;
        let server = Server::start(place).await;
        server.lake.append(shells("d", 1)).await.unwrap();
        server.until_seen(7).await;
        assert_eq!(server.late(), 0);
        server.stop().await;
    });
}

#[test]
fn what_waited_at_a_stop_is_judged_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    alone(async {
        let server = Server::start(place).await;
        server.lake.append(shells("a", 3)).await.unwrap();
        server.stop().await;
    });
    alone(async {
        let server = Server::start(place).await;
        server.until_seen(3).await;
        assert_eq!(server.late(), 3);
        server.stop().await;
    });
}
