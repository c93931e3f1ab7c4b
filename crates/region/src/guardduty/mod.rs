//! Detectors: what is set up to watch each account, which machines send telemetry, and what was found.
//!
//! An account has a detector from its first telemetry on, or from `CreateDetector`: whoever starts a region sees what is found
//! without having set up anything. One that was deleted does not come back by itself.

mod agents;
mod changes;
mod counted;
pub(crate) mod criteria;
mod events;
pub(crate) mod findings;
#[cfg(test)]
pub(crate) mod fixtures;
mod lists;
pub(crate) mod settings;
mod shares;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_store::{AgentReport, Conflict, Detector, DetectorPart, PartKind, Store, StoreError};
use tokio::sync::Mutex;

use crate::RegionServer;
use crate::gateway::new_uuid;
use crate::telemetry::Agent;
use agents::Agents;
use criteria::Criteria;
pub use events::EventSource;
use findings::Turn;
pub(crate) use lists::Entries;
use settings::{AddressSet, Filter, Settings};

pub(crate) use agents::is_covered;

/// Detectors: the store's truth, mirrored in memory for those who cannot wait for it.
pub(crate) struct GuardDuty {
    store: Arc<dyn Store>,
    watched: ArcSwap<BTreeMap<AccountId, Arc<Watched>>>,
    /// Changes of detectors and their parts take turns, and so do those of findings. Whoever has both took the former first.
    changes: Mutex<()>,
    turn: Mutex<Turn>,
    agents: Agents,
    lists: OnceLock<PathBuf>,
    events: events::Asked,
}

/// A detector and what is set up at it.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) id: String,
    pub(crate) account: AccountId,
    pub(crate) created_at: UnixTime,
    pub(crate) updated_at: UnixTime,
    pub(crate) settings: Settings,
    /// These as the store has them, byte for byte: the next change is compared with that.
    stored: String,
    pub(crate) filters: BTreeMap<String, (Filter, Criteria)>,
    pub(crate) ip_sets: BTreeMap<String, ReadSet>,
    pub(crate) threat_sets: BTreeMap<String, ReadSet>,
}

/// A set of addresses, and what its file has, if it is active and could be read.
#[derive(Clone, Debug)]
pub(crate) struct ReadSet {
    pub(crate) set: AddressSet,
    pub(crate) entries: Option<Arc<Entries>>,
}

/// Why something about a detector was not done.
#[derive(Debug)]
pub(crate) enum ChangeError<E> {
    /// There is no such detector in the account.
    NoDetector,
    /// The store's.
    Store(StoreError),
    /// The file of a set.
    List(String),
    /// Who decides what is to be changed says no.
    Refused(E),
}

impl<E> From<StoreError> for ChangeError<E> {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(Conflict::Absent(_)) => Self::NoDetector,
            error => Self::Store(error),
        }
    }
}

/// What becomes of `CreateDetector`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Creation {
    /// It was made, or taken over from the one that had made itself.
    Done(String),
    /// The account has one.
    Exists,
}

impl Watched {
    /// One at which nothing is set up yet.
    fn new(id: String, account: AccountId, created_at: UnixTime, settings: Settings, stored: String) -> Self {
        let (filters, ip_sets, threat_sets) = Default::default();
        Self { id, account, created_at, updated_at: created_at, settings, stored, filters, ip_sets, threat_sets }
    }

    /// What the store has, without the files of sets.
    fn read(detector: Detector, parts: Vec<DetectorPart>) -> Result<Self, StoreError> {
        let Detector { id, account, created_at, updated_at, document } = detector;
        let settings = serde_json::from_str(&document).map_err(|_| damaged("detector", &id))?;
        let mut watched = Self { updated_at, ..Self::new(id, account, created_at, settings, document) };
        for DetectorPart { kind, id, document, .. } in parts {
            if kind == PartKind::Filter {
                let filter: Filter = serde_json::from_str(&document).map_err(|_| damaged("filter", &id))?;
                let criteria = Criteria::parse(&filter.criteria).map_err(|_| damaged("filter", &id))?;
                watched.filters.insert(id, (filter, criteria));
            } else {
                let set = serde_json::from_str(&document).map_err(|_| damaged("set", &id))?;
                watched.sets_mut(kind).insert(id, ReadSet { set, entries: None });
            }
        }
        Ok(watched)
    }

