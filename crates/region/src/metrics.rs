//! Counters of the region. Labels are words from short lists, never an id: their number is bounded.

use std::sync::Arc;

use inborn_fleet::RefusalCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::SERVICES;
use crate::detection::DetectionMetrics;
use crate::telemetry::metrics::TelemetryMetrics;

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct CallLabels {
    pub(crate) service: &'static str,
    pub(crate) action: &'static str,
    pub(crate) result: &'static str,
    pub(crate) reason: &'static str,
}

/// What became of a call while this server had not heard of others for too long.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct StaleLabels {
    pub(crate) service: &'static str,
    pub(crate) outcome: &'static str,
}

/// What was not heard: `feed`, of others what they change; `beat`, an answer to this server's own sign of life.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct SilenceLabels {
    pub(crate) of: &'static str,
}

/// What became of a set of host keys that a machine published.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct HostKeyLabels {
    pub(crate) outcome: &'static str,
}

/// Why a host did not get what it asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct HostRefusedLabels {
    pub(crate) code: &'static str,
}

/// The region's metrics. Names follow the Prometheus conventions: base units, `_total` for counters.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) calls: Family<CallLabels, Counter>,
    pub(crate) issued: Counter,
    pub(crate) stale: Family<StaleLabels, Counter>,
    pub(crate) silence: Family<SilenceLabels, Gauge>,
    pub(crate) audit_lost: Counter,
    pub(crate) audit_refused: Counter,
    pub(crate) host_keys: Family<HostKeyLabels, Counter>,
    pub(crate) machines: Gauge,
    pub(crate) hosts: Gauge,
    pub(crate) hosts_refused: Family<HostRefusedLabels, Counter>,
    pub(crate) control_channels: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) detection: Arc<DetectionMetrics>,
    pub(crate) telemetry: TelemetryMetrics,
}

impl Metrics {
    /// Names the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.begin_with_zero();
        registry.register("inborn_verify", "Calls by service, action, result and reason", self.calls.clone());
        registry.register(
            "inborn_stale_calls",
            "Calls that were served or refused while this server did not hear what others change",
            self.stale.clone(),
        );
        registry.register(
            "inborn_fleet_silence_seconds",
            "How long this region server has heard nothing of what others change (feed), and no answer to its own beat (beat)",
            self.silence.clone(),
        );
        registry.register("inborn_credentials_issued", "Credentials issued to hosts", self.issued.clone());
        registry.register(
            "inborn_audit_lines_lost",
            "Calls answered without an audit line, since it could not be written",
            self.audit_lost.clone(),
        );
        registry.register(
            "inborn_audit_mutations_refused",
            "Mutating calls refused because their audit line could not be written",
            self.audit_refused.clone(),
        );
        registry.register(
            "inborn_host_keys",
            "Sets of host keys published by machines, by outcome",
            self.host_keys.clone(),
        );
        registry.register("inborn_machines", "Machines that are not terminated", self.machines.clone());
        registry.register("inborn_hosts", "Hosts that joined and are not evicted", self.hosts.clone());
        registry.register(
            "inborn_hosts_refused",
            "Calls of hosts, or of who would be one, that were refused, by reason",
            self.hosts_refused.clone(),
        );
        self.telemetry.register(registry);
        registry.register("inborn_sessions", "Sessions that are open", self.sessions.clone());
        registry.register("inborn_control_channels", "Agents that are connected", self.control_channels.clone());
        self.detection.register(registry);
    }

    /// Has what alerts look for an increase of be there before it is counted: of a counter that appears with its first count nobody
    /// sees an increase.
    fn begin_with_zero(&self) {
        for service in SERVICES.iter().map(|service| service.name).chain(["other"]) {
            for outcome in ["served", "refused"] {
                drop(self.stale.get_or_create(&StaleLabels { service, outcome }));
            }
        }
        for code in RefusalCode::ALL {
            drop(self.hosts_refused.get_or_create(&HostRefusedLabels { code: code.as_str() }));
        }
    }
}

/// All of `registry` in the text format.
///
/// # Errors
/// A metric that cannot be written, which would be a mistake in its definition.
pub fn encode(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alerted_of_is_there_before_it_is_counted() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        let text = encode(&registry).unwrap_or_default();
        let is_zero = |line: &str| assert!(text.lines().any(|found| found == format!("{line} 0")), "{line}: {text}");
        for service in SERVICES.iter().map(|service| service.name).chain(["other"]) {
            is_zero(&format!("inborn_stale_calls_total{{service=\"{service}\",outcome=\"served\"}}"));
            is_zero(&format!("inborn_stale_calls_total{{service=\"{service}\",outcome=\"refused\"}}"));
        }
        for code in ["join-token-refused", "not-joined", "evicted", "not-placed", "malformed", "busy", "unavailable"] {
            is_zero(&format!("inborn_hosts_refused_total{{code=\"{code}\"}}"));
        }
    }
}
