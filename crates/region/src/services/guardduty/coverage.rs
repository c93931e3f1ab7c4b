//! Coverage, told from facts alone: which machines there are, and when their agents last sent something under their identity.

use inborn_identity::UnixTime;
use inborn_store::PackedInstance;
use inborn_wire::error::Problem;
use serde_json::{Value, json};

use super::refusal;
use super::request::Input;
use crate::RegionServer;
use crate::guardduty::{Watched, is_covered};

/// The member that says which resources.
pub(super) const FILTER: &str = "filterCriteria";
/// Most criteria. Source: botocore's model.
const CRITERIA_MAX: usize = 50;
/// Most values of one.
const VALUES_MAX: usize = 50;
/// Whoever agent it is, an operator has put it there.
const MANAGEMENT: &str = "MANUAL";
const KEYS: [&str; 11] = [
    "ACCOUNT_ID",
    "RESOURCE_TYPE",
    "COVERAGE_STATUS",
    "ADDON_VERSION",
    "CLUSTER_NAME",
    "ECS_CLUSTER_NAME",
    "MANAGEMENT_TYPE",
    "EKS_CLUSTER_NAME",
    "AGENT_VERSION",
    "INSTANCE_ID",
    "CLUSTER_ARN",
];

/// A machine, and how it is covered.
pub(super) struct Resource {
    pub(super) instance: String,
    instance_type: String,
    account: String,
    agent_version: Option<String>,
    issue: Option<&'static str>,
    updated_at: UnixTime,
}

/// The machines of a detector's account: those that run, and those that have ever sent something. Source of the issues: user
/// guide of GuardDuty, "Troubleshooting coverage issues"; those about things that nobody does here are never told.
pub(super) fn resources(region: &RegionServer, watched: &Watched, now: UnixTime) -> Vec<Resource> {
    region.machines().of_account(watched.account).filter_map(|machine| Resource::of(region, &machine, now)).collect()
}

impl Resource {
    fn of(region: &RegionServer, machine: &PackedInstance, now: UnixTime) -> Option<Self> {
        let report = region.guardduty().agent(machine.id());
        let is_running = machine.is_running();
        let (issue, updated_at) = match &report {
            Some(report) if is_running && is_covered(report, now) => (None, report.last_at),
            Some(report) => (Some("No Agent Reporting: Agent disconnected"), report.last_at),
            None if is_running => (Some("No Agent Reporting"), machine.launch_time()),
            None => return None,
        };
        Some(Self {
            instance: machine.id().to_string(),
            instance_type: machine.instance_type().to_owned(),
            account: machine.account().to_string(),
            agent_version: report.map(|report| report.agent_version).filter(|version| !version.is_empty()),
            issue,
            updated_at,
        })
    }

    pub(super) const fn status(&self) -> &'static str {
        if self.issue.is_none() { "HEALTHY" } else { "UNHEALTHY" }
    }

    /// What it has under a name; what a machine has not is absent.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        match key {
            "ACCOUNT_ID" => Some(&self.account),
            "RESOURCE_TYPE" => Some("EC2"),
            "COVERAGE_STATUS" => Some(self.status()),
            "MANAGEMENT_TYPE" => Some(MANAGEMENT),
            "AGENT_VERSION" => self.agent_version.as_deref(),
            "INSTANCE_ID" => Some(&self.instance),
            "ISSUE" => self.issue,
            _ => None,
        }
    }

    pub(super) const fn updated_at(&self) -> UnixTime {
        self.updated_at
    }

    pub(super) fn shown(&self, detector: &str) -> Value {
        let agent = self.agent_version.as_ref().map_or_else(|| json!({}), |version| json!({"version": version}));
        let mut shown = json!({
            "resourceId": self.instance,
            "detectorId": detector,
            "accountId": self.account,
            "resourceDetails": {
                "resourceType": "EC2",
                "ec2InstanceDetails": {
                    "instanceId": self.instance,
                    "instanceType": self.instance_type,
                    "agentDetails": agent,
                    "managementType": MANAGEMENT,
                },
            },
            "coverageStatus": self.status(),
            "updatedAt": self.updated_at.as_secs(),
        });
        if let (Some(issue), Some(members)) = (self.issue, shown.as_object_mut()) {
            members.insert("issue".to_owned(), Value::from(issue));
        }
        shown
    }
}

/// Which resources are meant.
#[derive(Default)]
pub(super) struct Filter(Vec<Criterion>);

struct Criterion {
    key: String,
    equals: Option<Vec<String>>,
    not_equals: Option<Vec<String>>,
}

impl Filter {
    pub(super) fn read(input: &Input) -> Result<Self, Problem> {
        const CRITERION: &str = "filterCriterion";
        let Some(filter) = input.object(FILTER, &[CRITERION])? else { return Ok(Self::default()) };
        let criteria = filter.objects(CRITERION, CRITERIA_MAX, &["criterionKey", "filterCondition"])?;
        criteria.iter().map(Criterion::read).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn passes(&self, resource: &Resource) -> bool {
        self.0.iter().all(|criterion| {
            let own = resource.get(&criterion.key);
            let has = |list: &Vec<String>| own.is_some_and(|own| list.iter().any(|value| value == own));
            criterion.equals.as_ref().is_none_or(has) && !criterion.not_equals.as_ref().is_some_and(has)
        })
    }

    /// All of it, for the tokens of its pages.
    pub(super) fn text(&self) -> String {
        let one = |criterion: &Criterion| json!([criterion.key, criterion.equals, criterion.not_equals]);
        Value::Array(self.0.iter().map(one).collect()).to_string()
    }
}

impl Criterion {
    fn read(input: &Input) -> Result<Self, Problem> {
        let key = input.one_of("criterionKey", &KEYS)?.ok_or_else(|| refusal::missing("criterionKey"))?;
        let condition = input.object("filterCondition", &["equals", "notEquals"])?;
        let condition = condition.ok_or_else(|| refusal::missing("filterCondition"))?;
        let list = |name| {
            let list = condition.texts(name, VALUES_MAX)?;
            Ok::<_, Problem>(list.map(|list| list.into_iter().map(str::to_owned).collect()))
        };
        let (equals, not_equals) = (list("equals")?, list("notEquals")?);
        Ok(Self { key: key.to_owned(), equals, not_equals })
    }
}
