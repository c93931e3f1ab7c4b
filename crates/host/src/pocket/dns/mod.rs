//! The names that exist inside a pocket: the region's endpoints, and the metadata service; in a pocket with a network also
//! those of the world.
//!
//! A query is read by hand: it is a header and one question whose name is never compressed, its bytes are echoed as they
//! came (resolvers compare the letters' case), and a question of a type nobody here has heard of still gets an answer.

mod upstream;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use inborn_identity::Region;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use super::{ENDPOINTS_ADDRESS, METADATA_ADDRESS};

pub use upstream::{SERVERS_MAX, Upstream, WAITING_MAX};

/// Bytes of a query that is looked at; no honest one comes near (a name has at most 255).
pub const QUERY_BYTES_MAX: usize = 1024;
/// TCP connections answered at a time; further ones wait.
pub const TCP_CONNECTIONS_MAX: usize = 32;
/// Seconds that an answer may be kept. Nothing changes while a pocket lives.
pub const ANSWER_TTL_SECONDS: u32 = 60;
/// How long a TCP client may take between two queries.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait when a socket has failed for a reason that passes (no descriptors, no memory).
const BACK_OFF: Duration = Duration::from_millis(50);

const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;
const TYPE_A: u16 = 1;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const OPCODE_MASK: u16 = 0x7800;
const NO_ERROR: u16 = 0;
const FORMAT_ERROR: u16 = 1;
const SERVER_FAILURE: u16 = 2;
const NO_SUCH_NAME: u16 = 3;
const NOT_IMPLEMENTED: u16 = 4;

/// What a pocket's resolver knows.
#[derive(Clone, Debug)]
pub struct Zone {
    /// `.us-east-1.amazonaws.com`, one for each region, lower case.
    region_suffixes: Vec<String>,
    /// `.amazonaws.com`, lower case.
    domain_suffix: String,
}

/// The name of the metadata service in EC2's own resolver.
const METADATA_NAME: &str = "instance-data.ec2.internal";

impl Zone {
    /// The names of `region` under `domain`, for instance `us-east-1` under `amazonaws.com`.
    #[must_use]
    pub fn new(region: &Region, domain: &str) -> Self {
        Self::of_regions(core::slice::from_ref(region), domain)
    }

    /// The names of several regions under one domain.
    #[must_use]
    pub fn of_regions(regions: &[Region], domain: &str) -> Self {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        let region_suffixes = regions.iter().map(|region| format!(".{region}.{domain}")).collect();
        Self { region_suffixes, domain_suffix: format!(".{domain}") }
    }

    /// The address of `name` (lower case, no dot at the end): of the endpoints for every name below the `REGION.DOMAIN` of a
    /// region and for each name directly below `DOMAIN` (`sts.DOMAIN`, `iam.DOMAIN`, …), of the metadata service
    /// for `instance-data.ec2.internal`.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        if name == METADATA_NAME {
            return Some(METADATA_ADDRESS);
        }
        if name.contains(char::REPLACEMENT_CHARACTER) {
            return None;
        }
        let is_below = |suffix: &String| name.strip_suffix(suffix.as_str()).is_some_and(|host| !host.is_empty());
        let regional = self.region_suffixes.iter().any(is_below);
        let global = name
            .strip_suffix(self.domain_suffix.as_str())
            .is_some_and(|label| !label.is_empty() && !label.contains('.'));
        (regional || global).then_some(ENDPOINTS_ADDRESS)
    }

    /// Whether `name` is for this resolver alone to answer: everything at and below `DOMAIN`, also what does not exist here.
    /// A call meant for another region or a bucket must not leave with this machine's credentials for the AWS of the world.
    #[must_use]
    pub fn owns(&self, name: &str) -> bool {
        name == METADATA_NAME
            || name.ends_with(self.domain_suffix.as_str())
            || self.domain_suffix.strip_prefix('.') == Some(name)
    }
}

/// What the resolver of a pocket answers from.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// The names of the region.
    pub zone: Zone,
    /// Where all other names are asked, if the pocket has a network.
    pub upstream: Option<Upstream>,
}

impl Resolver {
    /// The answer to `query`; nothing if it deserves none.
    async fn resolve(&self, query: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        match &self.upstream {
            Some(upstream) if is_of_the_world(query, &self.zone) => match upstream.ask(query, by_tcp).await {
                Some(answer) => Some(answer),
                None => reply(query, read_question(query).as_ref(), SERVER_FAILURE, None),
            },
            _ => answer(query, &self.zone),
        }
    }
}

/// Whether `query` is a well-formed question for a name that is not the region's.
fn is_of_the_world(query: &[u8], zone: &Zone) -> bool {
    let plain = word(query, 2).is_some_and(|flags| flags & (FLAG_RESPONSE | OPCODE_MASK) == 0);
    let single = word(query, 4) == Some(1) && query.len() <= QUERY_BYTES_MAX;
    plain && single && read_question(query).is_some_and(|question| !zone.owns(&question.name))
}

/// One question, and where it ends in the query.
struct Question {
    name: String,
    kind: u16,
    class: u16,
    end: usize,
}

