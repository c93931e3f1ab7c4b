//! The task that sends what has ended.

use core::sync::atomic::{AtomicU64, Ordering};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use inborn_pki::tls;
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::encode;
use crate::layer::Spans;
use crate::settings::Settings;
use crate::span::Span;

/// Spans that wait. Each is a few hundred bytes.
const QUEUE_MAX: usize = 2048;
/// Spans of one export.
const BATCH_MAX: usize = 512;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(5);
/// How often an export is tried.
const ATTEMPTS_MAX: u32 = 3;
/// How long it is waited after the first; then twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest that a collector may ask to wait.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often at most it is said that spans are lost.
const SAYING: Duration = Duration::from_secs(60);
/// How long a connection is kept that nobody uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Sends spans to a collector, until it is stopped.
#[derive(Debug)]
pub struct Exporter {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Sending {
    settings: Settings,
    http: Http,
    dropped: Arc<AtomicU64>,
    /// Spans that no export brought there, since it was said last.
    lost: u64,
    said: Option<Instant>,
}

/// Why an export failed.
enum Failure {
    /// To try again may help, after so long if the collector says.
    Later(String, Option<Duration>),
    /// It would not.
    Never(String),
}

impl Exporter {
    /// Starts sending, and gives what makes the spans, for a subscriber with [`Spans::filter`]. `clock` tells nanoseconds since 1970.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub fn start(settings: Settings, clock: fn() -> u64) -> io::Result<(Self, Spans)> {
        let mut tls =
            ClientConfig::clone(&*tls::client_config(settings.certificates.as_deref()).map_err(io::Error::other)?);
        // hyper-rustls wants to say itself what is offered: with http/1.1 alone, nothing.
        tls.alpn_protocols.clear();
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        plain.set_connect_timeout(Some(settings.timeout));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(plain);
        let mut builder = Client::builder(TokioExecutor::new());
        let http = builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .build(connector);
        let (queue, spans) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let layer = Spans::new(queue, Arc::clone(&dropped), clock, settings.threshold);
        let (stop, stopping) = watch::channel(false);
        let sending = Sending { settings, http, dropped, lost: 0, said: None };
        let task = tokio::spawn(sending.run(spans, stopping));
        Ok((Self { stop, task }, layer))
    }

    /// Sends what waits, and stops: at most for so long.
    pub async fn stop(self, patience: Duration) {
        let _ = self.stop.send(true);
        let _ = timeout(patience, self.task).await;
    }
}

impl Sending {
    async fn run(mut self, mut spans: mpsc::Receiver<Span>, mut stopping: watch::Receiver<bool>) {
        loop {
            let mut batch = Vec::new();
            let first = tokio::select! {
                span = spans.recv() => span,
                _ = stopping.wait_for(|stop| *stop) => None,
            };
            let is_last = first.is_none();
            if let Some(first) = first {
                batch.push(first);
                gather(&mut batch, &mut spans, &mut stopping).await;
            } else {
                // Nobody is waited for any more.
                while let Ok(span) = spans.try_recv() {
                    batch.push(span);
                }
            }
            for part in batch.chunks(BATCH_MAX) {
                self.send(part).await;
            }
            self.count_dropped();
            if is_last {
                return;
            }
        }
    }

    /// Sends some spans, and tries again where that may help.
    async fn send(&mut self, spans: &[Span]) {
        let body = Bytes::from(encode::request(&self.settings.resource, spans));
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS_MAX {
            let (what, after) = match self.post(body.clone()).await {
                Ok(()) => return,
                Err(Failure::Later(what, after)) if attempt < ATTEMPTS_MAX => (what, after),
                Err(Failure::Later(what, _) | Failure::Never(what)) => {
                    self.lost += spans.len() as u64;
                    self.say(&what);
                    return;
                }
            };
            tracing::debug!(%what, "traces are sent again");
            sleep(after.unwrap_or(pause).min(PAUSE_MAX)).await;
            pause *= 2;
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), Failure> {
        let mut request = Request::post(self.settings.endpoint.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, concat!("inborn/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| Failure::Never(error.to_string()))?;
        let answer = timeout(self.settings.timeout, self.http.request(request)).await;
        let response = answer
            .map_err(|_| Failure::Later("it does not answer".to_owned(), None))?
            .map_err(|error| Failure::Later(innermost(&error), None))?;
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|text| text.to_str().ok()?.parse().ok());
        match status {
            _ if status.is_success() => Ok(()),
            // Source: OTLP 1.7, *Retryable Response Codes*.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                Err(Failure::Later(format!("it answers {status}"), after.map(Duration::from_secs)))
            }
            _ => Err(Failure::Never(format!("it answers {status}"))),
        }
    }

    fn count_dropped(&mut self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.lost += dropped;
            self.say("more come than it takes");
        }
    }

    /// Says how many were lost, now and then.
    fn say(&mut self, why: &str) {
        if self.said.is_none_or(|said| said.elapsed() >= SAYING) {
            let (host, spans) = (self.settings.endpoint.host().unwrap_or_default(), self.lost);
            tracing::warn!(host, spans, why, "spans of traces are lost");
            (self.lost, self.said) = (0, Some(Instant::now()));
        }
    }
}

/// What else ends soon.
async fn gather(batch: &mut Vec<Span>, spans: &mut mpsc::Receiver<Span>, stopping: &mut watch::Receiver<bool>) {
    let until = Instant::now() + DELAY;
    while batch.len() < BATCH_MAX {
        tokio::select! {
            next = timeout_at(until, spans.recv()) => match next {
                Ok(Some(span)) => batch.push(span),
                _ => return,
            },
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

fn innermost(error: &(dyn core::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