    fn record(&self) -> Detector {
        let Self { id, account, created_at, updated_at, stored, .. } = self;
        let (account, created_at, updated_at) = (*account, *created_at, *updated_at);
        Detector { id: id.clone(), account, created_at, updated_at, document: stored.clone() }
    }

    pub(crate) fn sets(&self, kind: PartKind) -> &BTreeMap<String, ReadSet> {
        if kind == PartKind::IpSet { &self.ip_sets } else { &self.threat_sets }
    }

    fn sets_mut(&mut self, kind: PartKind) -> &mut BTreeMap<String, ReadSet> {
        if kind == PartKind::IpSet { &mut self.ip_sets } else { &mut self.threat_sets }
    }

    /// Whether a filter puts this finding aside.
    pub(crate) fn puts_aside(&self, finding: &serde_json::Value) -> bool {
        self.filters.values().any(|(filter, criteria)| filter.archives && criteria.meets(finding))
    }
}

fn document(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Invalid("a document that is no JSON"))
}

fn damaged(what: &'static str, id: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} {id} holds what was never written there"))
}

impl GuardDuty {
    /// Reads all detectors.
    pub(crate) async fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let detectors = store.detectors().await?;
        let mut parts: BTreeMap<String, Vec<DetectorPart>> = BTreeMap::new();
        for part in store.detector_parts().await? {
            parts.entry(part.detector.clone()).or_default().push(part);
        }
        let mut watched = BTreeMap::new();
        for detector in detectors {
            let parts = parts.remove(&detector.id).unwrap_or_default();
            watched.insert(detector.account, Arc::new(Watched::read(detector, parts)?));
        }
        let agents = Agents::load(store.as_ref()).await?;
        let guardduty = Self {
            store,
            watched: ArcSwap::from_pointee(watched),
            changes: Mutex::default(),
            turn: Mutex::default(),
            agents,
            lists: OnceLock::new(),
            events: events::Asked::default(),
        };
        Ok(guardduty)
    }

    /// The detector of an account.
    pub(crate) fn of(&self, account: AccountId) -> Option<Arc<Watched>> {
        self.watched.load().get(&account).cloned()
    }

    /// The detector of this id, if it is the account's.
    pub(crate) fn get(&self, account: AccountId, id: &str) -> Option<Arc<Watched>> {
        self.of(account).filter(|watched| watched.id == id)
    }

    fn keep(&self, watched: Watched) {
        let watched = Arc::new(watched);
        self.watched.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            all.insert(watched.account, Arc::clone(&watched));
            all
        });
    }

    /// Forgets a detector. Another may have taken its place.
    fn forget(&self, account: AccountId, id: &str) {
        self.watched.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            if all.get(&account).is_some_and(|known| known.id == id) {
                all.remove(&account);
            }
            all
        });
    }

    /// What the file of a set has, if it is active. An empty location is never read.
    fn entries(&self, set: &AddressSet) -> Result<Option<Arc<Entries>>, String> {
        if !set.is_active {
            return lists::name(&set.location).map(|_| None).map_err(|error| error.to_string());
        }
        let Some(directory) = self.lists.get() else {
            return Err("this region has no directory for lists".to_owned());
        };
        lists::read(directory, &set.location).map(|entries| Some(Arc::new(entries))).map_err(|error| error.to_string())
    }

    /// Says where the files of sets are, and reads those of sets that are active. Only the first call counts.
    pub(crate) fn read_lists_from(&self, directory: PathBuf) {
        if self.lists.set(directory).is_ok() {
            self.read_lists();
        }
    }

    /// Reads the files of active sets again, while nobody changes a set; gives how many were read, and how many cannot be, of which the
    /// entries stay that were read before.
    pub(crate) async fn read_lists_again(&self) -> (usize, usize) {
        let _turn = self.changes.lock().await;
        self.read_lists()
    }

    fn read_lists(&self) -> (usize, usize) {
        let (mut count, mut failed) = (0, 0);
        for known in self.watched.load_full().values() {
            let mut now = Watched::clone(known);
            let (read, lost) = self.read_entries(&mut now, Some(known));
            (count, failed) = (count + read, failed + lost);
            let now = Arc::new(now);
            // At the start this is done while others may change it already: who does reads the files too.
            self.watched.rcu(|all| {
                let mut all = BTreeMap::clone(all);
                if all.get(&now.account).is_some_and(|there| Arc::ptr_eq(there, known)) {
                    all.insert(now.account, Arc::clone(&now));
                }
                all
            });
        }
        (count, failed)
    }

    /// Reads the files of the active sets of a detector; gives how many were read, and how many cannot be: of those the entries stay
    /// that `known` has of the same place.
    fn read_entries(&self, watched: &mut Watched, known: Option<&Watched>) -> (usize, usize) {
        let (mut count, mut failed) = (0, 0);
        if self.lists.get().is_none() {
            return (count, failed);
        }
        for kind in [PartKind::IpSet, PartKind::ThreatIntelSet] {
            for (id, read) in watched.sets_mut(kind) {
                match self.entries(&read.set) {
                    Ok(entries) => {
                        count += usize::from(entries.is_some());
                        read.entries = entries;
                    }
                    Err(error) => {
                        failed += 1;
                        let before = known.and_then(|known| known.sets(kind).get(id));
                        let before = before.filter(|before| before.set.location == read.set.location);
                        read.entries = before.and_then(|before| before.entries.clone());
                        let effect = if read.entries.is_some() { "is as it was" } else { "has no effect" };
                        tracing::warn!(set = %id, name = %read.set.name, %error, "a list cannot be read, and {effect}");
                    }
                }
            }
        }
        (count, failed)
    }

    /// Whom operators ask for events.
    pub(crate) const fn events(&self) -> &events::Asked {
        &self.events
    }

    /// What is known of the agent of a machine.
    pub(crate) fn agent(&self, instance: InstanceId) -> Option<AgentReport> {
        self.agents.get(instance)
    }
}

