//! The header that a balancer puts before what it relays, so that its servers know where a connection comes from: the PROXY
//! protocol, version 2. Source: proxy-protocol.txt of HAProxy, sections 2.2 and 5.
//!
//! Bytes in, a value out. Whoever asks has to know from elsewhere that a header must be there: one that was looked for in what
//! any client sends would let each of them claim any source.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What each header begins with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1, a line of text, begins with.
const VERSION_1: &[u8] = b"PROXY";
/// Signature, version and command, family and protocol, and how many bytes follow.
const FIXED_BYTES: usize = 16;
/// The most bytes that may follow. Addresses take 36; the rest is what balancers add, which is passed over unread: names, ids, at
/// most a certificate. The format would have room for 65535.
pub const REST_BYTES_MAX: usize = 4096;

const VERSION: u8 = 2;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// The highest family (`AF_UNIX`) and protocol (datagrams) that the format has.
const FAMILY_MAX: u8 = 3;
const PROTOCOL_MAX: u8 = 2;
/// Two addresses and two ports.
const IPV4_BYTES: usize = 12;
const IPV6_BYTES: usize = 36;

/// What is known of a header after some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// So many more are of it for certain; it may need more than these.
    Wants(usize),
    /// It is there.
    Whole(Header),
}

/// A header that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Where the connection comes from; `None`: from the balancer itself, which looks whether anybody is here.
    pub source: Option<SocketAddr>,
    /// How long the header was. What follows is the client's.
    pub length: usize,
}

/// Why a connection of a balancer is not served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// It does not begin with a header.
    Missing,
    /// Its header is one of version 1.
    VersionOne,
    /// Its header says what the format does not have, or has no room for its addresses.
    Malformed,
    /// More than [`REST_BYTES_MAX`] bytes are to follow.
    TooLong,
    /// What is relayed is not TCP over IPv4 or IPv6, or the balancer does not know what it is.
    NotTcp,
    /// The source is no address of one client.
    NoClient,
    /// The header did not come in time.
    TooSlow,
    /// The connection ended in the middle of it.
    CutShort,
}

impl Refusal {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Missing,
        Self::VersionOne,
        Self::Malformed,
        Self::TooLong,
        Self::NotTcp,
        Self::NoClient,
        Self::TooSlow,
        Self::CutShort,
    ];

    /// Its name, as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::VersionOne => "version-1",
            Self::Malformed => "malformed",
            Self::TooLong => "too-long",
            Self::NotTcp => "not-tcp",
            Self::NoClient => "no-client",
            Self::TooSlow => "too-slow",
            Self::CutShort => "cut-short",
        }
    }

    /// What somebody can do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Missing => {
                "it began with no header: have the balancer send the PROXY protocol, version 2 (HAProxy: send-proxy-v2), and let nobody \
                 else ask from its address"
            }
            Self::VersionOne => {
                "its header is version 1 of the PROXY protocol: switch the balancer to version 2 (HAProxy: send-proxy-v2 for send-proxy)"
            }
            Self::Malformed => "its header is not one of version 2 of the PROXY protocol: look what the balancer sends",
            Self::TooLong => "its header is too long: have the balancer add less to it",
            Self::NotTcp => "its header names no TCP connection: have the balancer relay TCP over IPv4 or IPv6 alone",
            Self::NoClient => {
                "its header names a source that no client has: look what is before the balancer, and what it takes for the source"
            }
            Self::TooSlow => {
                "its header did not come in time: look whether the balancer waits for the client before it sends one"
            }
            Self::CutShort => "it ended in the middle of its header",
        }
    }
}

/// Reads the header that `bytes` begin with. What was said to be wanted can be read without taking anything of the client's.
/// However the bytes come in pieces, the end is the same.
///
/// # Errors
/// What begins like this is no header, or none of a connection that can be served. More bytes do not change that.
pub fn parse(bytes: &[u8]) -> Result<Progress, Refusal> {
    let (begun, _) = SIGNATURE.split_at(bytes.len().min(SIGNATURE.len()));
    if !bytes.starts_with(begun) {
        return without_signature(bytes);
    }
    let mut rest = bytes.get(SIGNATURE.len()..).unwrap_or_default().iter().copied();
    let wants = Progress::Wants(FIXED_BYTES.saturating_sub(bytes.len()));

    // Each is refused as soon as it is there: nobody waits for the rest of what cannot be served.
    let Some(version_and_command) = rest.next() else { return Ok(wants) };
    let command = version_and_command & 0x0f;
    if version_and_command >> 4 != VERSION || ![LOCAL, PROXY].contains(&command) {
        return Err(Refusal::Malformed);
    }
    let Some(relayed) = rest.next() else { return Ok(wants) };
    // Of the balancer's own connection neither family nor addresses are looked at: "discard the protocol block including the family".
    let address_bytes = if command == LOCAL { 0 } else { address_bytes(relayed)? };
    let (Some(high), Some(low)) = (rest.next(), rest.next()) else { return Ok(wants) };
    let rest_bytes = usize::from(u16::from_be_bytes([high, low]));
    if rest_bytes < address_bytes {
        return Err(Refusal::Malformed);
    }
    if rest_bytes > REST_BYTES_MAX {
        return Err(Refusal::TooLong);
    }

    let length = FIXED_BYTES + rest_bytes;
    let Some(block) = bytes.get(FIXED_BYTES..length) else { return Ok(Progress::Wants(length - bytes.len())) };
    let source = match command {
        LOCAL => None,
        _ => Some(source(relayed, block)?),
    };
    Ok(Progress::Whole(Header { source, length }))
}

/// What begins otherwise is a header of version 1, at most.
fn without_signature(bytes: &[u8]) -> Result<Progress, Refusal> {
    if bytes.starts_with(VERSION_1) {
        Err(Refusal::VersionOne)
    } else if VERSION_1.starts_with(bytes) {
        Ok(Progress::Wants(VERSION_1.len() - bytes.len()))
    } else {
        Err(Refusal::Missing)
    }
}

/// How many bytes the addresses take of what is relayed.
///
/// The format lets a receiver take what is of no known kind as the balancer's own. Here that would make the balancer the source
/// of somebody else's call.
const fn address_bytes(relayed: u8) -> Result<usize, Refusal> {
    match relayed {
        TCP_OVER_IPV4 => Ok(IPV4_BYTES),
        TCP_OVER_IPV6 => Ok(IPV6_BYTES),
        _ if relayed >> 4 > FAMILY_MAX || relayed & 0x0f > PROTOCOL_MAX => Err(Refusal::Malformed),
        _ => Err(Refusal::NotTcp),
    }
}

/// The source, which stands before the destination; then come the ports in the same order.
fn source(relayed: u8, block: &[u8]) -> Result<SocketAddr, Refusal> {
    let (address, port) = match relayed {
        TCP_OVER_IPV4 => (block.first_chunk::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(*octets))), block.get(8..)),
        _ => (block.first_chunk::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(*octets))), block.get(32..)),
    };
    let port = port.and_then(<[u8]>::first_chunk::<2>);
    let (Some(address), Some(port)) = (address, port) else { return Err(Refusal::Malformed) };
    // A balancer that listens at [::] sees clients of IPv4 in the form that IPv6 has for them.
    let address = address.to_canonical();
    let is_of_one = match address {
        IpAddr::V4(address) => !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast(),
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_multicast(),
    };
    if is_of_one { Ok(SocketAddr::new(address, u16::from_be_bytes(*port))) } else { Err(Refusal::NoClient) }
}

#[cfg(test)]
mod tests;
