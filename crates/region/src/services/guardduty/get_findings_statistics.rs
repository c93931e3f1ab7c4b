//! `GetFindingsStatistics`: how many findings meet criteria, by what they have in common.

use std::collections::BTreeMap;

use inborn_identity::UnixTime;
use inborn_wire::error::Problem;
use serde_json::{Map, Value, json};

use super::finding::text;
use super::refusal;
use super::request::{self, DETECTOR, Input};
use crate::operation::{JsonCall, Outcome};

const TYPES: &str = "findingStatisticTypes";
const GROUP_BY: &str = "groupBy";
/// Groups of an answer if the caller does not say. Source: API reference.
const GROUPS: usize = 25;
const DAY_SECONDS: u64 = 24 * 3600;

/// The findings of a group.
#[derive(Default)]
struct Group {
    count: u64,
    /// When the last one was changed.
    last_at: u64,
    /// What they have in common, as the answer says it.
    shown: Map<String, Value>,
}

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, TYPES, "findingCriteria", GROUP_BY, "orderBy", "maxResults"])?;
        let watched = request::detector(&call, &input)?;
        let (_, criteria) = input.criteria()?.unwrap_or_default();
        let types = input.texts(TYPES, 10)?.unwrap_or_default();
        if types.iter().any(|kind| *kind != "COUNT_BY_SEVERITY") {
            return Err(refusal::invalid(TYPES));
        }
        let by = input.one_of(GROUP_BY, &["ACCOUNT", "DATE", "FINDING_TYPE", "RESOURCE", "SEVERITY"])?;
        // Source: API reference: one of the two.
        if by.is_some() != types.is_empty() {
            return Err(if by.is_some() { refusal::invalid(GROUP_BY) } else { refusal::missing(GROUP_BY) });
        }
        let ascends = input.one_of("orderBy", &["ASC", "DESC"])? == Some("ASC");
        let most = input.number("maxResults", 1..=100)?.and_then(|most| usize::try_from(most).ok()).unwrap_or(GROUPS);
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let look = |found: Value| {
            if criteria.meets(&found) {
                let shown = common(&found, by.unwrap_or("SEVERITY"));
                let group = groups.entry(Value::Object(shown.clone()).to_string()).or_default();
                group.count += 1;
                group.last_at = group.last_at.max(seconds(&found, "updatedAt"));
                group.shown = shown;
            }
        };
        call.region.guardduty().each_finding(&watched.id, look).await.map_err(refusal::of_store)?;
        let statistics = match by {
            None => json!({"countBySeverity": by_severity(groups)}),
            Some(by) => json!({named(by)?: ordered(groups, ascends, most)}),
        };
        Ok(request::answer(&call, &json!({"findingStatistics": statistics})))
    })
}

fn named(by: &str) -> Result<&'static str, Problem> {
    Ok(match by {
        "ACCOUNT" => "groupedByAccount",
        "DATE" => "groupedByDate",
        "FINDING_TYPE" => "groupedByFindingType",
        "RESOURCE" => "groupedByResource",
        "SEVERITY" => "groupedBySeverity",
        _ => return Err(refusal::invalid(GROUP_BY)),
    })
}

/// What a finding has in common with those of its group.
fn common(found: &Value, by: &str) -> Map<String, Value> {
    let severity = found.get("severity").cloned().unwrap_or_default();
    let shown = match by {
        "ACCOUNT" => json!({"accountId": text(found, "accountId")}),
        "DATE" => {
            let created = seconds(found, "createdAt");
            json!({"date": created - created % DAY_SECONDS, "severity": severity})
        }
        "FINDING_TYPE" => json!({"findingType": text(found, "type")}),
        "RESOURCE" => {
            let at = |place: &str| found.pointer(place).and_then(Value::as_str);
            let kind = at("/resource/resourceType").unwrap_or_default();
            let own = if kind == "AccessKey" {
                "/resource/accessKeyDetails/accessKeyId"
            } else {
                "/resource/instanceDetails/instanceId"
            };
            json!({"accountId": text(found, "accountId"), "resourceId": at(own).unwrap_or_default(), "resourceType": kind})
        }
        _ => json!({"severity": severity}),
    };
    if let Value::Object(shown) = shown { shown } else { Map::new() }
}

fn seconds(found: &Value, name: &str) -> u64 {
    UnixTime::parse_rfc3339(text(found, name).as_bytes()).map_or(0, UnixTime::as_secs)
}

fn by_severity(groups: BTreeMap<String, Group>) -> Map<String, Value> {
    let severity = |group: &Group| group.shown.get("severity").and_then(Value::as_f64).unwrap_or_default();
    groups.into_values().map(|group| (format!("{:.1}", severity(&group)), Value::from(group.count))).collect()
}

/// The groups, those with most findings first; days in the order of days.
fn ordered(groups: BTreeMap<String, Group>, ascends: bool, most: usize) -> Vec<Value> {
    let mut groups: Vec<Group> = groups.into_values().collect();
    let day = |group: &Group| group.shown.get("date").and_then(Value::as_u64);
    groups.sort_by_key(|group| core::cmp::Reverse((day(group), group.count, group.last_at)));
    if ascends {
        groups.reverse();
    }
    groups.truncate(most);
    let shown = |mut group: Group| {
        group.shown.insert("totalFindings".to_owned(), Value::from(group.count));
        group.shown.insert("lastGeneratedAt".to_owned(), Value::from(group.last_at));
        Value::Object(group.shown)
    };
    groups.into_iter().map(shown).collect()
}
