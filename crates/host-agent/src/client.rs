//! Questions over TLS: one connection for each lane, kept while it lasts.

use core::fmt;
use core::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use inborn_fleet::{ANSWER_BYTES_MAX, JOIN, Join, Joined};
use inborn_pki::tls::hosts_endpoint_name;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use crate::ask::{self, Answer, Ask, Failure, Lane};

/// How long a connection may take, its handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is used again after its last answer: less than the region keeps an idle one.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// How long the answer to a join may take: the region writes to its store.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);
/// Addresses of one region.
pub const ADDRESSES_MAX: usize = 32;

/// Where a region server listens to hosts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    host: String,
    port: u16,
}

/// A text that is no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an address is HOST:PORT, as in region.example:4544 or [fd00::1]:4544")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(AddressError)?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
            None => Some(host).filter(|host| !host.contains(':')),
        };
        let bare = bare.filter(|host| (1..=253).contains(&host.len())).ok_or(AddressError)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
        if !bare.bytes().all(is_plain) {
            return Err(AddressError);
        }
        Ok(Self { host: bare.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    address: Address,
    /// What it was made with: after a renewal it is another.
    tls: Arc<ClientConfig>,
    driver: JoinHandle<()>,
    used: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Asks region servers. What it trusts and who it is are in its TLS configuration.
pub struct Client {
    tls: RwLock<Arc<ClientConfig>>,
    watch: Mutex<Option<Connection>>,
    work: Mutex<Option<Connection>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// What came over the wire.
struct Reply {
    status: u16,
    retry_after: Option<u64>,
    body: Bytes,
}

impl Client {
    /// A client with this configuration: see [`inborn_pki::tls::host_client_config`].
    #[must_use]
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls: RwLock::new(tls), watch: Mutex::default(), work: Mutex::default() }
    }

    /// With another certificate from the next connection on.
    pub fn become_known_as(&self, tls: Arc<ClientConfig>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the server at `address`; `connected` is called once it is found to be the region.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ask(&self, address: &Address, ask: &Ask, connected: impl Fn()) -> Result<Answer, Failure> {
        let lane = match ask.lane() {
            Lane::Watch => &self.watch,
            Lane::Work => &self.work,
        };
        let mut lane = lane.lock().await;
        let tls = self.tls();
        let is_good = |kept: &Connection| {
            let is_the_same = kept.address == *address && Arc::ptr_eq(&kept.tls, &tls);
            is_the_same && kept.used.elapsed() < IDLE_MAX && !kept.sender.is_closed()
        };
        // One that breaks is not made anew here: where a server goes away, every host finds that at the same moment.
        let mut connection = match lane.take().filter(is_good) {
            Some(kept) => kept,
            None => {
                let fresh = self.connect(address).await?;
                connected();
                fresh
            }
        };
        let reply = exchange(&mut connection.sender, address, ask.path(), ask.body(), ask.patience()).await?;
        connection.used = Instant::now();
        *lane = Some(connection);
        ask::decode(ask, reply.status, reply.retry_after, &reply.body)
    }

    /// Joins by the server at `address`.
    ///
    /// # Errors
    /// See [`Failure`]. Where the answer did not come, the token may be used up.
    pub async fn join(&self, address: &Address, join: &Join) -> Result<Joined, Failure> {
        let body = serde_json::to_vec(join).unwrap_or_default();
        let mut connection = self.connect(address).await?;
        let reply = exchange(&mut connection.sender, address, JOIN, body, JOIN_PATIENCE).await?;
        if reply.status != 200 {
            return Err(ask::refusal(reply.status, reply.retry_after, &reply.body));
        }
        ask::read(&reply.body)
    }

    async fn connect(&self, address: &Address) -> Result<Connection, Failure> {
        let tls = self.tls();
        let unreachable = |what: String| Failure::Unreachable(format!("{address}: {what}"));
        let connecting = async {
            let stream = TcpStream::connect((address.host.as_str(), address.port))
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            // Questions are short: what is written is sent.
            let _ = stream.set_nodelay(true);
            let name = hosts_endpoint_name().map_err(|error| unreachable(error.to_string()))?;
            let stream = TlsConnector::from(Arc::clone(&tls)).connect(name, stream).await.map_err(|error| {
                unreachable(format!("{error} (is this the port for hosts of the region that gave the token?)"))
            })?;
            let (sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.to_string()))?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            Ok(Connection { sender, address: address.clone(), tls, driver, used: Instant::now() })
        };
        timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| unreachable("no connection in time".to_owned()))?
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    address: &Address,
    path: &str,
    body: Vec<u8>,
    patience: Duration,
) -> Result<Reply, Failure> {
    let unreachable = |what: String| Failure::Unreachable(format!("{address}: {what}"));
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, inborn_pki::HOSTS_ENDPOINT_NAME)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| unreachable(error.to_string()))?;
    let exchanging = async {
        sender.ready().await.map_err(|error| unreachable(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))?;
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| unreachable(format!("the answer was not read: {error}")))?.to_bytes();
        Ok(Reply { status: head.status.as_u16(), retry_after, body })
    };
    timeout(patience, exchanging).await.map_err(|_| unreachable("no answer in time".to_owned()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in ["region.example:4544", "10.0.0.1:1", "[fd00::1]:65535", "localhost:4544"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in
            ["", "region.example", "region.example:0", ":1", "a b:1", "fd00::1:4544", "[x]:1", "a:65536", "a/b:1"]
        {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }
}
