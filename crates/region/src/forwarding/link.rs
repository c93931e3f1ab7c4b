//! One request to another server: a connection, an answer, and where that is a WebSocket, bytes both ways.

use core::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use inborn_identity::AccountId;
use inborn_listener::Peer;
use inborn_pki::tls;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::{Other, seal};
use crate::RegionServer;

/// How long a server may take to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it may take to answer what it has to think about.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest answer. Source: none here comes near; a page of sessions is 200 kB at most.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long a client may take to go on over the connection that it asked to become a WebSocket.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the second of the two ends may take after the first.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked at whether the other server still lives.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The other server was not reached, or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreachable(String);

/// What the other server has answered.
pub(super) enum Answered {
    /// An answer like any other.
    Whole(Response<Full<Bytes>>),
    /// The connection becomes a WebSocket.
    Switched(Response<Full<Bytes>>, OnUpgrade),
}

fn unreachable(error: impl core::fmt::Display) -> Unreachable {
    Unreachable(error.to_string())
}

/// A connection to another server, which shows a certificate of the deployment where it is reached by TLS.
async fn connect(region: &RegionServer, address: &Address) -> Result<SendRequest<Full<Bytes>>, Unreachable> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(unreachable)?;
    let _ = stream.set_nodelay(true);
    if !address.is_tls {
        return speak(stream).await;
    }
    let config = tls::client_of(region.authority()).map_err(unreachable)?;
    // By its services' name, whatever its address: the authority speaks for no addresses.
    let identity = region.identity();
    let name = format!("ssm.{}.{}", identity.region, identity.domain).try_into().map_err(unreachable)?;
    speak(TlsConnector::from(config).connect(name, stream).await.map_err(unreachable)?).await
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Unreachable>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
    // Ends with the sender, or with the WebSocket that it becomes.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

/// Sends a request on as it came from `peer`, and gives what is answered.
pub(super) async fn send(
    region: &RegionServer,
    other: &Other,
    parts: &Parts,
    body: Bytes,
    (peer, whose): (&Peer, Option<AccountId>),
) -> Result<Answered, Unreachable> {
    let address: Address = other.address.parse().map_err(unreachable)?;
    // What the database says of a server is no reason to speak in the clear.
    if !address.is_tls && region.fleet().is_some_and(|fleet| fleet.own_address().starts_with("https://")) {
        return Err(unreachable("it is reached by plain http://, and this server by https://: give both the same"));
    }
    let mut sender = timeout(CONNECT_TIMEOUT, connect(region, &address))
        .await
        .map_err(|_| unreachable("no connection in time"))??;
    let name = region.identity().region.as_str();
    let sealed = seal::seal(region.epochs().kek(), name, other.node, parts, (peer, whose), region.now());
    let sealed = sealed.ok_or_else(|| unreachable("nothing can be sealed"))?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = target.parse().map_err(unreachable)?;
    *request.headers_mut() = parts.headers.clone();
    // The body is here.
    request.headers_mut().remove(EXPECT);
    request.headers_mut().insert(seal::HEADER, sealed);
    let answer = async {
        let mut response = sender.send_request(request).await.map_err(unreachable)?;
        // Another program is there by now.
        if response.status() == StatusCode::MISDIRECTED_REQUEST {
            return Err(unreachable("the server that is there is not the one that was meant"));
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade = hyper::upgrade::on(&mut response);
            return Ok(Answered::Switched(response.map(|_| Full::default()), upgrade));
        }
        whole(response).await.map(Answered::Whole)
    };
    timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| unreachable("no answer in time"))?
}

async fn whole(response: Response<Incoming>) -> Result<Response<Full<Bytes>>, Unreachable> {
    let (mut head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(unreachable)?.to_bytes();
    // These were between the two servers.
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    Ok(Response::from_parts(head, Full::new(body)))
}

/// Asks another server something of our own; `None` if it is not reached or says no.
pub(super) async fn ask(region: &RegionServer, other: &Other, path: &str) -> Option<Bytes> {
    let request = Request::builder().method(Method::GET).uri(path).header("host", "sibling").body(()).ok()?;
    let peer = Peer { address: ([0, 0, 0, 0], 0).into(), tls: None };
    let answered = send(region, other, &request.into_parts().0, Bytes::new(), (&peer, None)).await;
    match answered {
        Ok(Answered::Whole(response)) if response.status() == StatusCode::OK => {
            Some(response.into_body().collect().await.unwrap_or_default().to_bytes())
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(server = %other.name, address = %other.address, %error, "another server is not reached");
            None
        }
    }
}

/// Carries bytes both ways, for as long as both ends are there and the other server beats. What they say is theirs.
pub(super) async fn carry(region: Arc<RegionServer>, other: Other, client: OnUpgrade, server: OnUpgrade) {
    let both = async { tokio::try_join!(client, server) };
    let Ok(Ok((client, server))) = timeout(UPGRADE_TIMEOUT, both).await else { return };
    let (client, server) = (TokioIo::new(client), TokioIo::new(server));
    let gone = async {
        while region.fleet().is_some_and(|fleet| fleet.is_alive(other.node)) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let up = async {
        let _ = copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let down = async {
        let _ = copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    let (mut up, mut down) = (pin!(up), pin!(down));
    // Whoever ends first says farewell by that; the other one has a moment to say it too.
    tokio::select! {
        () = &mut up => drop(timeout(FAREWELL_TIMEOUT, down).await),
        () = &mut down => drop(timeout(FAREWELL_TIMEOUT, up).await),
        () = gone => {}
    }
}
