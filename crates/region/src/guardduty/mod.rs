//! Detectors: what is set up to watch each account, which machines send telemetry, and what was found.
//!
//! An account has a detector from its first telemetry on, or from `CreateDetector`: whoever starts a region sees what is found
//! without having set up anything. One that was deleted does not come back by itself.

mod agents;
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
use inborn_store::{AgentReport, Conflict, Detector, DetectorPart, PartKind, SettingChange, Store, StoreError};
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

/// How often a setting is read again because somebody else has set it.
const TRIES: u32 = 5;

/// Detectors: the store's truth, mirrored in memory for those who cannot wait for it.
pub(crate) struct GuardDuty {
    store: Arc<dyn Store>,
    watched: ArcSwap<BTreeMap<AccountId, Arc<Watched>>>,
    /// Changes of detectors, their parts and findings take turns.
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
    fn record(&self) -> Result<Detector, StoreError> {
        let (created_at, updated_at) = (self.created_at, self.updated_at);
        Ok(Detector {
            id: self.id.clone(),
            account: self.account,
            created_at,
            updated_at,
            document: document(&self.settings)?,
        })
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
        let mut watched = BTreeMap::new();
        for Detector { id, account, created_at, updated_at, document } in store.detectors().await? {
            let settings = serde_json::from_str(&document).map_err(|_| damaged("detector", &id))?;
            let (filters, ip_sets, threat_sets) = <(BTreeMap<_, _>, BTreeMap<_, _>, BTreeMap<_, _>)>::default();
            let one =
                Watched { id: id.clone(), account, created_at, updated_at, settings, filters, ip_sets, threat_sets };
            watched.insert(id, one);
        }
        for DetectorPart { detector, kind, id, document } in store.detector_parts().await? {
            let Some(watched) = watched.get_mut(&detector) else { continue };
            if kind == PartKind::Filter {
                let filter: Filter = serde_json::from_str(&document).map_err(|_| damaged("filter", &id))?;
                let criteria = Criteria::parse(&filter.criteria).map_err(|_| damaged("filter", &id))?;
                watched.filters.insert(id, (filter, criteria));
            } else {
                let set = serde_json::from_str(&document).map_err(|_| damaged("set", &id))?;
                watched.sets_mut(kind).insert(id, ReadSet { set, entries: None });
            }
        }
        let watched = watched.into_values().map(|watched| (watched.account, Arc::new(watched))).collect();
        let agents = Agents::load(store.as_ref()).await?;
        let guardduty = Self {
            store,
            watched: ArcSwap::from_pointee(watched),
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
        let mut all = BTreeMap::clone(&self.watched.load());
        all.insert(watched.account, Arc::new(watched));
        self.watched.store(Arc::new(all));
    }

    /// Makes a detector for an account that has none, or takes over the one that made itself.
    pub(crate) async fn create(
        &self,
        account: AccountId,
        settings: Settings,
        now: UnixTime,
    ) -> Result<Creation, StoreError> {
        let _turn = self.turn.lock().await;
        let (id, created_at) = match self.of(account) {
            None => (new_id(), now),
            Some(known) if known.settings.is_automatic => (known.id.clone(), known.created_at),
            // The answer to the same request may have been lost.
            Some(known) if settings.client_token.is_some() && known.settings.client_token == settings.client_token => {
                return Ok(Creation::Done(known.id.clone()));
            }
            Some(_) => return Ok(Creation::Exists),
        };
        let before = self.of(account);
        let parts = before.as_deref();
        let watched = Watched {
            id: id.clone(),
            account,
            created_at,
            updated_at: now,
            settings,
            filters: parts.map(|known| known.filters.clone()).unwrap_or_default(),
            ip_sets: parts.map(|known| known.ip_sets.clone()).unwrap_or_default(),
            threat_sets: parts.map(|known| known.threat_sets.clone()).unwrap_or_default(),
        };
        self.store.put_detector(watched.record()?).await?;
        self.set_unwanted(account, false).await?;
        self.keep(watched);
        Ok(Creation::Done(id))
    }

    /// The detector of an account, made if it has none; `None` if there was one and it was deleted.
    pub(crate) async fn ensure(&self, account: AccountId, now: UnixTime) -> Result<Option<Arc<Watched>>, StoreError> {
        if let Some(known) = self.of(account) {
            return Ok(Some(known));
        }
        if self.store.setting(&unwanted(account)).await?.is_some_and(|value| value == UNWANTED) {
            return Ok(None);
        }
        let settings = Settings { is_automatic: true, ..Settings::new(now.as_secs()) };
        match self.create(account, settings, now).await {
            Ok(_) | Err(StoreError::Conflict(_)) => Ok(self.of(account)),
            Err(error) => Err(error),
        }
    }

    /// Changes the settings of a detector.
    pub(crate) async fn change<E>(
        &self,
        account: AccountId,
        id: &str,
        now: UnixTime,
        change: impl FnOnce(&mut Settings) -> Result<(), E>,
    ) -> Result<(), ChangeError<E>> {
        let _turn = self.turn.lock().await;
        let known = self.get(account, id).ok_or(ChangeError::NoDetector)?;
        let mut watched = Watched::clone(&known);
        change(&mut watched.settings).map_err(ChangeError::Refused)?;
        // Somebody has asked for something: from now on it is theirs.
        (watched.settings.is_automatic, watched.updated_at) = (false, now);
        self.store.put_detector(watched.record()?).await?;
        self.keep(watched);
        Ok(())
    }

    /// Deletes a detector with all that belongs to it; gives whether there was one.
    pub(crate) async fn delete(&self, account: AccountId, id: &str) -> Result<bool, StoreError> {
        let mut turn = self.turn.lock().await;
        turn.remove(id);
        if self.get(account, id).is_none() {
            return Ok(false);
        }
        // First, so that it cannot come back by itself whatever happens in between.
        self.set_unwanted(account, true).await?;
        self.store.delete_detector(id.to_owned()).await?;
        let mut all = BTreeMap::clone(&self.watched.load());
        all.remove(&account);
        self.watched.store(Arc::new(all));
        Ok(true)
    }

    async fn set_unwanted(&self, account: AccountId, is_unwanted: bool) -> Result<(), StoreError> {
        let name = unwanted(account);
        let value = if is_unwanted { UNWANTED } else { WANTED };
        for _ in 0..TRIES {
            let expected = self.store.setting(&name).await?;
            if expected.as_deref() == Some(value) || (expected.is_none() && !is_unwanted) {
                return Ok(());
            }
            let change = SettingChange { name: name.clone(), expected, value: value.to_vec() };
            match self.store.put_setting(change).await {
                Err(StoreError::Conflict(Conflict::SettingChanged(_))) => {}
                outcome => return outcome,
            }
        }
        Err(StoreError::Busy)
    }

    /// Adds or changes a filter. `change` is given the one that is there, and how many others there are.
    pub(crate) async fn put_filter<E>(
        &self,
        account: AccountId,
        id: &str,
        name: &str,
        change: impl FnOnce(Option<&Filter>, usize) -> Result<(Filter, Criteria), E>,
    ) -> Result<(), ChangeError<E>> {
        let _turn = self.turn.lock().await;
        let known = self.get(account, id).ok_or(ChangeError::NoDetector)?;
        let before = known.filters.get(name).map(|(filter, _)| filter);
        let others = known.filters.len() - usize::from(before.is_some());
        let (filter, criteria) = change(before, others).map_err(ChangeError::Refused)?;
        self.put_part(&known, PartKind::Filter, name, document(&filter)?).await?;
        let mut watched = Watched::clone(&known);
        watched.filters.insert(name.to_owned(), (filter, criteria));
        self.keep(watched);
        Ok(())
    }

    /// Adds a set of addresses (`id` is `None`) or changes one; gives its id. `change` is given the one that is there, and
    /// all others.
    pub(crate) async fn put_set<E>(
        &self,
        (account, detector, kind): (AccountId, &str, PartKind),
        id: Option<&str>,
        change: impl FnOnce(Option<&AddressSet>, &BTreeMap<String, ReadSet>) -> Result<SetChange, E>,
    ) -> Result<String, ChangeError<E>> {
        let _turn = self.turn.lock().await;
        let known = self.get(account, detector).ok_or(ChangeError::NoDetector)?;
        let sets = known.sets(kind);
        let before = id.and_then(|id| sets.get(id)).map(|read| &read.set);
        let set = match change(before, sets).map_err(ChangeError::Refused)? {
            SetChange::Done(id) => return Ok(id),
            SetChange::To(set) => set,
        };
        let id = id.map_or_else(new_id, str::to_owned);
        let entries = self.entries(&set).map_err(ChangeError::List)?;
        self.put_part(&known, kind, &id, document(&set)?).await?;
        let mut watched = Watched::clone(&known);
        watched.sets_mut(kind).insert(id.clone(), ReadSet { set, entries });
        self.keep(watched);
        Ok(id)
    }

    async fn put_part(&self, known: &Watched, kind: PartKind, id: &str, document: String) -> Result<(), StoreError> {
        let part = DetectorPart { detector: known.id.clone(), kind, id: id.to_owned(), document };
        self.store.put_detector_part(part).await
    }

    /// Deletes a filter or a set; gives whether there was one.
    pub(crate) async fn delete_part(&self, known: &Watched, kind: PartKind, id: &str) -> Result<bool, StoreError> {
        let _turn = self.turn.lock().await;
        let was_there = self.store.delete_detector_part(known.id.clone(), kind, id.to_owned()).await?;
        if let Some(known) = self.get(known.account, &known.id) {
            let mut watched = Watched::clone(&known);
            if kind == PartKind::Filter {
                watched.filters.remove(id);
            } else {
                watched.sets_mut(kind).remove(id);
            }
            self.keep(watched);
        }
        Ok(was_there)
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
        let _turn = self.turn.lock().await;
        self.read_lists()
    }

    fn read_lists(&self) -> (usize, usize) {
        let (mut count, mut failed) = (0, 0);
        let mut all = BTreeMap::clone(&self.watched.load());
        for watched in all.values_mut() {
            let mut now = Watched::clone(watched);
            for (id, read) in now.ip_sets.iter_mut().chain(&mut now.threat_sets) {
                match self.entries(&read.set) {
                    Ok(entries) => {
                        count += usize::from(entries.is_some());
                        read.entries = entries;
                    }
                    Err(error) => {
                        failed += 1;
                        let effect = if read.entries.is_some() { "is as it was" } else { "has no effect" };
                        tracing::warn!(set = %id, name = %read.set.name, %error, "a list cannot be read, and {effect}");
                    }
                }
            }
            *watched = Arc::new(now);
        }
        self.watched.store(Arc::new(all));
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

const UNWANTED: &[u8] = b"deleted";
const WANTED: &[u8] = b"wanted";

/// The setting that says whether an account's detector was deleted.
fn unwanted(account: AccountId) -> String {
    format!("guardduty-detector {account}")
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
