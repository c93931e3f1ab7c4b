//! Questions over TLS.

use core::fmt;
use core::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use inborn_fleet::{JOIN, Join, Joined};
use inborn_pki::tls::hosts_endpoint_name;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::ask::{self, Answer, Ask, Failure};
use crate::lanes::{Connection, Lanes, unreachable};

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

/// Asks region servers. What it trusts and who it is are in its TLS configuration.
pub struct Client {
    tls: RwLock<Tls>,
    lanes: Lanes,
}

/// As whom connections are made: with each configuration as somebody else.
#[derive(Clone)]
struct Tls {
    known_as: u64,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client with this configuration: see [`inborn_pki::tls::host_client_config`].
    #[must_use]
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self { tls: RwLock::new(Tls { known_as: 0, config }), lanes: Lanes::default() }
    }

    /// With another certificate from the next connection on.
    pub fn become_known_as(&self, config: Arc<ClientConfig>) {
        let mut tls = self.tls.write().unwrap_or_else(PoisonError::into_inner);
        *tls = Tls { known_as: tls.known_as.wrapping_add(1), config };
    }

    fn tls(&self) -> Tls {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the server at `address`; `connected` is called once it is found to be the region.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ask(&self, address: &Address, ask: &Ask, connected: impl Fn()) -> Result<Answer, Failure> {
        let Tls { known_as, config } = self.tls();
        self.lanes.ask(address, ask, known_as, connect(address, config), connected).await
    }

    /// Joins by the server at `address`.
    ///
    /// # Errors
    /// See [`Failure`]. Where the answer did not come, the token may be used up.
    pub async fn join(&self, address: &Address, join: &Join) -> Result<Joined, Failure> {
        let body = serde_json::to_vec(join).unwrap_or_default();
        let Tls { known_as, config } = self.tls();
        let mut connection = Connection::open(address, known_as, connect(address, config)).await?;
        let reply = connection.exchange(JOIN, body, JOIN_PATIENCE).await?;
        if reply.status != 200 {
            return Err(ask::refusal(reply.status, reply.retry_after, &reply.body));
        }
        ask::read(&reply.body)
    }
}

/// A stream to whoever at `address` shows that it is the region.
async fn connect(address: &Address, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, Failure> {
    let stream = TcpStream::connect((address.host.as_str(), address.port));
    let stream = stream.await.map_err(|error| unreachable(address, error))?;
    // Questions are short: what is written is sent.
    let _ = stream.set_nodelay(true);
    let name = hosts_endpoint_name().map_err(|error| unreachable(address, error))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        unreachable(address, format!("{error} (is this the port for hosts of the region that gave the token?)"))
    })
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
