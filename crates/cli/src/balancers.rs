//! Balancers before the endpoints: those that are believed, and the counter of what they did wrong.

use std::sync::Arc;

use inborn_listener::proxy_header::Refusal;
use inborn_listener::{Balancers, Sources};
use ipnet::IpNet;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Why a connection was refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RefusedLabels {
    reason: &'static str,
}

/// What is before the endpoints.
#[derive(Debug, Default)]
pub(crate) struct Front {
    balancers: Option<Arc<Balancers>>,
    refused: Family<RefusedLabels, Counter>,
}

impl Front {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        let refused: Family<RefusedLabels, Counter> = Family::default();
        // Of a counter that appears with its first count nobody sees an increase.
        for refusal in Refusal::ALL {
            drop(refused.get_or_create(&RefusedLabels { reason: refusal.as_str() }));
        }
        let counted = refused.clone();
        let count = move |refusal: Refusal| {
            counted.get_or_create(&RefusedLabels { reason: refusal.as_str() }).inc();
        };
        let balancers = (!networks.is_empty()).then(|| {
            let named = networks.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
            tracing::info!(
                "connections from {named} begin with a header of the PROXY protocol, version 2, or are refused"
            );
            Arc::new(Balancers::new(networks.to_vec(), count))
        });
        Self { balancers, refused }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "inborn_balancer_connections_refused",
            "Connections of balancers that are believed, refused for what they began with, by reason",
            self.refused.clone(),
        );
    }

    /// Of endpoints where it counts who calls.
    pub(crate) fn of_callers(&self) -> Sources {
        self.balancers.clone().map_or(Sources::Connections, Sources::Behind)
    }

    /// Of the endpoint where balancers look how this server is.
    pub(crate) fn of_operations(&self) -> Sources {
        self.balancers.clone().map_or(Sources::Connections, Sources::PerhapsBehind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alerted_of_is_there_before_it_is_counted() {
        for networks in [&[][..], &["10.0.0.8/32".parse().unwrap()]] {
            let (front, mut registry) = (Front::new(networks), Registry::default());
            front.register(&mut registry);
            let text = inborn_region::encode_metrics(&registry).unwrap();
            for refusal in Refusal::ALL {
                let line = format!("inborn_balancer_connections_refused_total{{reason=\"{}\"}} 0", refusal.as_str());
                assert!(text.lines().any(|found| found == line), "{line}: {text}");
            }
            let (callers, operations) = (front.of_callers(), front.of_operations());
            assert_eq!(matches!(callers, Sources::Behind(_)), !networks.is_empty());
            assert_eq!(matches!(operations, Sources::PerhapsBehind(_)), !networks.is_empty());
        }
    }
}
