//! The operations endpoint: is this process alive, can it do its work, what has it counted. For supervisors, balancers and
//! Prometheus; nothing here asks who is asking, so nothing here tells a secret or costs much.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use inborn_region::{Fault, RegionServer};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;

use crate::certificates::Published;

/// How long an answer about readiness is good, so that however many ask, the disk is written to only now and then.
const CHECK_AGE: Duration = Duration::from_secs(2);
/// With less room than this on the disk of the data directory, a process is not ready.
pub(crate) const DISK_FREE_MIN_BYTES: u64 = 16 << 20;

const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str = "here are /livez, /readyz, /metrics, /ca.pem, /identity.pem and /instance-connect.pem\n";

/// What the operations endpoint knows.
pub(crate) struct Operations {
    region: Arc<RegionServer>,
    data: PathBuf,
    registry: Registry,
    ready: Gauge,
    disk_free: Gauge<i64>,
    is_draining: AtomicBool,
    /// The newest check. Held while checking, so that all who ask meanwhile share one.
    checked: Mutex<Option<Checked>>,
}

/// What a check has found, and when it was made.
struct Checked {
    at: Instant,
    faults: Vec<String>,
    remarks: Vec<String>,
}

impl Operations {
    pub(crate) fn new(region: Arc<RegionServer>, data: PathBuf, mut registry: Registry) -> Arc<Self> {
        let (ready, disk_free) = (Gauge::default(), Gauge::default());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("inborn_build", "The version that runs", build);
        registry.register("inborn_ready", "1 while /readyz says ok, else 0", ready.clone());
        registry.register(
            "inborn_disk_free_bytes",
            "Room on the disk of the data directory for ordinary users",
            disk_free.clone(),
        );
        let start: Gauge<u64, AtomicU64> = Gauge::default();
        start.set(region.now().as_secs());
        registry.register("inborn_start_time_seconds", "When this process was ready, since 1970", start);
        let (is_draining, checked) = (AtomicBool::new(false), Mutex::new(None));
        Arc::new(Self { region, data, registry, ready, disk_free, is_draining, checked })
    }

    /// From now on this process is not ready.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Answers one request.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, kind, body) = match request.uri().path() {
            // What answers is alive: the accept loop, the runtime's timers and its threads.
            "/livez" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => {
                let (faults, mut remarks) = self.faults().await;
                remarks.extend(self.remarks());
                let status = if faults.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, TEXT, readiness(&faults, &remarks))
            }
            "/metrics" => {
                self.measure().await;
                match inborn_region::encode_metrics(&self.registry) {
                    Ok(text) => (StatusCode::OK, METRICS, text),
                    Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
                }
            }
            path => match Published::ALL.iter().find(|published| path.strip_prefix('/') == Some(published.file())) {
                Some(published) => match published.pem(&self.region) {
                    Some(pem) => (StatusCode::OK, "application/x-pem-file", pem),
                    None => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "it is being made: ask again\n".to_owned()),
                },
                None => (StatusCode::NOT_FOUND, TEXT, PATHS.to_owned()),
            },
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response
    }

    /// What stands in the way of this process's work, one sentence each, and what only of a part of it.
    async fn faults(&self) -> (Vec<String>, Vec<String>) {
        if self.is_draining.load(Ordering::Relaxed) {
            return (vec!["stopping: it was told to, and takes no new work".to_owned()], Vec::new());
        }
        let mut checked = self.checked.lock().await;
        if let Some(Checked { at, faults, remarks }) = checked.as_ref()
            && at.elapsed() < CHECK_AGE
        {
            return (faults.clone(), remarks.clone());
        }
        let (mut faults, remarks) = self.of_regions().await;
        let path = self.data.display();
        match disk_free(&self.data) {
            Ok(free) if free < DISK_FREE_MIN_BYTES => {
                faults.push(format!("disk: {} MiB are left for {path}: free some space", free >> 20));
            }
            Ok(_) => {}
            Err(error) => faults.push(format!("disk: cannot look at {path}: {error}")),
        }
        for fault in &faults {
            tracing::warn!("not ready: {fault}");
        }
        for remark in &remarks {
            tracing::warn!("{remark}");
        }
        *checked = Some(Checked { at: Instant::now(), faults: faults.clone(), remarks: remarks.clone() });
        (faults, remarks)
    }

    /// What stands in the way of the regions. They fail apart: as long as one can do its work, what the others lack is a remark,
    /// since sending requests to another process would take that one away as well.
    async fn of_regions(&self) -> (Vec<String>, Vec<String>) {
        let regions = self.region.regions();
        let is_alone = regions.len() == 1;
        let (mut faults, mut is_one_well) = (Vec::new(), false);
        // Side by side: each waits for its store.
        let asked: Vec<_> = regions
            .into_iter()
            .map(|region| {
                let name = region.identity().region.to_string();
                (name, tokio::spawn(async move { region.faults().await }))
            })
            .collect();
        for (name, asked) in asked {
            let Ok(found) = asked.await else {
                faults.push(format!("region {name}: its state cannot be told"));
                continue;
            };
            is_one_well |= found.is_empty();
            let told = |fault: &Fault| if is_alone { fault.to_string() } else { format!("region {name}: {fault}") };
            faults.extend(found.iter().map(told));
        }
        if is_one_well { (Vec::new(), faults) } else { (faults, Vec::new()) }
    }

    /// What somebody should look at, and what is no reason to send requests elsewhere.
    fn remarks(&self) -> Vec<String> {
        let regions = self.region.regions();
        regions.iter().filter_map(|region| region.telemetry().lake()?.undelivered()).collect()
    }

    /// Brings the gauges up to date.
    async fn measure(&self) {
        self.region.regions().iter().for_each(|region| region.measure());
        self.ready.set(i64::from(self.faults().await.0.is_empty()));
        if let Ok(free) = disk_free(&self.data) {
            self.disk_free.set(i64::try_from(free).unwrap_or(i64::MAX));
        }
    }
}

fn readiness(faults: &[String], remarks: &[String]) -> String {
    let remarks: String = remarks.iter().map(|remark| format!("remark: {remark}\n")).collect();
    if faults.is_empty() {
        return format!("ok\n{remarks}");
    }
    let lines: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    format!("not ready\n{lines}{remarks}")
}

/// Bytes that an ordinary user can still write on the disk of `path`; 0 where no more files can be made.
pub(crate) fn disk_free(path: &std::path::Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    let is_without_files = disk.f_files > 0 && disk.f_favail == 0;
    Ok(if is_without_files { 0 } else { disk.f_bavail.saturating_mul(disk.f_frsize) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_one_word_or_all_reasons() {
        assert_eq!(readiness(&[], &[]), "ok\n");
        assert_eq!(readiness(&[], &["c".into(), "d".into()]), "ok\nremark: c\nremark: d\n");
        let faults = ["store: a".into(), "disk: b".into()];
        assert_eq!(readiness(&faults, &[]), "not ready\nstore: a\ndisk: b\n");
        assert_eq!(readiness(&faults, &["c".into()]), "not ready\nstore: a\ndisk: b\nremark: c\n");
    }
}