/// The answer to `query`; nothing if it deserves none (too short to have an id, or itself an answer).
///
/// A name that exists has an IPv4 address and nothing else: other types are an empty success. Any other name does not
/// exist (a refusal would make resolvers ask again). What cannot be read is a format error.
#[must_use]
pub fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let flags = word(query, 2)?;
    if query.len() < HEADER_BYTES || flags & FLAG_RESPONSE != 0 {
        return None;
    }
    if flags & OPCODE_MASK != 0 {
        return reply(query, None, NOT_IMPLEMENTED, None);
    }
    if word(query, 4) != Some(1) || query.len() > QUERY_BYTES_MAX {
        return reply(query, None, FORMAT_ERROR, None);
    }
    let Some(question) = read_question(query) else { return reply(query, None, FORMAT_ERROR, None) };
    let internet = matches!(question.class, CLASS_IN | CLASS_ANY);
    match zone.address_of(&question.name).filter(|_| internet) {
        None => reply(query, Some(&question), NO_SUCH_NAME, None),
        Some(address) => {
            let address = matches!(question.kind, TYPE_A | TYPE_ANY).then_some(address);
            reply(query, Some(&question), NO_ERROR, address)
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The question behind the header, its name in lower case with dots between the labels. Bytes that no host name has
/// become U+FFFD, and no name that holds one exists.
fn read_question(query: &[u8]) -> Option<Question> {
    let mut name = String::new();
    let mut at = HEADER_BYTES;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = query.get(at..at + length)?;
        at += length;
        if length > LABEL_BYTES_MAX || at - HEADER_BYTES >= NAME_BYTES_MAX {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte.to_ascii_lowercase()),
            _ => char::REPLACEMENT_CHARACTER,
        }));
    }
    Some(Question { name, kind: word(query, at)?, class: word(query, at + 2)?, end: at + 4 })
}

/// An answer with the id of `query`, its question if it was understood, and at most one address.
fn reply(query: &[u8], question: Option<&Question>, code: u16, address: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let kept = word(query, 2)? & (OPCODE_MASK | FLAG_RECURSION_DESIRED);
    let flags = FLAG_RESPONSE | FLAG_AUTHORITATIVE | FLAG_RECURSION_AVAILABLE | kept | code;
    let mut bytes = query.get(..2)?.to_vec();
    bytes.extend(flags.to_be_bytes());
    for count in [u16::from(question.is_some()), u16::from(address.is_some()), 0, 0] {
        bytes.extend(count.to_be_bytes());
    }
    if let Some(question) = question {
        bytes.extend(query.get(HEADER_BYTES..question.end)?);
    }
    if let Some(address) = address {
        // The name is a pointer to the question's.
        bytes.extend([0xc0, 0x0c]);
        bytes.extend(TYPE_A.to_be_bytes());
        bytes.extend(CLASS_IN.to_be_bytes());
        bytes.extend(ANSWER_TTL_SECONDS.to_be_bytes());
        bytes.extend([0, 4]);
        bytes.extend(address.octets());
    }
    Some(bytes)
}

/// Answers queries on both sockets until `stop` turns true or its sender is gone.
pub async fn serve(udp: UdpSocket, tcp: TcpListener, resolver: Resolver, mut stop: watch::Receiver<bool>) {
    let resolver = Arc::new(resolver);
    let connections_stop = stop.clone();
    tokio::select! {
        () = serve_udp(udp, &resolver, &connections_stop) => {}
        () = serve_tcp(&tcp, &resolver, &connections_stop) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// What the region knows is answered one query at a time: it costs a microsecond, and what does not fit the socket's buffer
/// is asked again. What the world is asked for is waited for beside that.
async fn serve_udp(socket: UdpSocket, resolver: &Arc<Resolver>, stop: &watch::Receiver<bool>) {
    let socket = Arc::new(socket);
    let waiting = Arc::new(Semaphore::new(WAITING_MAX));
    // One byte more, so that a query over the limit is seen to be over it.
    let mut buffer = [0; QUERY_BYTES_MAX + 1];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(BACK_OFF).await;
            continue;
        };
        let query = buffer.get(..length).unwrap_or_default();
        if resolver.upstream.is_none() || !is_of_the_world(query, &resolver.zone) {
            if let Some(answer) = answer(query, &resolver.zone) {
                // A client that has gone away is no reason to stop.
                let _ = socket.send_to(&answer, from).await;
            }
            continue;
        }
        let Ok(permit) = Arc::clone(&waiting).try_acquire_owned() else { continue };
        let (socket, resolver, query) = (Arc::clone(&socket), Arc::clone(resolver), query.to_vec());
        let mut stop = stop.clone();
        tokio::spawn(async move {
            let answer = tokio::select! {
                answer = resolver.resolve(&query, false) => answer,
                _ = stop.wait_for(|stop| *stop) => None,
            };
            if let Some(answer) = answer {
                let _ = socket.send_to(&answer, from).await;
            }
            drop(permit);
        });
    }
}

async fn serve_tcp(listener: &TcpListener, resolver: &Arc<Resolver>, stop: &watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (resolver, mut stop) = (Arc::clone(resolver), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve_connection(stream, &resolver) => {}
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(BACK_OFF).await,
        }
    }
}

/// Each query and each answer is preceded by its length in two bytes (RFC 1035 §4.2.2).
async fn serve_connection(mut stream: TcpStream, resolver: &Resolver) {
    loop {
        let Ok(Ok(length)) = tokio::time::timeout(TCP_IDLE_TIMEOUT, stream.read_u16()).await else { return };
        let length = usize::from(length);
        if length > QUERY_BYTES_MAX {
            return;
        }
        let mut query = vec![0; length];
        let Ok(Ok(_)) = tokio::time::timeout(TCP_IDLE_TIMEOUT, stream.read_exact(&mut query)).await else { return };
        let Some(answer) = resolver.resolve(&query, true).await else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        let Ok(Ok(())) = tokio::time::timeout(TCP_IDLE_TIMEOUT, stream.write_all(&framed)).await else { return };
    }
}

#[cfg(test)]
mod tests;
