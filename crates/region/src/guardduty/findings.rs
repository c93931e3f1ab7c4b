//! Findings, from detection into the store: counted, put aside by filters, and kept within each machine's share.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use inborn_detect::finding::{count_up, shorten};
use inborn_detect::{Finding, Recorded};
use inborn_identity::UnixTime;
use inborn_store::{self as store, FindingPlace, FindingQuery, FindingRetention, StoreError};
use serde_json::Value;

use super::shares::Shares;
use super::{GuardDuty, Watched, counted, new_id};
use crate::RegionServer;
use crate::detection::{Counted, FindingSink, Recording};

/// How long a finding is kept after it was last seen. Source: user guide of GuardDuty: ninety days.
pub(crate) const KEPT_SECONDS: u64 = 90 * 24 * 3600;
/// Most findings of a detector. Of what each machine has of each type, the oldest go first.
pub(crate) const FINDINGS_MAX: u32 = 10_000;
/// How many places are made at a time when there are no more.
pub(crate) const FINDINGS_ROOM: u32 = 500;

/// Keeps what the rules find.
struct Keeper(Weak<RegionServer>);

impl FindingSink for Keeper {
    fn record<'a>(&'a self, finding: &'a Finding, counted: Option<Counted>, now: UnixTime) -> Recording<'a> {
        Box::pin(async move {
            let region = self.0.upgrade().ok_or(StoreError::Closed)?;
            region.guardduty.keep_finding(finding, counted, now).await
        })
    }
}

impl RegionServer {
    /// Keeps what the rules find with the detectors. Only the first that keeps findings counts.
    pub fn keep_findings(self: &Arc<Self>) {
        self.detection().record_to(Arc::new(Keeper(Arc::downgrade(self))));
    }
}

/// What changes of findings take turns with: the findings of each detector, as far as they are counted.
pub(super) type Turn = HashMap<String, Shares>;

/// A finding as it is about to be stored.
struct Change {
    recorded: Recorded,
    row: store::Finding,
}

