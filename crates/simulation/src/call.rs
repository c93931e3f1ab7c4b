//! A signed call over a connection that exists in memory only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inborn_credential::Credential;
use inborn_fleet::JOIN;
use inborn_identity::UnixTime;
use inborn_listener::{Peer, TlsFacts};
use inborn_region::{HostsEndpoint, OperatorKey, RegionServer, RequestOrigin};
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Header, PathMode, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const PIPE_BYTES: usize = 64 * 1024;
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
pub(crate) const REGION: &str = "eu-central-1";

/// Who signs.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) access_key_id: String,
    secret: String,
    token: Option<String>,
    /// Which epoch has sealed the token; of a signer without one nothing.
    pub(crate) epoch: u32,
}

/// The number of the epoch as a token has it in clear: behind three bytes that say what it is.
fn epoch_of(token: &str) -> u32 {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&token[..12]).unwrap();
    u32::from_be_bytes(*bytes[3..].first_chunk().unwrap())
}

impl From<&Credential> for Signer {
    fn from(credential: &Credential) -> Self {
        Self {
            epoch: epoch_of(credential.session_token.expose()),
            access_key_id: credential.access_key_id.to_string(),
            secret: credential.secret_access_key.expose().to_owned(),
            token: Some(credential.session_token.expose().to_owned()),
        }
    }
}

impl From<&OperatorKey> for Signer {
    fn from(key: &OperatorKey) -> Self {
        Self::of_operator(key.access_key_id.clone(), key.secret.expose().to_owned())
    }
}

impl Signer {
    /// Who has a key that lasts.
    pub(crate) const fn of_operator(access_key_id: String, secret: String) -> Self {
        Self { access_key_id, secret, token: None, epoch: 0 }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Reply {
    /// What stands between a tag and its end, each time.
    pub(crate) fn all(&self, tag: &str) -> impl Iterator<Item = &str> {
        let (start, end) = (format!("<{tag}>"), format!("</{tag}>"));
        let parts: Vec<&str> = self.body.split(start.as_str()).skip(1).collect();
        parts.into_iter().filter_map(move |part| Some(part.split_once(end.as_str())?.0))
    }

    /// The code of the error, or nothing.
    pub(crate) fn code(&self) -> &str {
        self.all("Code").next().unwrap_or_default()
    }
}

/// Asks, and waits for the answer.
pub(crate) async fn call(
    region: &Arc<RegionServer>,
    service: &str,
    body: &str,
    signer: &Signer,
    now: UnixTime,
) -> Option<Reply> {
    let request = signed(service, body, signer, now);
    let region = Arc::clone(region);
    let peer = Arc::new(Peer { address: ADDRESS, tls: None });
    let respond = move |request| {
        let origin = RequestOrigin { peer: Arc::clone(&peer), machine: None };
        Arc::clone(&region).handle(request, origin)
    };
    let (head, body) = exchange(request.as_bytes(), respond).await?;
    Some(Reply { status: status_of(&head)?, body: String::from_utf8(body).ok()? })
}

/// Joins at the endpoint for hosts, where all is well; gives the body of the answer.
pub(crate) async fn join_host(endpoint: &Arc<HostsEndpoint>, body: Vec<u8>) -> Vec<u8> {
    let head =
        format!("POST {JOIN} HTTP/1.1\r\nhost: hosts\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let endpoint = Arc::clone(endpoint);
    let peer = Arc::new(Peer { address: ADDRESS, tls: None });
    let respond = move |request| Arc::clone(&endpoint).respond(request, Arc::clone(&peer));
    let (head, body) = exchange(&[head.as_bytes(), &body].concat(), respond).await.unwrap();
    assert_eq!(status_of(&head), Some(200));
    body
}

fn status_of(head: &str) -> Option<u16> {
    head.split(' ').nth(1)?.parse().ok()
}

/// Head and body of the one answer over a connection of its own.
async fn exchange<F>(
    request: &[u8],
    respond: impl Fn(hyper::Request<Incoming>) -> F + Send + 'static,
) -> Option<(String, Vec<u8>)>
where
    F: Future<Output = hyper::Response<Full<Bytes>>> + Send + 'static,
{
    let (mut client, server) = tokio::io::duplex(PIPE_BYTES);
    serve(server, respond);
    client.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.ok()?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let body = answer.split_off(end + 4);
    Some((String::from_utf8(answer).ok()?, body))
}

/// Answers whatever comes over a connection.
fn serve<F>(connection: DuplexStream, respond: impl Fn(hyper::Request<Incoming>) -> F + Send + 'static)
where
    F: Future<Output = hyper::Response<Full<Bytes>>> + Send + 'static,
{
    let respond = service_fn(move |request| {
        let answer = respond(request);
        async move { Ok::<_, core::convert::Infallible>(answer.await) }
    });
    tokio::spawn(async move {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), respond).await;
    });
}

/// Answers a host for as long as it keeps its connection.
pub(crate) fn serve_host(endpoint: &Arc<HostsEndpoint>, tls: TlsFacts, connection: DuplexStream) {
    let (endpoint, peer) = (Arc::clone(endpoint), Arc::new(Peer { address: ADDRESS, tls: Some(tls) }));
    serve(connection, move |request| Arc::clone(&endpoint).respond(request, Arc::clone(&peer)));
}

fn signed(service: &str, body: &str, signer: &Signer, now: UnixTime) -> String {
    let host = format!("{service}.{REGION}.amazonaws.com");
    let headers = [("host", host.as_str()), ("content-type", FORM)];
    let fields = headers.map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() });
    let unsigned = Request { method: "POST", path: b"/", query: b"", headers: &fields };
    let credentials = Credentials {
        access_key_id: &signer.access_key_id,
        secret_access_key: signer.secret.as_bytes(),
        session_token: signer.token.as_deref(),
    };
    let target = Target { region: REGION, service, path_mode: PathMode::Normalized };
    let added = sign(&unsigned, body.as_bytes(), &credentials, &target, now).unwrap();
    let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let lines: String = lines.chain(added.iter().map(|(name, value)| format!("{name}: {value}\r\n"))).collect();
    format!("POST / HTTP/1.1\r\n{lines}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}