/// What becomes of a request for a set.
pub(crate) enum SetChange {
    /// There is one already, of this id: nothing is to be done.
    Done(String),
    /// It is to be as this says.
    To(AddressSet),
}

/// An id as GuardDuty has them: 32 hexadecimal digits.
pub(crate) fn new_id() -> String {
    new_uuid().to_string().replace('-', "")
}

impl RegionServer {
    /// A machine has sent telemetry, or a word that it lives, by an agent that may have said what it is. Cheap, to be called for
    /// each batch.
    pub(crate) fn telemetry_came(self: &Arc<Self>, account: AccountId, instance: InstanceId, agent: &Agent) {
        let now = self.now();
        let agent = agent.name.as_deref().map(|name| (name, agent.version.as_deref().unwrap_or_default()));
        if self.guardduty.agents.heard(instance, agent, now) {
            let region = Arc::clone(self);
            tokio::spawn(async move {
                let made = region.guardduty.ensure(account, now).await.err();
                let written = region.guardduty.agents.write(region.store().as_ref()).await.err();
                for error in [made, written].into_iter().flatten() {
                    tracing::warn!(%error, "what is known of an agent has to wait for the store");
                }
            });
        }
    }

    /// Says where the files of trusted and threatening addresses are, and reads them. Only the first call counts.
    pub fn read_lists_from(&self, directory: PathBuf) {
        self.guardduty.read_lists_from(directory);
    }

    /// Says who answers questions for events. Only the first call counts; before it there is no answer.
    pub fn ask_for_events(&self, source: Arc<dyn EventSource>) {
        self.guardduty.events.set(source);
    }

    /// The addresses that an account trusts.
    pub(crate) fn trusted_addresses(&self, account: AccountId) -> Vec<Arc<Entries>> {
        let known = self.guardduty.of(account);
        known.iter().flat_map(|known| known.ip_sets.values()).filter_map(|read| read.entries.clone()).collect()
    }

    /// The addresses and names that an account calls threats, by the names of the lists they are on.
    pub(crate) fn threats(&self, account: AccountId) -> Vec<(String, Arc<Entries>)> {
        let known = self.guardduty.of(account);
        let sets = known.iter().flat_map(|known| known.threat_sets.values());
        sets.filter_map(|read| Some((read.set.name.clone(), read.entries.clone()?))).collect()
    }

    /// The detectors.
    pub(crate) const fn guardduty(&self) -> &GuardDuty {
        &self.guardduty
    }
}

#[cfg(test)]
mod tests;