impl GuardDuty {
    /// Stores a finding: anew, or counted up if it is one that was found before. `None` if nobody wants it: the detector is off or
    /// was deleted, or the finding cannot be kept; or if it is counted already.
    pub(super) async fn keep_finding(
        &self,
        finding: &Finding,
        counted: Option<Counted>,
        now: UnixTime,
    ) -> Result<Option<Recorded>, StoreError> {
        let watched = self.ensure(finding.account, now).await?;
        let Some(watched) = watched.filter(|watched| watched.settings.watches(finding.kind.as_str())) else {
            return Ok(None);
        };
        match self.store_counted(&watched, core::slice::from_ref(finding), counted, now, |_| {}).await {
            Ok(stored) => Ok(stored.into_iter().next()),
            // Deleted in this moment.
            Err(StoreError::Conflict(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores findings of one detector. `mark` has the last word on their documents.
    pub(crate) async fn store_some(
        &self,
        watched: &Watched,
        findings: &[Finding],
        now: UnixTime,
        mark: impl Fn(&mut Value),
    ) -> Result<Vec<Recorded>, StoreError> {
        self.store_counted(watched, findings, None, now, mark).await
    }

    /// The same, of events in a part of a log. Gives nothing for what is counted already.
    async fn store_counted(
        &self,
        watched: &Watched,
        findings: &[Finding],
        counted: Option<Counted>,
        now: UnixTime,
        mark: impl Fn(&mut Value),
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut turn = self.turn.lock().await;
        let watched = self.get(watched.account, &watched.id).ok_or(StoreError::Conflict(absent()))?;
        let shares = self.shares_of(&mut turn, &watched.id).await?;
        let mut changes = Vec::with_capacity(findings.len());
        for finding in findings {
            match self.change_of(&watched, shares, (finding, counted.as_ref()), now, &mark).await {
                Ok(change) => changes.extend(change),
                // One that cannot be read does not hold up the others.
                Err(error @ StoreError::Corrupt(_)) => tracing::error!(%error, "a finding is lost"),
                Err(error) => return Err(error),
            }
        }
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        self.store.put_findings(changes.iter().map(|change| change.row.clone()).collect()).await?;
        changes.iter().filter(|change| change.recorded.first).for_each(|change| shares.add(&change.row));
        if shares.total() > FINDINGS_MAX as usize {
            // Not later: until then the newest would count, whoever made them.
            let retention =
                FindingRetention { updated_since: UnixTime::default(), findings_max: FINDINGS_MAX - FINDINGS_ROOM };
            turn.clear();
            while self.store.forget_findings(retention).await? > 0 {}
        }
        Ok(changes.into_iter().map(|change| change.recorded).collect())
    }

    /// The findings of a detector, counted the first time that this is asked.
    async fn shares_of<'a>(&self, turn: &'a mut Turn, detector: &str) -> Result<&'a mut Shares, StoreError> {
        if !turn.contains_key(detector) {
            let mut shares = Shares::default();
            self.each_row(detector, |row| {
                shares.add(row);
                Ok(())
            })
            .await?;
            turn.insert(detector.to_owned(), shares);
        }
        turn.get_mut(detector).ok_or(StoreError::Conflict(absent()))
    }

    /// `None` if it is counted already.
    async fn change_of(
        &self,
        watched: &Watched,
        shares: &Shares,
        (finding, counted): (&Finding, Option<&Counted>),
        now: UnixTime,
        mark: &impl Fn(&mut Value),
    ) -> Result<Option<Change>, StoreError> {
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
        let is_sample = is_sample(&new);
        let key_of = |finding: &Finding| {
            let key = finding.key();
            if is_sample { format!("sample|{key}") } else { key.to_string() }
        };
        let mut finding = finding.clone();
        let latest = self.latest(&watched.id, key_of(&finding)).await?;
        if let (Some(latest), Some(counted)) = (&latest, counted.filter(|counted| counted.is_again))
            && counted::is_in(&read(latest)?, counted)
        {
            return Ok(None);
        }
        let mut earlier = latest.filter(|latest| continues(latest, recorded.archived));
        if earlier.is_none() && shares.is_used_up(finding.instance(), finding.kind.as_str(), recorded.archived) {
            finding = finding.into_further();
            let latest = self.latest(&watched.id, key_of(&finding)).await?;
            earlier = latest.filter(|latest| continues(latest, recorded.archived));
        }
        let mut before = Value::Null;
        let mut document = match &earlier {
            Some(earlier) => {
                (recorded.id, recorded.first) = (earlier.id.as_str().into(), false);
                recorded.created_at = earlier.created_at;
                before = read(earlier)?;
                let mut document = before.clone();
                count_up(&mut document, &finding, &recorded);
                document
            }
            None => finding.document(&recorded),
        };
        counted::carry(&before, &mut document, counted);
        let row = row(watched, &finding, &recorded, key_of(&finding), document, mark)?;
        Ok(Some(Change { recorded, row }))
    }

    /// The latest finding of this key.
    async fn latest(&self, detector: &str, key: String) -> Result<Option<store::Finding>, StoreError> {
        let query = FindingQuery { detector: detector.to_owned(), key: Some(key), after: None, limit: 1 };
        Ok(self.store.findings(query).await?.into_iter().next())
    }

    /// All findings of a detector, the latest first, a part at a time.
    pub(crate) async fn each_finding(&self, detector: &str, mut look: impl FnMut(Value)) -> Result<(), StoreError> {
        self.each_row(detector, |row| {
            look(counted::without(read(row)?));
            Ok(())
        })
        .await
    }

    async fn each_row(
        &self,
        detector: &str,
        mut look: impl FnMut(&store::Finding) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let limit = FindingQuery::LIMIT_MAX;
            let query = FindingQuery { detector: detector.to_owned(), key: None, after: after.take(), limit };
            let page = self.store.findings(query).await?;
            if let (Some(last), true) = (page.last(), page.len() >= limit as usize) {
                after = Some(FindingPlace { updated_at: last.updated_at, id: last.id.clone() });
            }
            page.iter().try_for_each(&mut look)?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Those of these findings that are there.
    pub(crate) async fn findings(&self, detector: &str, ids: Vec<String>) -> Result<Vec<Value>, StoreError> {
        let found = self.store.findings_by_id(detector.to_owned(), ids).await?;
        found.iter().map(|row| read(row).map(counted::without)).collect()
    }

    /// Changes findings, all or none; false if one of them is not there.
    pub(crate) async fn change_findings(
        &self,
        detector: &str,
        ids: Vec<String>,
        change: impl Fn(&mut store::Finding, &mut Value),
    ) -> Result<bool, StoreError> {
        let mut turn = self.turn.lock().await;
        // What is put aside counts in another share: they are counted anew.
        turn.remove(detector);
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
        let mut turn = self.turn.lock().await;
        // Another server may have deleted it.
        turn.retain(|detector, _| self.watched.load().values().any(|known| known.id == *detector));
        while self.store.forget_findings(retention).await? > 0 {
            turn.clear();
        }
        Ok(())
    }

    /// Drops what is known of machines that are gone.
    pub(crate) fn keep_agents(&self, is_alive: impl Fn(inborn_identity::InstanceId) -> bool) {
        self.agents.keep(is_alive);
    }
}

/// Whether another is counted up in it. What an operator put aside was dealt with: if it happens again, that is news; what a
/// filter puts aside (`is_archived`) is not.
const fn continues(latest: &store::Finding, is_archived: bool) -> bool {
    !latest.is_archived || is_archived
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
    shorten(&mut document, store::Finding::DOCUMENT_MAX);
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
