//! Detection: from what machines tell, and from how their credentials are used, to findings.
//!
//! ```text
//! telemetry ▶ Listening (bounded, never waits) ▶ judge: the rules ▶ Pending ▶ record ▶ FindingSink ▶ outputs
//! gateway   ▶ a call with credentials away from their machine ▶ Pending ▶ record ▶
//! ```
//!
//! The second way has places and a task of its own: however many findings the rules make, they cannot keep the region from
//! storing that credentials are away.
//!
//! Rules are asked on threads that no request waits for. What comes faster than they answer is not judged: it is counted and
//! said, and it is stored all the same, since storing is not detection's. What was to be judged when the process ended is judged
//! by the next one (`unjudged.rs`).

mod away;
mod judge;
mod pending;
mod record;
mod rules;
mod unjudged;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use inborn_detect::away::AwaySettings;
use inborn_detect::sigma::SigmaRules;
use inborn_detect::{Finding, Recorded};
use inborn_identity::{Clock, Partition, UnixTime};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::RegionServer;
use crate::telemetry::Listening;
use pending::Pending;
use unjudged::Reading;

pub(crate) use away::Away;
pub use unjudged::Counted;

/// The most different findings of the rules that wait to be recorded ([`inborn_detect::finding::Gathered`]).
const PENDING_MAX: usize = 2048;
/// The same of findings that the region makes of calls.
const AWAY_PENDING_MAX: usize = 512;

/// What an operator says about detection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectionSettings {
    /// Whether the rules that come with Inborn are used.
    pub own_rules: bool,
    /// A directory of more rules: all `.yml` and `.yaml` files below it.
    pub directory: Option<PathBuf>,
    /// The ids of rules that are not used.
    pub disabled: BTreeSet<String>,
    /// Credentials that are used away from their machine.
    pub away: AwaySettings,
}

impl Default for DetectionSettings {
    fn default() -> Self {
        Self { own_rules: true, directory: None, disabled: BTreeSet::new(), away: AwaySettings::default() }
    }
}

/// What became of a finding that was to be recorded: `None` if nobody wants to know of it, or if it was recorded before: it is then
/// told to nobody.
pub type Recording<'a> = Pin<Box<dyn Future<Output = Result<Option<Recorded>, inborn_store::StoreError>> + Send + 'a>>;

/// Keeps findings. One that has the key of a kept one is counted up there.
pub trait FindingSink: Send + Sync + 'static {
    /// Keeps one, unless nobody wants it. If it is of events in a log, `counted` says which part of it the kept one counts then;
    /// what it counts already is not counted again.
    fn record<'a>(&'a self, finding: &'a Finding, counted: Option<Counted>, now: UnixTime) -> Recording<'a>;
}

/// Passes findings on to other tools. It must not wait.
pub trait FindingOutput: Send + Sync + 'static {
    /// A finding was recorded: one line, an OCSF event (Detection Finding).
    fn recorded(&self, line: &Arc<str>);
}

/// What detection did, in numbers.
#[derive(Debug, Default)]
pub(crate) struct DetectionMetrics {
    judged: Counter,
    judged_late: Counter,
    skipped: Counter,
    findings: Counter,
    trusted: Counter,
    lost: Counter,
    away_refused: Counter,
    rules: Gauge,
    rule_errors: Gauge,
}

impl DetectionMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("inborn_detection_events", "Events that were judged", self.judged.clone());
        registry.register(
            "inborn_detection_events_late",
            "Events that were judged after a start, since an earlier process had stored them and not judged them",
            self.judged_late.clone(),
        );
        registry.register(
            "inborn_detection_events_skipped",
            "Events that were stored but not judged, since too many came",
            self.skipped.clone(),
        );
        registry.register("inborn_detection_findings", "Occurrences of findings", self.findings.clone());
        registry.register(
            "inborn_detection_findings_trusted",
            "Occurrences of findings that are not kept, since they are about trusted addresses",
            self.trusted.clone(),
        );
        registry.register(
            "inborn_detection_findings_lost",
            "Occurrences of findings that could not be recorded",
            self.lost.clone(),
        );
        registry.register(
            "inborn_detection_away_refused",
            "Calls refused because their credentials were used away from their machine",
            self.away_refused.clone(),
        );
        registry.register("inborn_detection_rules", "Rules that are in use", self.rules.clone());
        registry.register("inborn_detection_rule_errors", "Rules that cannot be used", self.rule_errors.clone());
    }
}

/// What the parts of detection share.
struct Shared {
    rules: ArcSwap<SigmaRules>,
    clock: Arc<dyn Clock>,
    partition: Partition,
    metrics: Arc<DetectionMetrics>,
}

