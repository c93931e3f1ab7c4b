//! The operations endpoint of a host: is it alive, does it lack something, what has it counted. As a region's, it tells nobody a
//! secret.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use inborn_credential::Delivery;
use inborn_host::BEGINS_WITHIN_SECONDS;
use inborn_host_agent::{Known, Talk};
use inborn_identity::{Clock, UnixTime};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// After so long without a word of its region a host says so: some of the windows in which it tries to come back.
const SILENCE_SECONDS_MAX: u64 = 300;

const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str = "here are /livez, /readyz and /metrics\n";

type Seconds = Gauge<u64, AtomicU64>;

/// What the operations endpoint knows.
pub(super) struct Operations {
    talk: Arc<Talk>,
    clock: Arc<dyn Clock>,
    registry: Registry,
    ready: Gauge,
    connected: Gauge,
    heard: Seconds,
    machines: Gauge,
    bare: Gauge,
}

/// What it looks like at a moment.
struct Sight {
    is_connected: bool,
    heard_at: Option<UnixTime>,
    machines: usize,
    /// Machines that should have a credential, and have none that is good.
    bare: usize,
}

impl Operations {
    pub(super) fn new(talk: Arc<Talk>, clock: Arc<dyn Clock>, mut registry: Registry) -> Arc<Self> {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("inborn_build", "The version that runs", build);
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let ready = gauge("inborn_ready", "1 while /readyz says ok, else 0");
        let connected =
            gauge("inborn_host_region_connected", "1 while the region is there, as far as the host has seen");
        let machines = gauge("inborn_host_machines", "Machines that the region has placed on the host");
        let bare = gauge(
            "inborn_host_machines_without_credentials",
            "Machines that run and hold no credential that is good, those in quarantine not counted",
        );
        let heard = Seconds::default();
        let help = "When the region was last heard, since 1970; 0 for never";
        registry.register("inborn_host_region_heard_time_seconds", help, heard.clone());
        Arc::new(Self { talk, clock, registry, ready, connected, heard, machines, bare })
    }

    /// Answers one request.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, kind, body) = match request.uri().path() {
            "/livez" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => {
                let faults = faults(&self.look(), self.clock.now());
                match faults.as_slice() {
                    [] => (StatusCode::OK, TEXT, "ok\n".to_owned()),
                    faults => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready\n{}\n", faults.join("\n"))),
                }
            }
            "/metrics" => {
                self.measure();
                match inborn_region::encode_metrics(&self.registry) {
                    Ok(text) => (StatusCode::OK, METRICS, text),
                    Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
                }
            }
            _ => (StatusCode::NOT_FOUND, TEXT, PATHS.to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response
    }

    fn look(&self) -> Sight {
        let now = self.clock.now();
        let agent = self.talk.agent();
        let is_bare = |known: &&Known| {
            let record = known.record();
            let begins_by = now.plus(BEGINS_WITHIN_SECONDS);
            let held = known.credential(Delivery::V2, now).filter(|(credential, _)| credential.issued_at <= begins_by);
            record.is_running && !record.is_withheld && held.is_none()
        };
        Sight {
            is_connected: agent.is_connected(),
            heard_at: agent.heard_at(),
            machines: agent.mirror().count(),
            bare: agent.mirror().all().filter(is_bare).count(),
        }
    }

    fn measure(&self) {
        let sight = self.look();
        self.ready.set(i64::from(faults(&sight, self.clock.now()).is_empty()));
        self.connected.set(i64::from(sight.is_connected));
        self.heard.set(sight.heard_at.map_or(0, UnixTime::as_secs));
        self.machines.set(i64::try_from(sight.machines).unwrap_or(i64::MAX));
        self.bare.set(i64::try_from(sight.bare).unwrap_or(i64::MAX));
    }
}

/// What a person should know, one sentence each.
fn faults(sight: &Sight, now: UnixTime) -> Vec<String> {
    let mut faults = Vec::new();
    match sight.heard_at {
        None => faults.push("region: it was not heard since the host joined".to_owned()),
        Some(at) if now.since(at) > SILENCE_SECONDS_MAX => {
            faults.push(format!("region: nothing was heard of it for {} s", now.since(at)));
        }
        Some(_) => {}
    }
    if sight.bare > 0 {
        faults.push(format!("credentials: {} machines hold none that is good", sight.bare));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_lacks_below_at_and_above_the_limits() {
        let now = UnixTime::from_secs(1_800_000_000);
        for (silent, bare, count) in [
            (Some(0), 0, 0),
            (Some(SILENCE_SECONDS_MAX - 1), 0, 0),
            (Some(SILENCE_SECONDS_MAX), 0, 0),
            (Some(SILENCE_SECONDS_MAX + 1), 0, 1),
            (None, 0, 1),
            (Some(0), 1, 1),
            (None, 2, 2),
        ] {
            let sight =
                Sight { is_connected: true, heard_at: silent.map(|silent| now.minus(silent)), machines: 3, bare };
            assert_eq!(faults(&sight, now).len(), count, "{silent:?} {bare}");
        }
    }
}
