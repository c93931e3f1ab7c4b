//! Where connections come from that a balancer relays: what it says in a header before them, if it is one that is believed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::proxy_header::{Progress, Refusal, SIGNATURE, parse};

/// How long a header may take. Balancers send it at once, some with the first bytes of the client.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often at most it is said for one reason that connections are refused.
const SAYING: Duration = Duration::from_secs(60);

/// How it is known where a connection comes from.
#[derive(Clone, Debug)]
pub enum Sources {
    /// From the address at its other end, always.
    Connections,
    /// The same, unless that is a balancer's: then from where its header says, which has to be there.
    Behind(Arc<Balancers>),
    /// The same, but balancers may do without. For what answers everybody alike: they look there how a server is, some with a
    /// header (AWS's), some without (HAProxy, where that is another port).
    PerhapsBehind(Arc<Balancers>),
}

/// The balancers that are believed, and what they did wrong.
pub struct Balancers {
    networks: Vec<IpNet>,
    header_timeout: Duration,
    refused: Box<dyn Fn(Refusal) + Send + Sync>,
    said: Mutex<[Said; Refusal::ALL.len()]>,
}

/// When something was said last, and what has happened since.
#[derive(Clone, Copy, Default)]
struct Said {
    at: Option<Instant>,
    more: u64,
}

/// Why there is no source.
#[derive(PartialEq, Eq, Debug)]
enum Lack {
    Refused(Refusal),
    /// The connection ended before a byte was said: somebody looks whether anybody listens.
    Nothing,
}

impl Sources {
    /// Where a connection comes from, whose other end is at `peer`. `None`: it is not served. Nothing that the client has sent
    /// is read.
    pub(crate) async fn source(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        let (balancers, is_needed) = match self {
            Self::Connections => return Some(peer),
            Self::Behind(balancers) => (balancers, true),
            Self::PerhapsBehind(balancers) => (balancers, false),
        };
        if !balancers.include(peer.ip()) {
            return Some(peer);
        }
        match tokio::time::timeout(balancers.header_timeout, source(stream, peer, is_needed)).await {
            Ok(Ok(source)) => Some(source),
            Ok(Err(Lack::Nothing)) => None,
            Ok(Err(Lack::Refused(refusal))) => {
                balancers.refuse(peer, refusal);
                None
            }
            Err(_) => {
                balancers.refuse(peer, Refusal::TooSlow);
                None
            }
        }
    }
}

impl Balancers {
    /// Those with an address in one of `networks`; `refused` is told of each connection that is not served.
    pub fn new(networks: Vec<IpNet>, refused: impl Fn(Refusal) + Send + Sync + 'static) -> Self {
        Self { networks, header_timeout: HEADER_TIMEOUT, refused: Box::new(refused), said: Mutex::default() }
    }

    fn include(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(&peer))
    }

    fn refuse(&self, peer: SocketAddr, refusal: Refusal) {
        (self.refused)(refusal);
        if let Some(more) = self.is_to_be_said(refusal) {
            tracing::warn!(
                balancer = %peer.ip(), reason = refusal.as_str(), more,
                "a connection of a balancer is refused: {}", refusal.advice()
            );
        }
    }

    /// Whether it is time to say this again, and how often it has happened beside since it was said.
    fn is_to_be_said(&self, refusal: Refusal) -> Option<u64> {
        let now = Instant::now();
        let mut all = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = all.get_mut(refusal as usize)?;
        if said.at.is_some_and(|at| now.duration_since(at) < SAYING) {
            said.more += 1;
            return None;
        }
        let more = said.more;
        *said = Said { at: Some(now), more: 0 };
        Some(more)
    }
}

impl fmt::Debug for Balancers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancers").field("networks", &self.networks).finish_non_exhaustive()
    }
}

/// What the balancer at `peer` says of the source. Where a header is not needed its first byte tells whether it is there, which no
/// request begins with.
async fn source(stream: &mut TcpStream, peer: SocketAddr, is_needed: bool) -> Result<SocketAddr, Lack> {
    if !is_needed {
        let mut first = [0];
        let is_there = stream.peek(&mut first).await.map_err(|_| Lack::Nothing)? > 0;
        if !is_there || !SIGNATURE.starts_with(&first) {
            return Ok(peer);
        }
    }
    match read_header(stream).await? {
        None => Ok(peer),
        // A loopback address is of the computer that says it. To us it would be of this one.
        Some(source) if source.ip().is_loopback() && !peer.ip().to_canonical().is_loopback() => {
            Err(Lack::Refused(Refusal::NoClient))
        }
        Some(source) => Ok(source),
    }
}

/// Reads a header, and not a byte more.
async fn read_header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Lack> {
    let mut bytes = Vec::new();
    loop {
        let wanted = match parse(&bytes).map_err(Lack::Refused)? {
            Progress::Whole(header) => return Ok(header.source),
            Progress::Wants(wanted) => wanted,
        };
        match (&mut *stream).take(wanted as u64).read_buf(&mut bytes).await {
            Ok(0) | Err(_) if bytes.is_empty() => return Err(Lack::Nothing),
            Ok(0) | Err(_) => return Err(Lack::Refused(Refusal::CutShort)),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
