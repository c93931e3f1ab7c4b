//! The thread that asks the rules about each event.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use inborn_detect::{Category, Event, Finding, FindingKey, Rules, describe, ready_made};
use inborn_telemetry::{Batch, Record};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Shared;
use crate::telemetry::Listening;

/// Judges until the region is gone.
pub(super) async fn run(mut listening: Listening, shared: Arc<Shared>, found: mpsc::Sender<Vec<Finding>>) {
    let mut skipped = 0;
    while let Some(batch) = listening.next().await {
        let records = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
        let judging = Arc::clone(&shared);
        let judged = tokio::task::spawn_blocking(move || judge(&batch, &judging)).await;
        shared.metrics.judged.inc_by(records);
        skipped = count_skipped(&listening, skipped, &shared);
        // Waits for those who record: meanwhile what comes is skipped.
        match judged {
            Ok(findings) if findings.is_empty() => {}
            Ok(findings) => {
                if found.send(findings).await.is_err() {
                    return;
                }
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

/// Findings of one batch that are kept: more come only from who wants to hide one among them.
const FINDINGS_OF_A_BATCH_MAX: usize = 256;

/// The findings of a batch, each once.
fn judge(batch: &Batch, shared: &Shared) -> Vec<Finding> {
    let rules = shared.rules.load();
    let mut found: HashMap<FindingKey, Finding> = HashMap::new();
    for record in &batch.records {
        for finding in findings(record, batch, &**rules, shared) {
            let is_full = found.len() >= FINDINGS_OF_A_BATCH_MAX;
            match found.entry(finding.key()) {
                Entry::Occupied(mut earlier) => earlier.get_mut().absorb(finding),
                Entry::Vacant(_) if is_full => {
                    shared.metrics.lost.inc();
                }
                Entry::Vacant(place) => drop(place.insert(finding)),
            }
        }
    }
    found.into_values().collect()
}

fn findings(record: &Record, batch: &Batch, rules: &dyn Rules, shared: &Shared) -> Vec<Finding> {
    let is_wanted = |category: &Category| *category == Category::DetectionFinding || rules.wants(*category);
    if !Category::of_class(record.class.0).iter().any(is_wanted) {
        return Vec::new();
    }
    // What was accepted was valid; an event that is deeper than a parser goes is nothing that a rule could read.
    let Ok(value) = serde_json::from_str::<Value>(&record.json) else { return Vec::new() };
    let Some(event) = Event::of(&value) else { return Vec::new() };
    let now = shared.clock.now();
    let by_rules = rules.matches(&event);
    let by_rules = by_rules.iter().map(|rule| describe(rule, &event, &batch.source, shared.partition, now));
    by_rules.chain(ready_made(&event, &batch.source, shared.partition, now)).collect()
}
