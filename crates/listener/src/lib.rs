//! Accept loops with limits: what the region's endpoints and the metadata service both stand on.
//!
//! One loop per listening socket, http/1.1 only, each limit a field of [`Limits`]. The crate knows nothing of what is
//! served: it hands a request and its [`Peer`] to a function and writes what that answers.
#![forbid(unsafe_code)]

mod balancers;
mod body;
pub mod proxy_header;
mod tls;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use balancers::{Balancers, Sources};
pub use body::{BodyError, discard_body, read_body};
pub use tls::TlsFacts;

/// What one listening socket lets its clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections open at a time; a further one is closed at once.
    pub connections_max: usize,
    /// Header fields in a request; more is 431.
    pub header_count_max: usize,
    /// Bytes of request line and header fields; more is 431. hyper takes no value below 8192.
    pub head_bytes_max: usize,
    /// How long a client may take to send a request's head, also the first byte of the next one on an idle connection.
    pub head_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long what was sent may wait for the client to take it; whole milliseconds.
    pub write_timeout: Duration,
    /// How long connections may go on after a stop was asked for: idle ones end at once, others with their answer.
    pub stop_grace: Duration,
}

impl Limits {
    /// Limits that no honest client of these services meets.
    pub const DEFAULT: Limits = Limits {
        connections_max: 10_000,
        header_count_max: 100,
        head_bytes_max: 32 * 1024,
        head_timeout: Duration::from_secs(20),
        handshake_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(20),
        stop_grace: Duration::from_millis(300),
    };
}

/// How long to wait when the process is out of file descriptors.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its address; behind a balancer that is believed, the one that this says.
    pub address: SocketAddr,
    /// What was negotiated, if the connection is encrypted.
    pub tls: Option<TlsFacts>,
}

/// Serves `listener` until `stop` turns true (or its sender is gone): takes connections, over TLS if `tls` is given, and
/// has `respond` answer each request. Returns when all its connections have ended, at the latest when their grace after
/// the stop is over.
pub async fn serve<R, F>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    limits: Limits,
    stop: watch::Receiver<bool>,
    respond: R,
) where
    R: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    serve_from(Sources::Connections, listener, tls, limits, stop, respond).await;
}

/// As [`serve`], where `sources` says how it is known who is at the other end.
pub async fn serve_from<R, F>(
    sources: Sources,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
    respond: R,
) where
    R: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                back_off(&error).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(limit = limits.connections_max, "connection refused: too many are open");
            continue;
        };
        let connection = Connection { stream, address, sources: sources.clone(), limits, stop: stop.clone(), place };
        tokio::spawn(connection.serve(tls.clone(), respond.clone()));
    }
    drop(listener);
    let all = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(limits.stop_grace, places.acquire_many(all)).await;
}

/// Waits until `stop` turns true, or its sender is gone, and with it whoever wanted this loop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits after an error of accept(2). It is the connection's own, except when the process or the machine is out of
/// something: then trying again at once would only burn the processor.
pub async fn back_off(error: &io::Error) {
    let connections_own = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    );
    if !connections_own {
        tracing::warn!(%error, "cannot accept connections for now");
        tokio::time::sleep(ACCEPT_BACK_OFF).await;
    }
}

struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    sources: Sources,
    limits: Limits,
    stop: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve<R, F>(self, tls: Option<Arc<rustls::ServerConfig>>, respond: R)
    where
        R: Fn(Request<Incoming>, Arc<Peer>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let Self { mut stream, address, sources, limits, stop, place } = self;
        // Answers are one write each: waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        // A client that asks and asks and never reads would keep its connection for ever. The kernel counts, so it costs
        // nothing here.
        let patience = u32::try_from(limits.write_timeout.as_millis()).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, patience);
        // Before TLS, which the balancer has no part in.
        let Some(address) = sources.source(&mut stream, address).await else { return };
        match tls {
            None => converse(stream, Peer { address, tls: None }, limits, stop, respond).await,
            Some(config) => {
                let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
                match tokio::time::timeout(limits.handshake_timeout, handshake).await {
                    Ok(Ok(stream)) => {
                        let facts = TlsFacts::of(stream.get_ref().1);
                        converse(stream, Peer { address, tls: Some(facts) }, limits, stop, respond).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
                }
            }
        }
        drop(place);
    }
}

/// Answers what one client asks, telling it by its address.
async fn converse<S, R, F>(stream: S, peer: Peer, limits: Limits, stop: watch::Receiver<bool>, respond: R)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    R: Fn(Request<Incoming>, Arc<Peer>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let peer = Arc::new(peer);
    let address = peer.address;
    let respond = move |request| {
        let answer = respond(request, Arc::clone(&peer));
        async move { Ok::<_, Infallible>(answer.await) }
    };
    if let Err(error) = exchange(stream, &limits, HeaderNames::LowerCase, stop, respond).await {
        tracing::debug!(%address, %error, "connection ended");
    }
}

/// How the names of an answer's header fields are written. To HTTP they are the same, to some clients they are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderNames {
    /// As in `content-type`.
    LowerCase,
    /// As in `Content-Type`.
    TitleCase,
}

/// Carries requests and answers over one connection until it ends, or until `stop` turns true and what was asked before is
/// answered. Of the limits it keeps those of a request's head.
///
/// # Errors
/// The connection broke, its client broke HTTP, or `respond` had an error: that closes it without an answer.
pub async fn exchange<S, R, F, E>(
    stream: S,
    limits: &Limits,
    names: HeaderNames,
    mut stop: watch::Receiver<bool>,
    respond: R,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    R: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(limits.header_count_max)
        .max_buf_size(limits.head_bytes_max)
        .title_case_headers(names == HeaderNames::TitleCase)
        // A client that has said all it will say may still be listening.
        .half_close(true)
        // The answers carry a date of the same clock that signatures are checked against.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service_fn(respond))
        // A connection that becomes a WebSocket is its service's from then on, with limits of its own.
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        biased;
        result = connection.as_mut() => result,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Lets the process have as many file descriptors as it may: one for each connection and each guest's listener.
/// The usual soft limit of 1024 is for programs that use `select`.
pub use fd_limit::raise as raise_file_descriptor_limit;

mod fd_limit {
    /// Raises the soft limit to the hard one; returns what it is then, if it can be known.
    pub fn raise() -> Option<u64> {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
        getrlimit(Resource::Nofile).current
    }
}

#[cfg(test)]
mod tests;
