//! A finding: something that happened and means harm, as a value. It becomes the document that GuardDuty's `GetFindings`
//! answers with, and the event of OCSF that goes to other tools.
//!
//! Source of the shape: botocore, `guardduty/2017-11-28/service-2.json`, `Finding`.

mod action;
mod gathered;
mod key;
mod kind;
mod ocsf;
mod resource;
mod runtime;
mod severity;
mod shorten;

pub use action::{Action, AwsApiCall, DnsRequest, IpDetails, NetworkConnection, PortDetails};
pub use gathered::{FINDINGS_OF_A_TYPE_MAX, Gathered, counts_further};
pub use key::FindingKey;
pub use kind::{FindingType, FindingTypeError};
pub use resource::{AccessKeyDetails, ContainerDetails, InstanceDetails, Resource};
pub use runtime::{ProcessDetails, RuntimeContext, RuntimeDetails};
pub use severity::Severity;
pub use shorten::shorten;

use inborn_identity::{AccountId, Partition, Region, UnixTime};
use serde_json::{Value, json};

/// `schemaVersion` of a finding.
const SCHEMA_VERSION: &str = "2.0";

/// The longest text of an event that goes into a finding, in bytes. What is longer is cut: a finding points at an event, it
/// does not replace it.
pub const TEXT_BYTES_MAX: usize = 1024;

/// One finding, as it was found: not yet stored, so that it has no id and no detector ([`Recorded`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What it is, as in `Execution:Runtime/ReverseShell`.
    pub kind: FindingType,
    /// How bad it is.
    pub severity: Severity,
    /// One line for people.
    pub title: String,
    /// What was seen, in a sentence or two.
    pub description: String,
    /// Of the account.
    pub partition: Partition,
    /// The account of the machine.
    pub account: AccountId,
    /// The region that saw it.
    pub region: Region,
    /// What it is about.
    pub resource: Resource,
    /// What was done, where GuardDuty has a form for it.
    pub action: Option<Action>,
    /// The process and what it touched.
    pub runtime: Option<RuntimeDetails>,
    /// Which list of the operator told that something is bad.
    pub threat_lists: Vec<ThreatList>,
    /// The rule that matched. Findings that no rule made have none.
    pub rule: Option<RuleReference>,
    /// What sets it apart from others of its type and machine: two occurrences with the same one are one finding.
    pub subject: String,
    /// How often it was seen.
    pub count: u32,
    /// When it was seen first.
    pub first_seen: UnixTime,
    /// When it was seen last.
    pub last_seen: UnixTime,
}

/// The rule that made a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleReference {
    /// Its `id`, else its title.
    pub id: String,
    /// Its title.
    pub title: String,
}

/// A list of the operator's, and the names in it that were met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreatList {
    /// Its name.
    pub name: String,
    /// What of it was met.
    pub threats: Vec<String>,
}

/// What only the store knows of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The detector that holds it: 32 hex digits.
    pub detector: Box<str>,
    /// Its id: 32 hex digits.
    pub id: Box<str>,
    /// When it was stored first.
    pub created_at: UnixTime,
    /// When it was changed last.
    pub updated_at: UnixTime,
    /// Whether an operator, or a filter of his, put it away.
    pub archived: bool,
    /// Whether this was its first occurrence.
    pub first: bool,
}

impl Finding {
    /// What makes two occurrences one finding: the type, the machine, and what of the machine.
    #[must_use]
    pub fn key(&self) -> FindingKey {
        FindingKey::of(self)
    }

    /// `arn:P:guardduty:REGION:ACCOUNT:detector/DETECTOR/finding/ID`.
    #[must_use]
    pub fn arn(&self, detector: &str, id: &str) -> String {
        let (partition, region, account) = (self.partition.id(), self.region.as_str(), self.account);
        format!("arn:{partition}:guardduty:{region}:{account}:detector/{detector}/finding/{id}")
    }

    /// Takes in a later occurrence of the same finding: counts it, and keeps the newest of what was seen.
    pub fn absorb(&mut self, later: Finding) {
        let (first_seen, last_seen) = (self.first_seen.min(later.first_seen), self.last_seen.max(later.last_seen));
        let count = self.count.saturating_add(later.count);
        *self = Finding { count, first_seen, last_seen, ..later };
    }

