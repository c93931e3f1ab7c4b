//! Who has reported, when, and by which agent.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_telemetry::{Agent, Source};

/// What a machine has said, and how it was taken.
#[derive(Clone, Debug)]
pub(crate) struct Spoken {
    pub(crate) source: Source,
    pub(crate) at: UnixTime,
    /// The program that sent it, by its own words.
    pub(crate) agent: Agent,
    /// How many events.
    pub(crate) records: usize,
}

/// What is known of the reports of one machine. It is in memory only: a region that has just started has heard nobody yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The account of the machine.
    pub account: AccountId,
    /// The machine.
    pub instance: InstanceId,
    /// The `service.name` that it named last: of its own making, like all that machines say.
    pub agent_name: Option<Box<str>>,
    /// The `service.version` that it named last.
    pub agent_version: Option<Box<str>>,
    /// When it was heard first.
    pub first_at: UnixTime,
    /// When it was heard last: by events, or by a request without any, which is a heartbeat.
    pub last_at: UnixTime,
    /// Events that were taken, those included that were there before.
    pub records: u64,
}

/// The reports of all machines. Only machines that the region knows get here, so that their number is bounded by theirs.
#[derive(Debug, Default)]
pub(super) struct Reports(Mutex<HashMap<InstanceId, Report>>);

impl Reports {
    pub(super) fn heard(&self, spoken: Spoken) {
        let Spoken { source: Source { account, instance, .. }, at, agent, records } = spoken;
        let count = u64::try_from(records).unwrap_or(u64::MAX);
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let report = reports.entry(instance).or_insert_with(|| Report {
            account,
            instance,
            agent_name: None,
            agent_version: None,
            first_at: at,
            last_at: at,
            records: 0,
        });
        report.last_at = report.last_at.max(at);
        report.records = report.records.saturating_add(count);
        // Plain lines of JSON say nothing of the agent; what it said before stays.
        if agent.name.is_some() {
            (report.agent_name, report.agent_version) = (agent.name, agent.version);
        }
    }

    pub(super) fn all(&self) -> Vec<Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn get(&self, instance: InstanceId) -> Option<Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&instance).cloned()
    }

    pub(super) fn keep(&self, is_there: impl Fn(InstanceId) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|instance, _| is_there(*instance));
    }
}
