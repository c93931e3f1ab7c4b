//! One region server: it starts, crashes, starts again, and reaches its store over a link of its own.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use inborn_identity::{AccountId, Clock, Partition};
use inborn_region::{
    EpochSettings, FleetSettings, HostsEndpoint, KeySource, Opening, Rate, Rates, RegionIdentity, RegionServer,
    StalePolicy, TelemetrySettings,
};
use inborn_store::SqliteStore;
use inborn_testkit::{Fate, FaultyStore, LateChanges, Link, Passage};
use tokio::sync::Notify;

use crate::call::REGION;
use crate::clock::SimulatedClock;
use crate::line::Losses;

const KEY_FILE: &str = "epoch.key";

/// A change that takes effect late does so within this time, every second one sooner.
const LATE_MAX: Duration = Duration::from_secs(60);
const SOON_MAX: Duration = Duration::from_secs(4);

/// The link of one run of a server to the store.
pub(crate) struct StoreLink {
    state: Arc<Mutex<LinkState>>,
    late: Arc<LateChanges>,
    is_gone: AtomicBool,
    goes: Notify,
}

/// How the link of a server is.
pub(crate) struct LinkState {
    pub(crate) random: fastrand::Rng,
    pub(crate) is_cut: bool,
    /// The longest that one way takes.
    pub(crate) way_max: Duration,
    /// Of a thousand calls, how many are lost.
    pub(crate) lost_per_mille: u32,
    /// Of a thousand changes, how many take effect late.
    pub(crate) late_per_mille: u32,
}

impl Link for StoreLink {
    fn passage(&self) -> Passage {
        let mut state = self.state.lock().unwrap();
        let longest = u64::try_from(state.way_max.as_micros()).unwrap();
        let mut way = || Duration::from_micros(state.random.u64(0..=longest));
        let (there, back) = (way(), way());
        let is_lost = state.is_cut || state.random.u32(0..1000) < state.lost_per_mille;
        let fate = match (self.is_gone.load(Ordering::SeqCst), is_lost) {
            (true, _) => Fate::CallerIsGone,
            (false, true) if state.random.bool() => Fate::CallIsLost,
            (false, true) if !state.is_cut => Fate::AnswerIsLost,
            (false, true) => Fate::CallIsLost,
            (false, false) => Fate::Arrives,
        };
        Passage { there, back, fate }
    }

    fn lateness(&self) -> Option<Duration> {
        let LinkState { random, late_per_mille, .. } = &mut *self.state.lock().unwrap();
        // Whatever is drawn for nothing makes others of all seeds.
        if *late_per_mille == 0 || random.u32(0..1000) >= *late_per_mille {
            return None;
        }
        let most = if random.bool() { SOON_MAX } else { LATE_MAX };
        Some(most.mul_f64(random.f64()))
    }

    fn late(&self) -> Arc<LateChanges> {
        Arc::clone(&self.late)
    }
}

/// A server, whether it runs or not.
pub(crate) struct Server {
    pub(crate) number: usize,
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) link: Arc<Mutex<LinkState>>,
    /// What becomes of calls of operators and machines.
    pub(crate) losses: Cell<Losses>,
    /// Whether its data directory is not there.
    is_bare: Cell<bool>,
    stale: StalePolicy,
    store: SqliteStore,
    late: Arc<LateChanges>,
    directory: PathBuf,
    running: Mutex<Option<Running>>,
}

/// A server that runs.
#[derive(Clone)]
pub(crate) struct Running {
    /// Of which server.
    pub(crate) number: usize,
    pub(crate) region: Arc<RegionServer>,
    pub(crate) hosts: Arc<HostsEndpoint>,
    /// Which run of which server this is: another one after each start.
    pub(crate) run: usize,
    link: Arc<StoreLink>,
}

impl Server {
    pub(crate) fn new(
        number: usize,
        clock: SimulatedClock,
        random: fastrand::Rng,
        stale: StalePolicy,
        (store, late): (SqliteStore, Arc<LateChanges>),
        directory: PathBuf,
    ) -> Self {
        let way_max = Duration::from_millis(3);
        let link = LinkState { random, is_cut: false, way_max, lost_per_mille: 0, late_per_mille: 0 };
        Self {
            number,
            clock: Arc::new(clock),
            link: Arc::new(Mutex::new(link)),
            losses: Cell::default(),
            is_bare: Cell::new(false),
            stale,
            store,
            late,
            directory,
            running: Mutex::default(),
        }
    }

    /// The server, if it runs.
    pub(crate) fn running(&self) -> Option<Running> {
        self.running.lock().unwrap().clone()
    }

    /// Starts it. That may fail, as its store may.
    pub(crate) async fn start(&self, run: usize) -> Result<(), String> {
        let (state, late) = (Arc::clone(&self.link), Arc::clone(&self.late));
        let link = Arc::new(StoreLink { state, late, is_gone: AtomicBool::new(false), goes: Notify::new() });
        let store = FaultyStore::behind(Arc::new(self.store.another_node()), Arc::clone(&link) as _);
        let none = Rate { per_second: 0, burst: 0 };
        let own = self.own(self.number);
        if self.is_bare.get() {
            return Err("its data directory is not there".to_owned());
        }
        std::fs::create_dir_all(&own).map_err(|error| error.to_string())?;
        let (key, first) = (own.join(KEY_FILE), self.own(0).join(KEY_FILE));
        // As an operator copies it before the first start.
        if self.number > 0 && !key.exists() {
            std::fs::copy(first, &key).map_err(|error| error.to_string())?;
        }
        let opening = Opening {
            identity: RegionIdentity {
                partition: Partition::Aws,
                region: REGION.parse().unwrap(),
                account: AccountId::new(123_456_789_012).unwrap(),
                domain: "amazonaws.com".to_owned(),
            },
            key_source: KeySource::File(key),
            audit_file: own.join("audit.jsonl"),
            rates: Rates { source: none, principal: none },
            telemetry: TelemetrySettings::default(),
            epochs: EpochSettings::default(),
            accept_older_store: false,
            fleet: Some(FleetSettings {
                name: format!("server-{}", self.number),
                stale: [("sts".to_owned(), self.stale)].into(),
            }),
        };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let region = RegionServer::open(Arc::new(store), opening, clock).await.map_err(|error| error.to_string())?;
        let hosts = HostsEndpoint::new(Arc::clone(&region));
        *self.running.lock().unwrap() = Some(Running { number: self.number, region, hosts, run, link });
        Ok(())
    }

    /// Ends it as a loss of power does: whatever it was about to do is not done.
    pub(crate) fn crash(&self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            running.link.is_gone.store(true, Ordering::SeqCst);
            running.link.goes.notify_waiters();
        }
    }

    fn own(&self, number: usize) -> PathBuf {
        self.directory.join(format!("server-{number}"))
    }

    /// Its data directory is not there any more, or is again: nothing that it would put there can be put there, and it cannot start.
    pub(crate) fn set_bare(&self, is_bare: bool) {
        if self.is_bare.replace(is_bare) != is_bare {
            let (own, away) = (self.own(self.number), self.directory.join(format!("away-{}", self.number)));
            let (from, to) = if is_bare { (own, away) } else { (away, own) };
            std::fs::rename(from, to).unwrap();
        }
    }
}

impl Running {
    /// Whether it has not crashed since.
    pub(crate) fn is_there(&self) -> bool {
        !self.link.is_gone.load(Ordering::SeqCst)
    }

    /// Waits until it crashes.
    pub(crate) async fn ends(&self) {
        let goes = self.link.goes.notified();
        if self.is_there() {
            goes.await;
        }
    }
}
