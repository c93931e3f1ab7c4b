//! Findings, from whoever finds something into the store: gathered, counted, put aside by filters, and told.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use inborn_detect::finding::count_up;
use inborn_detect::{Finding, Recorded};
use inborn_identity::UnixTime;
use inborn_store::{self as store, FindingPlace, FindingQuery, FindingRetention, InstanceState, StoreError};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{GuardDuty, Watched, new_id};
use crate::RegionServer;
use crate::detection::{FindingSink, Recording};

/// Most different findings that wait for the store.
pub(crate) const PENDING_MAX: usize = 1000;
/// How long findings gather before they are stored together.
const GATHERED: Duration = Duration::from_millis(100);
/// How long to wait when the store has failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long a finding is kept after it was last seen. Source: user guide of GuardDuty: ninety days.
pub(crate) const KEPT_SECONDS: u64 = 90 * 24 * 3600;
/// Most findings of a detector. The oldest go first.
pub(crate) const FINDINGS_MAX: u32 = 10_000;

/// Findings that wait for the store, by what makes them one.
pub(crate) struct Pending {
    found: Mutex<BTreeMap<String, Finding>>,
    wake: mpsc::Sender<()>,
}

impl Pending {
    pub(super) fn new() -> (Self, mpsc::Receiver<()>) {
        let (wake, woken) = mpsc::channel(1);
        (Self { found: Mutex::default(), wake }, woken)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Finding>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a finding in; false if there is no room for another kind of it.
    pub(super) fn add(&self, finding: Finding) -> bool {
        let mut found = self.lock();
        let is_full = found.len() >= PENDING_MAX;
        match found.entry(finding.key().as_str().to_owned()) {
            Entry::Occupied(mut earlier) => earlier.get_mut().absorb(finding),
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(place) => drop(place.insert(finding)),
        }
        drop(found);
        // If it is full, whoever reads it is about to wake.
        let _ = self.wake.try_send(());
        true
    }

    pub(super) fn take(&self) -> Vec<Finding> {
        core::mem::take(&mut *self.lock()).into_values().collect()
    }

    /// Gives back what could not be stored. What has come since then is later.
    pub(super) fn give_back(&self, findings: Vec<Finding>) {
        for mut earlier in findings {
            let mut found = self.lock();
            match found.entry(earlier.key().as_str().to_owned()) {
                Entry::Occupied(mut later) => {
                    earlier.absorb(later.get().clone());
                    later.insert(earlier);
                }
                Entry::Vacant(place) => drop(place.insert(earlier)),
            }
        }
        let _ = self.wake.try_send(());
    }
}

/// Stores what is found, as long as the region is there.
pub(crate) fn start(region: &Arc<RegionServer>, woken: mpsc::Receiver<()>) {
    tokio::spawn(settle(Arc::downgrade(region), woken));
}

async fn settle(region: Weak<RegionServer>, mut woken: mpsc::Receiver<()>) {
    while woken.recv().await.is_some() {
        tokio::time::sleep(GATHERED).await;
        let Some(region) = region.upgrade() else { return };
        let found = region.guardduty.pending.take();
        if let Err((error, left)) = region.guardduty.store_all(found, region.now()).await {
            tracing::error!(%error, findings = left.len(), "findings cannot be stored and wait");
            region.guardduty.pending.give_back(left);
            drop(region);
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl RegionServer {
    /// Takes a finding, to be stored within a moment: anew, or counted up if it is one that was found before. What the region
    /// knows of the machine is added.
    pub fn found(&self, mut finding: Finding) {
        if let Some(details) = finding.resource.instance.as_mut()
            && let Some(machine) = self.machines().get(details.instance)
        {
            details.zone.get_or_insert_with(|| machine.zone.to_string());
            details.image.get_or_insert_with(|| machine.image_id.clone());
            details.instance_type.get_or_insert_with(|| machine.instance_type.clone());
            details.state.get_or_insert_with(|| state(machine.state).to_owned());
            details.launched_at.get_or_insert(machine.launch_time);
            details.private_address.get_or_insert_with(|| machine.private_address.to_string());
            if details.tags.is_empty() {
                details.tags = machine.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            }
        }
        let kind = finding.kind;
        if !self.guardduty.pending.add(finding) {
            self.metrics.findings_lost.inc();
            tracing::error!(%kind, "too many findings wait for the store: one is lost");
        }
    }
}

/// Keeps what the rules find.
struct Keeper(Weak<RegionServer>);

impl FindingSink for Keeper {
    fn record<'a>(&'a self, finding: &'a Finding, now: UnixTime) -> Recording<'a> {
        Box::pin(async move {
            let region = self.0.upgrade().ok_or(StoreError::Closed)?;
            // Nobody wants to know: the detector is off, or was deleted.
            let unwanted = || Recorded {
                detector: "".into(),
                id: new_id().into(),
                created_at: now,
                updated_at: now,
                archived: true,
                first: true,
            };
            let watched = region.guardduty.ensure(finding.account, now).await?;
            let Some(watched) = watched.filter(|watched| watched.settings.watches(finding.kind.as_str())) else {
                return Ok(unwanted());
            };
            let stored = region.guardduty.store_some(&watched, core::slice::from_ref(finding), now, |_| {}).await?;
            Ok(stored.into_iter().next().unwrap_or_else(unwanted))
        })
    }
}

impl RegionServer {
    /// Keeps what the rules find with the detectors. Only the first that keeps findings counts.
    pub fn keep_findings(self: &Arc<Self>) {
        self.detection().record_to(Arc::new(Keeper(Arc::downgrade(self))));
    }
}

const fn state(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Running => "running",
        InstanceState::Stopped => "stopped",
        InstanceState::Terminated => "terminated",
    }
}

/// A finding as it is about to be stored.
struct Change {
    finding: Finding,
    recorded: Recorded,
    row: store::Finding,
}

impl GuardDuty {
    /// Stores findings; what could not be stored comes back.
    pub(super) async fn store_all(&self, found: Vec<Finding>, now: UnixTime) -> Result<(), (StoreError, Vec<Finding>)> {
        let mut by_account: BTreeMap<_, Vec<Finding>> = BTreeMap::new();
        for finding in found {
            by_account.entry(finding.account).or_default().push(finding);
        }
        let (mut left, mut failed) = (Vec::new(), None);
        for (account, findings) in by_account {
            let watched = match self.ensure(account, now).await {
                Ok(Some(watched)) => watched,
                // The detector was deleted: nobody wants to know.
                Ok(None) => continue,
                Err(error) => {
                    failed = Some(error);
                    left.extend(findings);
                    continue;
                }
            };
            let mut wanted = findings.into_iter().filter(|finding| watched.settings.watches(finding.kind.as_str()));
            loop {
                let some: Vec<Finding> = wanted.by_ref().take(store::Finding::WRITTEN_MAX).collect();
                if some.is_empty() {
                    break;
                }
                match self.store_some(&watched, &some, now, |_| {}).await {
                    // Deleted in this moment.
                    Ok(_) | Err(StoreError::Conflict(_)) => {}
                    Err(error) => {
                        failed = Some(error);
                        left.extend(some);
                    }
                }
            }
        }
        failed.map_or(Ok(()), |error| Err((error, left)))
    }

    /// Stores findings of one detector, and tells of them. `mark` has the last word on their documents.
    pub(crate) async fn store_some(
        &self,
        watched: &Watched,
        findings: &[Finding],
        now: UnixTime,
        mark: impl Fn(&mut Value),
    ) -> Result<Vec<Recorded>, StoreError> {
        let _turn = self.turn.lock().await;
        let watched = self.get(watched.account, &watched.id).ok_or(StoreError::Conflict(absent()))?;
        let mut changes = Vec::with_capacity(findings.len());
        for finding in findings {
            match self.change_of(&watched, finding, now, &mark).await {
                Ok(change) => changes.push(change),
                // One that cannot be read does not hold up the others.
                Err(error @ StoreError::Corrupt(_)) => tracing::error!(%error, "a finding is lost"),
                Err(error) => return Err(error),
            }
        }
        self.store.put_findings(changes.iter().map(|change| change.row.clone()).collect()).await?;
        if let Some(output) = self.output.get() {
            changes.iter().for_each(|change| output.found(&change.finding, &change.recorded));
        }
        Ok(changes.into_iter().map(|change| change.recorded).collect())
    }

    async fn change_of(
        &self,
        watched: &Watched,
        finding: &Finding,
        now: UnixTime,
        mark: &impl Fn(&mut Value),
    ) -> Result<Change, StoreError> {
        let mut recorded = Recorded {
            detector: watched.id.as_str().into(),
            id: new_id().into(),
            created_at: now,
            updated_at: now,
            archived: false,
            first: true,
        };
        let mut new = finding.document(&recorded);
        mark(&mut new);
        recorded.archived = watched.puts_aside(&new);
        let key = if is_sample(&new) { format!("sample|{}", finding.key()) } else { finding.key().to_string() };
        let query = FindingQuery { detector: watched.id.clone(), key: Some(key.clone()), after: None, limit: 1 };
        let earlier = self.store.findings(query).await?.into_iter().next();
        // What an operator put aside was dealt with. If it happens again, that is news; what a filter puts aside is not.
        let earlier = earlier.filter(|earlier| !earlier.is_archived || recorded.archived);
        let document = match &earlier {
            Some(earlier) => {
                (recorded.id, recorded.first) = (earlier.id.as_str().into(), false);
                recorded.created_at = earlier.created_at;
                let mut document = read(earlier)?;
                count_up(&mut document, finding, &recorded);
                document
            }
            None => finding.document(&recorded),
        };
        let row = row(watched, finding, &recorded, key, document, mark)?;
        Ok(Change { finding: finding.clone(), recorded, row })
    }

    /// All findings of a detector, the latest first, a part at a time.
    pub(crate) async fn each_finding(&self, detector: &str, mut look: impl FnMut(Value)) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let limit = FindingQuery::LIMIT_MAX;
            let query = FindingQuery { detector: detector.to_owned(), key: None, after: after.take(), limit };
            let page = self.store.findings(query).await?;
            if let (Some(last), true) = (page.last(), page.len() >= limit as usize) {
                after = Some(FindingPlace { updated_at: last.updated_at, id: last.id.clone() });
            }
            for finding in &page {
                look(read(finding)?);
            }
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Those of these findings that are there.
    pub(crate) async fn findings(&self, detector: &str, ids: Vec<String>) -> Result<Vec<Value>, StoreError> {
        self.store.findings_by_id(detector.to_owned(), ids).await?.iter().map(read).collect()
    }

    /// Changes findings, all or none; false if one of them is not there.
    pub(crate) async fn change_findings(
        &self,
        detector: &str,
        ids: Vec<String>,
        change: impl Fn(&mut store::Finding, &mut Value),
    ) -> Result<bool, StoreError> {
        let _turn = self.turn.lock().await;
        let mut found = self.store.findings_by_id(detector.to_owned(), ids.clone()).await?;
        if found.len() != ids.len() {
            return Ok(false);
        }
        for finding in &mut found {
            let mut document = read(finding)?;
            change(finding, &mut document);
            finding.document = document.to_string();
        }
        self.store.put_findings(found).await?;
        Ok(true)
    }

    /// Forgets old findings, and writes down which agents have spoken.
    pub(crate) async fn tidy(&self, now: UnixTime) -> Result<(), StoreError> {
        self.agents.write(self.store.as_ref()).await?;
        let retention = FindingRetention { updated_since: now.minus(KEPT_SECONDS), findings_max: FINDINGS_MAX };
        while self.store.forget_findings(retention).await? > 0 {}
        Ok(())
    }

    /// Drops what is known of machines that are gone.
    pub(crate) fn keep_agents(&self, is_alive: impl Fn(inborn_identity::InstanceId) -> bool) {
        self.agents.keep(is_alive);
    }
}

const fn absent() -> store::Conflict {
    store::Conflict::Absent("a detector")
}

fn row(
    watched: &Watched,
    finding: &Finding,
    recorded: &Recorded,
    key: String,
    mut document: Value,
    mark: &impl Fn(&mut Value),
) -> Result<store::Finding, StoreError> {
    mark(&mut document);
    let count = document.pointer("/service/count").and_then(Value::as_u64).unwrap_or(1);
    let document = document.to_string();
    if document.len() > store::Finding::DOCUMENT_MAX {
        return Err(StoreError::Corrupt(format!("a finding of type {} is too long", finding.kind)));
    }
    Ok(store::Finding {
        id: recorded.id.to_string(),
        detector: watched.id.clone(),
        key,
        kind: finding.kind.to_string(),
        severity_tenths: format!("{:.0}", finding.severity.value() * 10.0).parse().unwrap_or(u16::MAX),
        created_at: recorded.created_at,
        updated_at: recorded.updated_at,
        is_archived: recorded.archived,
        instance: finding.resource.instance.as_ref().map(|details| details.instance),
        count,
        document,
    })
}

fn read(finding: &store::Finding) -> Result<Value, StoreError> {
    serde_json::from_str(&finding.document).map_err(|_| super::damaged("finding", &finding.id))
}

/// Says in a document that it is a sample, as GuardDuty does.
pub(crate) fn mark_sample(document: &mut Value) {
    let Some(members) = document.as_object_mut() else { return };
    if let Some(Value::String(title)) = members.get_mut("title")
        && !title.starts_with(SAMPLE)
    {
        title.insert_str(0, SAMPLE);
    }
    if let Some(Value::Object(service)) = members.get_mut("service") {
        let info = serde_json::json!({"type": "default", "value": r#"{"sample":true}"#});
        service.insert("additionalInfo".to_owned(), info);
    }
}

const SAMPLE: &str = "[SAMPLE] ";

fn is_sample(document: &Value) -> bool {
    document.get("title").and_then(Value::as_str).is_some_and(|title| title.starts_with(SAMPLE))
}