struct Running {
    shared: Arc<Shared>,
    /// Findings of calls.
    called: Arc<Pending>,
    away: ArcSwap<AwaySettings>,
    /// Tells whoever reads the rules that others are chosen.
    chosen: watch::Sender<Option<rules::Reader>>,
}

/// The region's detection. It does nothing until it is started.
pub struct Detection {
    running: OnceLock<Running>,
    sink: OnceLock<Arc<dyn FindingSink>>,
    outputs: OnceLock<Vec<Arc<dyn FindingOutput>>>,
    metrics: Arc<DetectionMetrics>,
}

impl Detection {
    pub(crate) fn new(metrics: Arc<DetectionMetrics>) -> Self {
        Self { running: OnceLock::new(), sink: OnceLock::new(), outputs: OnceLock::new(), metrics }
    }

    /// Sets who keeps findings. Only the first call counts; before it, none is kept.
    pub fn record_to(&self, sink: Arc<dyn FindingSink>) {
        let _ = self.sink.set(sink);
    }

    /// Sets who passes findings on. Only the first call counts.
    pub fn tell(&self, outputs: Vec<Arc<dyn FindingOutput>>) {
        let _ = self.outputs.set(outputs);
    }

    /// Takes in a finding of others than the rules: it is recorded within a moment, once detection was started. Never waits.
    pub fn found(&self, finding: Finding) {
        let Some(running) = self.running.get() else { return };
        let lost = running.called.add([finding]);
        if lost > 0 {
            running.shared.metrics.lost.inc_by(lost);
            tracing::warn!(lost, "findings are lost: more different ones come than can be recorded");
        }
    }
}

impl RegionServer {
    /// The region's detection.
    #[must_use]
    pub const fn detection(&self) -> &Detection {
        &self.detection
    }

    /// Starts detection: what comes from now on is judged. Only the first call counts. Rules that cannot be used are said in
    /// the log, with file and line.
    pub fn detect(self: &Arc<Self>, settings: DetectionSettings) {
        let DetectionSettings { own_rules, directory, disabled, away } = settings;
        let metrics = Arc::clone(&self.detection.metrics);
        let mut reader = rules::Reader::new(own_rules, directory, disabled);
        let shared = Arc::new(Shared {
            rules: ArcSwap::from_pointee(reader.read(&metrics)),
            clock: Arc::clone(&self.clock),
            partition: self.identity.partition,
            metrics,
        });
        let (judged, judged_wait) = Pending::new(PENDING_MAX);
        let (called, called_wait) = Pending::new(AWAY_PENDING_MAX);
        let (judged, called) = (Arc::new(judged), Arc::new(called));
        let (chosen, choice) = watch::channel(None);
        let away = ArcSwap::from_pointee(away);
        let running = Running { shared: Arc::clone(&shared), called: Arc::clone(&called), away, chosen };
        if self.detection.running.set(running).is_err() {
            return;
        }
        let (region, listening) = (Arc::downgrade(self), self.telemetry.listen());
        let reading = self.resume_judging(&shared, &listening, &judged);
        tokio::spawn(record::run(region.clone(), Arc::downgrade(&judged), judged_wait, reading));
        tokio::spawn(record::run(region.clone(), Arc::downgrade(&called), called_wait, None));
        tokio::spawn(judge::run(listening, region.clone(), shared, judged));
        tokio::spawn(rules::watch(reader, choice, region));
    }

    /// Goes on where an earlier process stopped judging what is in the lake, if there is one.
    fn resume_judging(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        listening: &Listening,
        judged: &Arc<Pending>,
    ) -> Option<Arc<Reading>> {
        let (bookmark, unread) = match self.telemetry.lake()?.resume() {
            Ok(resumed) => resumed,
            Err(error) => {
                tracing::error!(%error, "it cannot be told what was judged before the start: what was not is not judged, and neither will it be after the next one");
                return None;
            }
        };
        let told = listening.told();
        if !unread.is_empty() {
            let (bookmark, region) = (Arc::clone(&bookmark), Arc::downgrade(self));
            tokio::spawn(unjudged::run(unread, bookmark, region, Arc::clone(shared), Arc::clone(&told)));
        }
        let reading = Reading::new(&bookmark);
        tokio::spawn(unjudged::keep(bookmark, told, Arc::downgrade(judged)));
        Some(reading)
    }

    /// From now on this is what an operator says about detection, where it is running: rules are read again, within a moment.
    pub(crate) fn detect_by(&self, settings: DetectionSettings) {
        let Some(running) = self.detection.running.get() else { return };
        let DetectionSettings { own_rules, directory, disabled, away } = settings;
        running.away.store(Arc::new(away));
        let _ = running.chosen.send(Some(rules::Reader::new(own_rules, directory, disabled)));
    }
}

#[cfg(test)]
mod tests;
