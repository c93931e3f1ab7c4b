//! Telemetry at run time: where batches go, how much each machine may bring, who has reported, and who listens.
//!
//! What a machine sends is decoded and stamped by the crate `inborn-telemetry`; `services/guardduty_data` is the way in.
//! Nothing is acknowledged before the [`Sink`] has it. Then it is told to who listens:
//!
//! - **coverage** asks for [`Telemetry::reports`]: who has reported, when last, and by which agent;
//! - **detection** takes a [`Listening`] and is handed every batch. It can neither delay nor fail what is taken in: what it
//!   does not take in time is left out, and counted.

mod listening;
mod quota;
mod report;
mod sink;

use std::sync::{Arc, OnceLock};

use inborn_identity::{AccountId, InstanceId};
use inborn_telemetry::Batch;

use listening::Listeners;
use quota::Quota;
use report::Reports;

pub use listening::{Heard, Listening};
pub(crate) use report::Agent;
pub use report::Report;
pub use sink::{Appending, Kept, Sink, SinkError};

/// What a machine may bring in a second, in bytes that are uncompressed, if nobody has set it: about ten thousand events.
const QUOTA_BYTES_PER_SECOND: u32 = 8 * 1024 * 1024;

/// How telemetry is taken in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TelemetrySettings {
    /// The service that requests are signed for.
    pub signing_name: String,
    /// The accounts whose machines may send: the endpoint's policy, as `aws:PrincipalAccount` in that of AWS. Empty for all.
    pub accounts: Vec<AccountId>,
    /// Bytes a second, uncompressed, that one machine may bring; 0 for no limit.
    pub quota: u32,
    /// Whether each request has an audit line. If not, those that are refused have one, and all are counted.
    pub is_audited: bool,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            signing_name: "guardduty".to_owned(),
            accounts: Vec::new(),
            quota: QUOTA_BYTES_PER_SECOND,
            is_audited: false,
        }
    }
}

/// The state of telemetry.
pub struct Telemetry {
    settings: TelemetrySettings,
    sink: OnceLock<Arc<dyn Sink>>,
    quota: Quota,
    reports: Reports,
    listeners: Listeners,
}

impl core::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Telemetry").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Telemetry {
    pub(crate) fn new(settings: TelemetrySettings) -> Self {
        let quota = Quota::new(settings.quota);
        Self { settings, sink: OnceLock::new(), quota, reports: Reports::default(), listeners: Listeners::default() }
    }

    /// Sets where batches go. Only the first call counts; before it nothing is taken.
    pub fn keep_in(&self, sink: Arc<dyn Sink>) {
        let _ = self.sink.set(sink);
    }

    /// Who has reported.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.reports.all()
    }

    /// What a machine has reported, if it has.
    #[must_use]
    pub fn report(&self, instance: InstanceId) -> Option<Report> {
        self.reports.get(instance)
    }

    /// Hands every batch from now on to who calls this, as long as it keeps up.
    #[must_use]
    pub fn listen(&self) -> Listening {
        self.listeners.add()
    }

    pub(crate) fn sink(&self) -> Option<&Arc<dyn Sink>> {
        self.sink.get()
    }

    pub(crate) fn signing_name(&self) -> &str {
        &self.settings.signing_name
    }

    pub(crate) const fn is_audited(&self) -> bool {
        self.settings.is_audited
    }

    /// Whether the endpoint's policy lets the machines of an account in.
    pub(crate) fn admits(&self, account: AccountId) -> bool {
        self.settings.accounts.is_empty() || self.settings.accounts.contains(&account)
    }

    pub(crate) const fn quota(&self) -> &Quota {
        &self.quota
    }

    /// A machine has spoken: a batch that was taken, which may be empty.
    pub(crate) fn accepted(&self, batch: Arc<Batch>, agent: Agent) {
        self.reports.heard(&batch, agent);
        self.listeners.tell(&batch);
    }

    /// Forgets machines that are gone.
    pub(crate) fn keep(&self, is_there: impl Fn(InstanceId) -> bool) {
        self.reports.keep(&is_there);
        self.quota.keep(&is_there);
    }
}
