//! Counters of the host.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Labels {
    path_class: &'static str,
    version: &'static str,
    code: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Throttled {
    outcome: &'static str,
}

/// The host's metrics; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<Labels, Counter>,
    throttled: Family<Throttled, Counter>,
    connections: Gauge,
}

/// A connection that is counted for as long as this is there.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl Metrics {
    /// Names the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "inborn_imds_requests",
            "Metadata requests by class of path, version and status",
            self.requests.clone(),
        );
        registry.register(
            "inborn_imds_throttled",
            "Metadata requests over their machine's rate: delayed until their turn, or refused with 503",
            self.throttled.clone(),
        );
        registry.register(
            "inborn_imds_connections",
            "Connections of guests to their metadata, open now",
            self.connections.clone(),
        );
    }

    pub(crate) fn count_throttled(&self, refused: bool) {
        let outcome = if refused { "refused" } else { "delayed" };
        self.throttled.get_or_create(&Throttled { outcome }).inc();
    }

    pub(crate) fn open_connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    pub(crate) fn count(&self, path_class: &'static str, version: &'static str, code: u16) {
        self.requests.get_or_create(&Labels { path_class, version, code: u32::from(code) }).inc();
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