    /// The document: botocore's `Finding`, member for member.
    #[must_use]
    pub fn document(&self, recorded: &Recorded) -> Value {
        let mut document = json!({
            "accountId": self.account.to_string(),
            "arn": self.arn(&recorded.detector, &recorded.id),
            "createdAt": moment(recorded.created_at),
            "description": cut(&self.description),
            "id": &*recorded.id,
            "partition": self.partition.id(),
            "region": self.region.as_str(),
            "resource": self.resource.document(),
            "schemaVersion": SCHEMA_VERSION,
            "service": self.service(recorded),
            "severity": self.severity.value(),
            "title": cut(&self.title),
            "type": self.kind.as_str(),
            "updatedAt": moment(recorded.updated_at),
        });
        if let (Some(rule), Some(members)) = (&self.rule, document.as_object_mut()) {
            members.insert("customDetectionRuleName".to_owned(), Value::from(cut(&rule.title)));
        }
        document
    }

    fn service(&self, recorded: &Recorded) -> Value {
        let mut service = json!({
            "archived": recorded.archived,
            "count": self.count,
            "detectorId": &*recorded.detector,
            "eventFirstSeen": moment(self.first_seen),
            "eventLastSeen": moment(self.last_seen),
            "resourceRole": "TARGET",
            "serviceName": "guardduty",
        });
        let Some(members) = service.as_object_mut() else { return service };
        if let Some(action) = &self.action {
            members.insert("action".to_owned(), action.document());
        }
        if let Some(runtime) = &self.runtime {
            members.insert("runtimeDetails".to_owned(), serde_json::to_value(runtime).unwrap_or_default());
            members.insert("featureName".to_owned(), Value::from("RuntimeMonitoring"));
        }
        if !self.threat_lists.is_empty() {
            let lists = self.threat_lists.iter().map(ThreatList::document).collect::<Vec<_>>();
            members.insert("evidence".to_owned(), json!({ "threatIntelligenceDetails": lists }));
        }
        if let Some(rule) = &self.rule {
            let value = json!({ "ruleId": cut(&rule.id), "ruleTitle": cut(&rule.title) }).to_string();
            members.insert("additionalInfo".to_owned(), json!({ "type": "default", "value": value }));
        }
        service
    }
}

impl ThreatList {
    fn document(&self) -> Value {
        let threats = self.threats.iter().map(|threat| cut(threat)).collect::<Vec<_>>();
        json!({ "threatListName": cut(&self.name), "threatNames": threats })
    }
}

/// Counts a later occurrence up in the document of an earlier one, as [`Finding::absorb`] does among values: the store keeps
/// documents. What belongs to the stored finding (id, creation, archive, feedback) stays.
pub fn count_up(document: &mut Value, later: &Finding, recorded: &Recorded) {
    let mut newer = later.document(recorded);
    let earlier = document.get("service").cloned().unwrap_or_default();
    if let Some(service) = newer.get_mut("service").and_then(Value::as_object_mut) {
        let counted = earlier.get("count").and_then(Value::as_u64).unwrap_or_default();
        let count = u32::try_from(counted).unwrap_or(u32::MAX).saturating_add(later.count);
        service.insert("count".to_owned(), Value::from(count));
        // Moments are of one form, so that texts compare as they do.
        for (name, keep_smaller) in [("eventFirstSeen", true), ("eventLastSeen", false)] {
            let (Some(old), Some(new)) = (
                earlier.get(name).and_then(Value::as_str),
                service.get(name).and_then(Value::as_str).map(ToOwned::to_owned),
            ) else {
                continue;
            };
            if (old < new.as_str()) == keep_smaller {
                service.insert(name.to_owned(), Value::from(old));
            }
        }
        if let Some(feedback) = earlier.get("userFeedback") {
            service.insert("userFeedback".to_owned(), feedback.clone());
        }
    }
    *document = newer;
}

/// `2026-11-26T21:00:00.000Z`: the form of all moments of a finding.
fn moment(time: UnixTime) -> String {
    let mut text = time.rfc3339();
    text.pop();
    text.push_str(".000Z");
    text
}

/// A text of an event, or of a rule, as long as a finding holds it.
#[must_use]
pub fn cut(text: &str) -> &str {
    cut_to(text, TEXT_BYTES_MAX)
}

/// As much of a text as has so many bytes, cut between characters.
fn cut_to(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
