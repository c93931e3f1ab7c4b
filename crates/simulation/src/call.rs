//! A signed call over a connection that exists in memory only.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inborn_credential::Credential;
use inborn_identity::UnixTime;
use inborn_listener::Peer;
use inborn_region::{OperatorKey, RegionServer, RequestOrigin};
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Header, PathMode, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const PIPE_BYTES: usize = 64 * 1024;
pub(crate) const REGION: &str = "eu-central-1";

/// Who signs.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) access_key_id: String,
    secret: String,
    token: Option<String>,
}

impl From<&Credential> for Signer {
    fn from(credential: &Credential) -> Self {
        Self {
            access_key_id: credential.access_key_id.to_string(),
            secret: credential.secret_access_key.expose().to_owned(),
            token: Some(credential.session_token.expose().to_owned()),
        }
    }
}

impl From<&OperatorKey> for Signer {
    fn from(key: &OperatorKey) -> Self {
        Self { access_key_id: key.access_key_id.clone(), secret: key.secret.expose().to_owned(), token: None }
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
    let (mut client, server) = tokio::io::duplex(PIPE_BYTES);
    let region = Arc::clone(region);
    let peer = Arc::new(Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)), tls: None });
    let respond = service_fn(move |request| {
        let (region, peer) = (Arc::clone(&region), Arc::clone(&peer));
        async move {
            Ok::<_, core::convert::Infallible>(region.handle(request, RequestOrigin { peer, machine: None }).await)
        }
    });
    tokio::spawn(async move {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), respond).await;
    });
    client.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some(Reply { status: head.split(' ').nth(1)?.parse().ok()?, body: body.to_owned() })
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
