//! Telemetry at run time: where batches go, how much each machine may bring, who has reported, and who listens.
//!
//! What a machine sends is decoded and stamped by the crate `inborn-telemetry`; `services/guardduty_data` is the way in.
//! Nothing is acknowledged before the [`Sink`] has it. Then it is told to who listens:
//!
//! - **coverage** asks for [`Telemetry::reports`]: who has reported, when last, and by which agent;
//! - **detection** takes a [`Listening`] and is handed every batch. It can neither delay nor fail what is taken in: what it
//!   does not take in time is left out, and counted.

mod listening;
pub(crate) mod metrics;
mod quota;
mod report;
mod sink;

use std::sync::{Arc, OnceLock};

use inborn_identity::{AccountId, InstanceId};
use inborn_lake::Lake;
use inborn_telemetry::Batch;
use tokio::sync::Semaphore;

use listening::Listeners;
use metrics::LakeCounts;
use prometheus_client::registry::Registry;
use quota::Quota;
use report::Reports;

pub(crate) use inborn_telemetry::Agent;
pub use listening::{Heard, Listening};
pub use report::Report;
pub(crate) use report::Spoken;
pub use sink::{Appending, Kept, Sink, SinkError};

/// What a machine may bring in a second, in bytes that are uncompressed, if nobody has set it: about ten thousand events.
const QUOTA_BYTES_PER_SECOND: u32 = 8 * 1024 * 1024;

/// Memory for bodies that are inflated and decoded, of all requests together.
const DECODING_BYTES_MAX: usize = 64 * 1024 * 1024;
const KIBIBYTE: usize = 1024;

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
    lake: OnceLock<Lake>,
    decoding: Arc<Semaphore>,
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
        Self {
            settings,
            sink: OnceLock::new(),
            lake: OnceLock::new(),
            decoding: Arc::new(Semaphore::new(DECODING_BYTES_MAX / KIBIBYTE)),
            quota,
            reports: Reports::default(),
            listeners: Listeners::default(),
        }
    }

    /// Sets where batches go. Only the first call counts; before it nothing is taken.
    pub fn keep_in(&self, sink: Arc<dyn Sink>) {
        let _ = self.sink.set(sink);
    }

    /// Keeps telemetry in a lake. Only the first call counts.
    pub fn keep_in_lake(&self, lake: Lake) {
        self.keep_in(Arc::new(lake.clone()));
        let _ = self.lake.set(lake);
    }

    /// Names in `registry` what the lake counts, if there is one.
    pub fn register(&self, registry: &mut Registry) {
        if let Some(lake) = self.lake() {
            registry.register_collector(Box::new(LakeCounts(lake.clone())));
        }
    }

    /// Where telemetry is kept, to be asked for what is there. `None` where none is kept.
    #[must_use]
    pub fn lake(&self) -> Option<&Lake> {
        self.lake.get()
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

    /// Memory for what is being decoded.
    pub(crate) const fn decoding(&self) -> &Arc<Semaphore> {
        &self.decoding
    }

    /// A copy of a batch for those who listen, if anybody does.
    pub(crate) fn for_listeners(&self, batch: &Batch) -> Option<Arc<Batch>> {
        let is_heard = !batch.records.is_empty() && self.listeners.is_any();
        is_heard.then(|| Arc::new(batch.clone()))
    }

    /// A machine has spoken, and what it said is kept: so many events, or none, which is a heartbeat.
    pub(crate) fn accepted(&self, spoken: Spoken) {
        self.reports.heard(spoken);
    }

    /// Hands a batch that is kept to those who listen.
    pub(crate) fn tell(&self, batch: &Arc<Batch>) {
        self.listeners.tell(batch);
    }

    /// Forgets machines that are gone.
    pub(crate) fn keep(&self, is_there: impl Fn(InstanceId) -> bool) {
        self.reports.keep(&is_there);
        self.quota.keep(&is_there);
    }
}
