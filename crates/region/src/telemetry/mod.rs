//! Telemetry at run time: where batches go, how much each machine may bring, and who listens.
//!
//! What a machine sends is decoded and stamped by the crate `inborn-telemetry`; `services/guardduty_data` is the way in.
//! Nothing is acknowledged before the [`Sink`] has it. Then detection, by a [`Listening`], is handed what of every batch is new:
//! what is sent again is not judged again. It can neither delay nor fail what is taken in: what it does not take in time is
//! left out, and counted. Who has reported is for coverage to know (`guardduty/agents.rs`).
//!
//! Memory: bodies that come, and what is made of them, have a room each that all requests share and nobody else takes from.
//! Of that for bodies no source, and of that for events which wait to be judged no machine, can take all ([`SharedRoom`]). Where there is none, a client is told at once to come again. What a body becomes counts until it is on disk; then it is
//! a listener's, or gone.

mod listening;
pub(crate) mod metrics;
mod quota;
mod shared_room;
mod sink;

use std::sync::{Arc, OnceLock};

use inborn_identity::{AccountId, CallerKind, InstanceId};
use inborn_lake::Lake;
use inborn_telemetry::{Batch, Foreign};
use tokio::sync::Semaphore;

use listening::Listeners;
use metrics::LakeCounts;
use prometheus_client::registry::Registry;
use quota::Quota;
use shared_room::SharedRoom;

use crate::throttle::Source;

pub(crate) use inborn_telemetry::Agent;
pub(crate) use listening::Told;
pub use listening::{Heard, Listening};
pub(crate) use shared_room::Share;
pub use sink::{Appending, Kept, Sink, SinkError};

/// What a machine may bring in a second, in bytes that are uncompressed, if nobody has set it: about ten thousand events.
const QUOTA_BYTES_PER_SECOND: u32 = 8 * 1024 * 1024;

/// Memory for bodies as they come, of all requests together: who sends them has proved nothing yet, so that sources of
/// requests share it.
const BODIES_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Memory for what they become, inflated and stamped, of all requests together.
const DECODING_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Bodies that are decoded at the same time; the others wait, and take no more than they did. Each takes some memory that is
/// not counted: a few texts of one event.
const DECODERS_MAX: usize = 4;
const KIBIBYTE: usize = 1024;

// What one request may become is what the lake takes at once.
const _: () = assert!(inborn_telemetry::limits::STAMPED_BYTES_MAX <= inborn_lake::BYTES_IN_FLIGHT_MAX);

/// How telemetry is taken in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TelemetrySettings {
    /// The service that requests are signed for.
    pub signing_name: String,
    /// The accounts whose machines may send: the endpoint's policy, as `aws:PrincipalAccount` in that of AWS. Empty for all.
    pub accounts: Vec<AccountId>,
    /// Bytes a second, uncompressed, that one machine may bring; 0 for no limit.
    pub quota: u32,
    /// What becomes of events that name another machine as theirs.
    pub foreign: Foreign,
    /// Whether the management role may send, too, which Default Host Management passes to machines: for the machine that it
    /// was passed to. Else only the identity role may.
    pub management_role: bool,
    /// Whether each request has an audit line. If not, those that are refused have one, and all are counted.
    pub is_audited: bool,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            signing_name: "guardduty".to_owned(),
            accounts: Vec::new(),
            quota: QUOTA_BYTES_PER_SECOND,
            foreign: Foreign::default(),
            management_role: false,
            is_audited: false,
        }
    }
}

/// The bounds of decoding.
#[derive(Clone, Debug)]
pub(crate) struct Decoding {
    /// Kibibytes.
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) turns: Arc<Semaphore>,
}

impl Default for Decoding {
    fn default() -> Self {
        let memory = Arc::new(Semaphore::new(DECODING_BYTES_MAX / KIBIBYTE));
        Self { memory, turns: Arc::new(Semaphore::new(DECODERS_MAX)) }
    }
}

/// The state of telemetry.
pub struct Telemetry {
    settings: TelemetrySettings,
    sink: OnceLock<Arc<dyn Sink>>,
    lake: OnceLock<Lake>,
    bodies: SharedRoom<Source>,
    decoding: Decoding,
    quota: Quota,
    listeners: Arc<Listeners>,
}

impl core::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Telemetry").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Beside `home`, which is another region of the same process, the memory for bodies is that one's.
    pub(crate) fn new(settings: TelemetrySettings, home: Option<&Self>) -> Self {
        let quota = Quota::new(settings.quota);
        Self {
            settings,
            sink: OnceLock::new(),
            lake: OnceLock::new(),
            bodies: home.map_or_else(|| SharedRoom::new(BODIES_BYTES_MAX), |home| home.bodies.share()),
            decoding: home.map_or_else(Decoding::default, |home| home.decoding.clone()),
            quota,
            listeners: Arc::default(),
        }
    }

    /// Sets where batches go. Only the first call counts; before it nothing is taken.
    pub fn keep_in(&self, sink: Arc<dyn Sink>) {
        let _ = self.sink.set(sink);
    }

    /// Keeps telemetry in a lake, which tells what is new itself: in the order of its log, so that a place in it says what was
    /// judged, and whether or not whoever brought it is still there. Only the first call counts.
    pub fn keep_in_lake(&self, lake: Lake) {
        self.keep_in(Arc::new(lake.clone()));
        let listeners = Arc::clone(&self.listeners);
        lake.observe(Box::new(move |batch, place| listeners.tell(batch, Some(place))));
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

    /// What becomes of events that name another machine as theirs.
    pub(crate) const fn foreign(&self) -> Foreign {
        self.settings.foreign
    }

    /// Whether the operator lets a kind of caller send whom the operation table does not name.
    pub(crate) fn also_lets(&self, kind: CallerKind) -> bool {
        kind == CallerKind::ManagementRole && self.settings.management_role
    }

    /// Memory for a body of so many bytes, if there is any now for this source.
    pub(crate) fn room_for_body(&self, source: Source, bytes: usize) -> Option<Share<Source>> {
        self.bodies.take(source, bytes)
    }

    /// Who decodes, and with what memory.
    pub(crate) const fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// Hands what is new of a batch that is kept to those who listen, unless the lake has. From here on it is their memory that
    /// it takes.
    pub(crate) fn tell(&self, new: impl Into<Arc<Batch>>) {
        let new = new.into();
        if self.lake.get().is_none() && !new.records.is_empty() {
            self.listeners.tell(&new, None);
        }
    }

    /// Forgets machines that are gone.
    pub(crate) fn keep(&self, is_there: impl Fn(InstanceId) -> bool) {
        self.quota.keep(&is_there);
    }
}
