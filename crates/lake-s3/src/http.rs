//! The HTTP that `object_store` speaks: hyper's pool of connections over our TLS, with limits, without proxies or redirects.

use core::time::Duration;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector as Connect, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use rustls::ClientConfig;

/// How long a connection may take to come about, without TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may take, from the connection to the last byte of its answer: a part of a file within it is 70 KB/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest answer that is read: more than the longest piece of a file that is asked for.
const ANSWER_BYTES_MAX: usize = 72 << 20;

/// How long a connection is kept that nobody uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// As many as there are questions at the same time, and a delivery.
const IDLE_CONNECTIONS_MAX: usize = 5;

/// Makes clients. Without a TLS configuration they speak `http://` alone.
#[derive(Debug)]
pub(crate) struct Connector {
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) const fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self { tls }
    }
}

impl Connect for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut plain = HttpConnector::new();
        plain.set_connect_timeout(Some(CONNECT_TIMEOUT));
        plain.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new());
        builder.pool_idle_timeout(IDLE_TIMEOUT).pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
        let Some(tls) = &self.tls else { return Ok(HttpClient::new(Service(builder.build(plain)))) };
        plain.enforce_http(false);
        let mut tls = ClientConfig::clone(tls);
        // hyper-rustls wants to say itself what is offered: with http/1.1 alone, nothing.
        tls.alpn_protocols.clear();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(plain);
        Ok(HttpClient::new(Service(builder.build::<HttpsConnector<HttpConnector>, HttpRequestBody>(connector))))
    }
}

/// A client of one kind of connection.
#[derive(Debug)]
struct Service<C>(Client<C, HttpRequestBody>);

#[async_trait::async_trait]
impl<C> HttpService for Service<C>
where
    C: hyper_util::client::legacy::connect::Connect + Clone + core::fmt::Debug + Send + Sync + 'static,
{
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let exchange = async {
            let response = self.0.request(request).await.map_err(not_asked)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(broken_off)?;
            let body = Full::new(body.to_bytes()).map_err(|never| match never {});
            Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
        };
        tokio::time::timeout(REQUEST_TIMEOUT, exchange).await.map_err(|_| {
            let seconds = REQUEST_TIMEOUT.as_secs();
            failed(HttpErrorKind::Timeout, format!("it did not answer within {seconds} seconds"))
        })?
    }
}

/// No answer has begun.
fn not_asked(error: hyper_util::client::legacy::Error) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
    let what = if error.is_connect() { "it cannot be connected to" } else { "it broke off" };
    failed(kind, format!("{what}: {}", innermost(&error)))
}

/// An answer has not ended.
fn broken_off(error: Box<dyn core::error::Error + Send + Sync>) -> HttpError {
    if error.is::<LengthLimitError>() {
        return failed(HttpErrorKind::Decode, format!("it answered more than {ANSWER_BYTES_MAX} bytes"));
    }
    failed(HttpErrorKind::Interrupted, format!("it broke off: {}", innermost(&*error)))
}

fn innermost(error: &(dyn core::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn failed(kind: HttpErrorKind, text: String) -> HttpError {
    HttpError::new(kind, std::io::Error::other(text))
}
