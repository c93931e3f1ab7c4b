//! Counters of the host.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Labels {
    path_class: &'static str,
    version: &'static str,
    code: u32,
}

/// The host's metrics; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<Labels, Counter>,
}

impl Metrics {
    /// Names the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "inborn_imds_requests",
            "Metadata requests by class of path, version and status",
            self.requests.clone(),
        );
    }

    pub(crate) fn count(&self, path_class: &'static str, version: &'static str, code: u16) {
        self.requests.get_or_create(&Labels { path_class, version, code: u32::from(code) }).inc();
    }
}
