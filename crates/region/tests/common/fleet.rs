//! Several region servers over one store.

use std::sync::Arc;
use std::time::Duration;

use inborn_identity::{InstanceId, UnixTime};
use inborn_region::{EpochSettings, FleetSettings, KeySource, Opening, Rates, TelemetrySettings};
use inborn_store::{SqliteStore, Store};
use inborn_testkit::FaultyStore;
use serde_json::json as value;

use super::commands::body;
use super::{NOW, Running, Signer, WHOAMI, call, identity, start_at};

/// How long what servers tell each other may take, on whatever computer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A store, and servers that have it open, each as a program of its own.
pub struct Fleet {
    pub store: SqliteStore,
    keys: tempfile::TempDir,
}

/// A server, and what it has of the store.
pub struct Server {
    pub running: Running,
    pub link: Arc<FaultyStore>,
}

impl core::ops::Deref for Server {
    type Target = Running;
    fn deref(&self) -> &Running {
        &self.running
    }
}

impl Fleet {
    pub fn new() -> Self {
        Self { store: SqliteStore::in_memory().unwrap(), keys: tempfile::tempdir().unwrap() }
    }

    pub async fn server(&self, name: &str) -> Server {
        self.server_at(name, NOW).await
    }

    pub async fn server_at(&self, name: &str, now: UnixTime) -> Server {
        self.start(name, now, &[]).await
    }

    /// One that finds something else in these records than was ever written there: see [`FaultyStore::damage`].
    pub async fn server_that_cannot_read(&self, name: &str, damaged: &[&str]) -> Server {
        self.start(name, NOW, damaged).await
    }

    async fn start(&self, name: &str, now: UnixTime, damaged: &[&str]) -> Server {
        let link = Arc::new(FaultyStore::new(Arc::new(self.store.another_node())));
        damaged.iter().for_each(|what| link.damage(what));
        let directory = tempfile::tempdir().unwrap();
        let opening = Opening {
            identity: identity(),
            key_source: KeySource::File(self.keys.path().join("epoch.key")),
            audit_file: directory.path().join("audit.jsonl"),
            rates: Rates::default(),
            telemetry: TelemetrySettings::default(),
            epochs: EpochSettings::DEFAULT,
            accept_older_store: false,
            fleet: Some(FleetSettings { name: name.to_owned(), stale: [].into() }),
        };
        let running = start_at(directory, Arc::clone(&link) as Arc<dyn Store>, opening, now).await;
        Server { running, link }
    }
}

pub async fn two() -> (Fleet, Server, Server) {
    let fleet = Fleet::new();
    let a = fleet.server("a").await;
    let b = fleet.server("b").await;
    (fleet, a, b)
}

/// Waits until something is as it should be.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sets the clocks, and waits until no server believes that it has not heard for so long.
pub async fn set_time(servers: &[&Server], now: UnixTime) {
    for server in servers {
        server.clock.set(now);
    }
    for server in servers {
        until("it hears again", async || server.region.faults().await.is_empty()).await;
    }
}

/// A machine that both servers know, with the session of its agent.
pub async fn node(at: &Running, other: &Running) -> (InstanceId, Signer) {
    let (id, session) = at.node().await;
    let describe = value!({"Filters": [{"Key": "InstanceIds", "Values": [id.to_string()]}]});
    until("an agent is known", async || {
        let reply = other.ssm("DescribeInstanceInformation", describe.clone()).await;
        body(&reply)["InstanceInformationList"][0]["ComputerName"] == "web-1"
    })
    .await;
    let whoami = || call("sts", WHOAMI);
    until("its session is known", async || other.send(&session, &whoami()).await.status == 200).await;
    (id, session)
}
