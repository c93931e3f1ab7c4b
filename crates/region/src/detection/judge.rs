//! The thread that asks the rules about each event.

use std::sync::{Arc, Weak};

use inborn_detect::finding::Gathered;
use inborn_detect::{Category, Event, Finding, NamedList, Rules, describe, ready_made, threatened};
use inborn_telemetry::{Batch, Record};
use serde_json::Value;

use super::Shared;
use super::pending::Pending;
use crate::RegionServer;
use crate::guardduty::Entries;
use crate::telemetry::Listening;

/// Judges until the region is gone.
pub(super) async fn run(
    mut listening: Listening,
    region: Weak<RegionServer>,
    shared: Arc<Shared>,
    pending: Arc<Pending>,
) {
    let mut skipped = 0;
    while let Some(batch) = listening.next().await {
        let threats = match region.upgrade() {
            Some(region) => region.threats(batch.source.account),
            None => return,
        };
        let records = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
        let (judging, place) = (Arc::clone(&shared), batch.place());
        let judged = tokio::task::spawn_blocking(move || (judge(&batch, &threats, &judging), batch)).await;
        shared.metrics.judged.inc_by(records);
        skipped = count_skipped(&listening, skipped, &shared);
        match judged {
            Ok((findings, batch)) => {
                shared.metrics.lost.inc_by(pending.add_judged(findings, place));
                // Not earlier: who is done with a batch has passed on what it told.
                drop(batch);
            }
            Err(error) => tracing::error!(%error, "a batch could not be judged"),
        }
    }
}

/// Counts what was left out since the last time, and says it.
fn count_skipped(listening: &Listening, before: u64, shared: &Shared) -> u64 {
    let skipped = listening.skipped();
    let count = skipped.saturating_sub(before);
    if count > 0 {
        shared.metrics.skipped.inc_by(count);
        tracing::warn!(count, "events are stored without being judged: more come than the rules get through");
    }
    skipped
}

/// Different findings of one batch that are kept as they are ([`Gathered`]): more come only from who wants to hide one among
/// them.
const FINDINGS_OF_A_BATCH_MAX: usize = 256;

/// The findings of a batch, each once.
pub(super) fn judge(batch: &Batch, threats: &[(String, Arc<Entries>)], shared: &Shared) -> Vec<Finding> {
    let rules = shared.rules.load();
    let threats: Vec<NamedList<'_>> = threats.iter().map(|(name, list)| NamedList { name, list: &**list }).collect();
    let mut gathered = Gathered::new(FINDINGS_OF_A_BATCH_MAX);
    for record in &batch.records {
        for finding in findings(record, batch, &**rules, &threats, shared) {
            if !gathered.add(finding) {
                shared.metrics.lost.inc();
            }
        }
    }
    gathered.take()
}

fn findings(
    record: &Record,
    batch: &Batch,
    rules: &dyn Rules,
    threats: &[NamedList<'_>],
    shared: &Shared,
) -> Vec<Finding> {
    let is_wanted = |category: &Category| match category {
        Category::DetectionFinding => true,
        Category::NetworkConnection | Category::DnsQuery if !threats.is_empty() => true,
        category => rules.wants(*category),
    };
    if !Category::of_class(record.class.0).iter().any(is_wanted) {
        return Vec::new();
    }
    // What was accepted was valid; an event that is deeper than a parser goes is nothing that a rule could read.
    let Ok(value) = serde_json::from_str::<Value>(&record.json) else { return Vec::new() };
    let Some(event) = Event::of(&value) else { return Vec::new() };
    let now = shared.clock.now();
    let by_rules = rules.matches(&event);
    let by_rules = by_rules.iter().map(|rule| describe(rule, &event, &batch.source, shared.partition, now));
    by_rules
        .chain(ready_made(&event, &batch.source, shared.partition, now))
        .chain(threatened(&event, threats, &batch.source, shared.partition, now))
        .collect()
}
